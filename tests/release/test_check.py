"""The check of a release passes on this tree, and says what is wrong and where."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest
from release import check
from release.commands import git, outcome, run, tool
from release.distributions import Distributions, build_all, commit_time_s
from release.finding import Finding, ReleaseError

ROOT = Path(__file__).parents[2]


def is_repository(folder: Path) -> bool:
    """Return whether git reads a repository here; it refuses one of another user."""
    try:
        commit_time_s(folder)
        return Path(git(folder, "rev-parse", "--show-toplevel")).samefile(folder)
    except ReleaseError:
        return False


NEEDS_REPOSITORY = pytest.mark.skipif(
    not is_repository(ROOT), reason="needs git (apt install git) and a repository that it reads"
)
NOTHING = Distributions(Path(), Path("steppe.tar.gz"), Path("steppe.whl"))


def fine(built: Distributions, scratch: Path) -> Finding:
    return Finding("2 files")


def faulty(built: Distributions, scratch: Path) -> Finding:
    return Finding("1 file", ("asked for a, found b",))


def impossible(built: Distributions, scratch: Path) -> Finding:
    raise ReleaseError("asked for twine, found none")


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {"fine": fine, "faulty": faulty, "impossible": impossible}
    monkeypatch.setattr(check, "PARTS", parts)


@pytest.mark.usefixtures("parts")
def test_a_part_prints_one_line_with_its_figure(capsys: pytest.CaptureFixture[str]) -> None:
    assert check.check_parts(["fine"], NOTHING)
    printed = capsys.readouterr()
    assert re.fullmatch(r"fine: 2 files \(\d+ s\)\n", printed.out)
    assert printed.err == ""


@pytest.mark.usefixtures("parts")
def test_a_fault_and_a_missing_tool_fail_and_the_other_parts_still_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert not check.check_parts(["faulty", "impossible", "fine"], NOTHING)
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-1].startswith("fine: 2 files (")
    assert printed.err.splitlines() == [
        "faulty: asked for a, found b",
        "impossible: asked for twine, found none",
    ]


def test_an_unknown_part_is_named_and_nothing_is_built(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as ended:
        check.main(["colour", "--out", str(tmp_path)])
    assert ended.value.code == 2
    assert "asked for the part 'colour', found reproducible" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_tool_that_is_not_installed_is_one_line() -> None:
    with pytest.raises(ReleaseError, match="asked for the program no-such, found none beside"):
        tool("no-such")


def test_a_program_that_fails_is_shown_with_its_last_line(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('one'); raise SystemExit('two')"]
    with pytest.raises(ReleaseError, match=r"^python\S* -c .* failed: two$"):
        run(command, tmp_path)
    assert outcome(command, tmp_path).returncode == 1


def test_a_program_that_hangs_is_ended(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import threading; threading.Event().wait()"]
    with pytest.raises(ReleaseError, match="to end within 0 s, found it running"):
        run(command, tmp_path, limit_s=0.2)


def test_a_tree_whose_repository_is_elsewhere_is_none(tree: Path) -> None:
    assert is_repository(tree)
    assert not is_repository(tree / "runtime")
    shutil.rmtree(tree / ".git")
    (tree / ".git").write_text("gitdir: /nowhere\n")
    assert not is_repository(tree)


@NEEDS_REPOSITORY
@pytest.mark.slow
@pytest.mark.parametrize("part", ["versions", "contents", "reproducible"])
def test_this_tree_is_fit_for_a_release(part: str, built: Distributions, tmp_path: Path) -> None:
    finding = check.PARTS[part](built, tmp_path)
    faults = [line for line in finding.faults if "a tree that is committed" not in line]
    assert faults == []


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    """The files of this tree."""
    return build_all(ROOT, tmp_path_factory.mktemp("dist"))


@NEEDS_REPOSITORY
@pytest.mark.slow
def test_the_tools_of_the_extra_find_nothing(built: Distributions, tmp_path: Path) -> None:
    for name in ("twine", "check-wheel-contents", "validate-pyproject"):
        try:
            tool(name)
        except ReleaseError as missing:
            pytest.skip(str(missing))
    assert check.PARTS["metadata"](built, tmp_path).faults == ()


@NEEDS_REPOSITORY
def test_the_build_date_is_that_of_the_last_commit() -> None:
    assert int(git(ROOT, "log", "-1", "--format=%ct")) > 1_700_000_000

"""Files that are built twice are equal, and what makes them differ is named."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from release.commands import git
from release.distributions import (
    build_all,
    check,
    commit_time_s,
    copy_tracked_files,
    differences,
    uncommitted,
    unpack,
)
from release.finding import ReleaseError
from tests.release.conftest import commit

HOOK = """
from hatchling.builders.hooks.plugin.interface import BuildHookInterface
class Hook(BuildHookInterface):
    def initialize(self, version, build_data):
        with open("runtime/steppe/where.txt", "w") as file:
            file.write(self.root)
        build_data["artifacts"].append("runtime/steppe/where.txt")
"""


def wheel(path: Path, files: dict[str, str], year: int = 2026) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name, (year, 1, 1, 0, 0, 0)), text)
    return path


def test_equal_files_have_no_difference(tmp_path: Path) -> None:
    one, other = (wheel(tmp_path / name, {"a.py": "1"}) for name in ("1.whl", "2.whl"))
    assert list(differences("the second", one, other)) == []


def test_each_member_that_differs_is_named(tmp_path: Path) -> None:
    one = wheel(tmp_path / "1.whl", {"a.py": "1", "b.py": "2", "same.py": ""})
    other = wheel(tmp_path / "2.whl", {"a.py": "2", "c.py": "3", "same.py": ""})
    assert list(differences("the second", one, other)) == [
        "asked for the second to equal the first, found a.py with other bytes",
        "asked for the second to equal the first, found b.py in the first only",
        "asked for the second to equal the first, found c.py in it only",
    ]


def test_another_date_of_a_member_is_a_difference(tmp_path: Path) -> None:
    one = wheel(tmp_path / "1.whl", {"a.py": "1"})
    other = wheel(tmp_path / "2.whl", {"a.py": "1"}, year=2027)
    (found,) = differences("the second", one, other)
    assert found.endswith("found the same members in another order, or with other dates or modes")


def test_a_file_that_is_not_committed_is_named(tree: Path) -> None:
    assert list(uncommitted(tree)) == []
    (tree / "runtime" / "steppe" / "new.py").write_text("")
    assert list(uncommitted(tree)) == [
        "asked for a tree that is committed, found ?? runtime/steppe/new.py"
    ]


def test_a_copy_has_what_git_tracks_with_another_date(tree: Path, tmp_path: Path) -> None:
    (tree / "untracked.txt").write_text("")
    copy_tracked_files(tree, tmp_path / "copy")
    copied = {path for path in (tmp_path / "copy").rglob("*") if path.is_file()}
    assert {str(path.relative_to(tmp_path / "copy")) for path in copied} == set(
        git(tree, "ls-files").splitlines()
    )
    assert {path.stat().st_mtime for path in copied} == {1_000_000_000}


def test_a_tree_outside_a_repository_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=r"^git log -1 --format=%ct failed: ") as caught:
        commit_time_s(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_small_project_is_reproducible(tree: Path, tmp_path: Path) -> None:
    finding = check(build_all(tree, tmp_path / "dist"), tmp_path / "scratch")
    assert finding.faults == ()
    assert "steppe-1.2.3-py3-none-any.whl" in finding.checked


@pytest.mark.slow
def test_a_build_that_writes_its_folder_is_caught(tree: Path, tmp_path: Path) -> None:
    (tree / "hatch_build.py").write_text(HOOK)
    (tree / ".gitignore").write_text("where.txt\n")
    pyproject = tree / "pyproject.toml"
    pyproject.write_text(f"{pyproject.read_text()}[tool.hatch.build.targets.wheel.hooks.custom]\n")
    commit(tree)
    finding = check(build_all(tree, tmp_path / "dist"), tmp_path / "scratch")
    asked = "asked for the wheel that is built a second time to equal the first"
    assert f"{asked}, found steppe/where.txt with other bytes" in finding.faults


@pytest.mark.slow
def test_an_sdist_with_two_roots_is_one_line(tree: Path, tmp_path: Path) -> None:
    built = build_all(tree, tmp_path / "dist")
    (tmp_path / "unpacked" / "other").mkdir(parents=True)
    with pytest.raises(
        ReleaseError, match=r"asked for one folder in steppe-1\.2\.3\.tar\.gz, found 2"
    ):
        unpack(built.sdist, tmp_path / "unpacked")

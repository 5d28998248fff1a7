"""A fragment that towncrier leaves out is found."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from release.changelog import check
from release.distributions import Distributions
from release.finding import ReleaseError

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(
    shutil.which("towncrier") is None and not (ROOT / ".venv" / "bin" / "towncrier").exists(),
    reason="pip install -e '.[release]' (towncrier)",
)


@pytest.fixture
def built(tree: Path) -> Distributions:
    """A project with the settings of towncrier, and one entry for each of two kinds."""
    pyproject = (ROOT / "pyproject.toml").read_text()
    begin = pyproject.index("[tool.towncrier]")
    (tree / "pyproject.toml").write_text(pyproject[begin : pyproject.index("\n[tool.", begin)])
    (tree / "changes").mkdir()
    shutil.copy(ROOT / "changes" / "template.md", tree / "changes")
    (tree / "changes" / "+wind.added.md").write_text("Wind\nis read.\n")
    (tree / "changes" / "+sun.fixed.md").write_text("Sun is read.\n")
    return Distributions(tree, Path(), Path())


def test_entries_of_every_kind_are_shown_and_counted(built: Distributions, tmp_path: Path) -> None:
    finding = check(built, tmp_path)
    assert finding.faults == ()
    assert finding.checked == "2 entries that are not in CHANGELOG.md yet"


def test_a_fragment_of_no_kind_is_found(built: Distributions, tmp_path: Path) -> None:
    (built.root / "changes" / "+rain.wet.md").write_text("Rain is read.\n")
    try:
        (found,) = check(built, tmp_path).faults
    except ReleaseError as error:
        found = str(error)
    assert "+rain.wet.md" in found

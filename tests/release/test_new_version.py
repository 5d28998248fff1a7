"""One command writes the next version everywhere, and its part of the changelog."""

from __future__ import annotations

import shutil
import subprocess
from datetime import date
from importlib.util import find_spec
from pathlib import Path

import pytest
from release.finding import ReleaseError
from release.new_version import joined, make, with_version
from release.versions import written

ROOT = Path(__file__).parents[2]
DAY = date(2027, 1, 2)
PLACES = ("pyproject.toml", "CITATION.cff", "deploy/chart/steppe/Chart.yaml")
needs_towncrier = pytest.mark.skipif(
    find_spec("towncrier") is None, reason="towncrier is not installed: pip install -e '.[release]'"
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository with our own files that have a version, a short changelog and fragments."""
    for name in (*PLACES, "changes/template.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "CHANGELOG.md").write_text(
        "# Changelog\n\n## Unreleased\n\n### Added\n\n- By hand.\n\n### Changed\n\n- By hand,\n"
        "  in two lines.\n\n## [0.1.0] - 2026-01-01\n\n### Added\n\n- All.\n"
    )
    (tmp_path / "changes" / "+a-page.added.md").write_text("A page.\n")
    (tmp_path / "changes" / "+a-fault.fixed.md").write_text("A fault.\n")
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "all"]):
        git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run([*git, *command], cwd=tmp_path, check=True, capture_output=True)
    return tmp_path


@needs_towncrier
def test_the_version_stands_at_every_place_and_nothing_of_the_changelog_is_lost(
    project: Path,
) -> None:
    make(project, "99.1.0", DAY)
    assert set(written(project).values()) == {"99.1.0"}
    assert 'version = "99.1.0"' in (project / "pyproject.toml").read_text()
    assert "date-released: 2027-01-02" in (project / "CITATION.cff").read_text()
    assert (project / "CHANGELOG.md").read_text() == (
        "# Changelog\n\n## Unreleased\n\n## [99.1.0] - 2027-01-02\n\n"
        "### Added\n\n- A page.\n- By hand.\n\n### Changed\n\n- By hand,\n  in two lines.\n\n"
        "### Fixed\n\n- A fault.\n\n## [0.1.0] - 2026-01-01\n\n### Added\n\n- All.\n"
    )
    assert [path.name for path in (project / "changes").iterdir()] == ["template.md"]


@pytest.mark.parametrize("version", ["0.0.9", "99.1", "99.1.0rc1", "v99.1.0"])
def test_what_is_no_newer_version_is_refused(project: Path, version: str) -> None:
    with pytest.raises(ReleaseError, match="asked for a version above"):
        make(project, version, DAY)


def test_a_tree_with_changes_is_refused(project: Path) -> None:
    (project / "CITATION.cff").write_text("version: 1\n")
    with pytest.raises(ReleaseError, match=r"without changes, found .*CITATION\.cff"):
        make(project, "99.1.0", DAY)


def test_a_place_without_a_version_is_named(project: Path) -> None:
    (project / "CITATION.cff").write_text("title: none\n")
    with pytest.raises(ReleaseError, match=r"CITATION\.cff: asked for a line"):
        with_version(project, "99.1.0", DAY)


def test_a_section_that_no_changelog_has_is_named() -> None:
    with pytest.raises(ReleaseError, match="found 'New'"):
        joined("## Unreleased\n\n## [1.0.0] - 2026-01-01\n\n### New\n\n- A page.\n")


def test_our_own_changelog_is_joined_as_it_is() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert joined(text) == text

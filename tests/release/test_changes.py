"""The fragments in changes/ read well, and towncrier makes entries of the changelog from them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOWNCRIER = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["towncrier"]
TYPES = {each["directory"] for each in TOWNCRIER["type"]}
MOST_CHARACTERS = 6 * TOWNCRIER["wrap"]
"""Six lines of the changelog."""
needs_towncrier = pytest.mark.skipif(
    find_spec("towncrier") is None, reason="towncrier is not installed: pip install -e '.[release]'"
)


def fragments() -> dict[str, str]:
    """Return the text of every file in changes/ but the template."""
    files = (ROOT / "changes").iterdir()
    return {file.name: file.read_text() for file in files if file.name != "template.md"}


def faults(name: str, text: str) -> list[str]:
    """Return what is wrong with the name or the text of a fragment."""
    lines = text.rstrip("\n").split("\n")
    wrong = []
    if not (found := re.fullmatch(r"(?:\+[a-z0-9-]+|\d+)\.([a-z]+)\.md", name)):
        wrong.append("its name is not +NAME.TYPE.md")
    elif found[1] not in TYPES:
        wrong.append(f"its type is not one of {', '.join(sorted(TYPES))}")
    if len(text) > MOST_CHARACTERS:
        wrong.append(f"it has more than {MOST_CHARACTERS} characters")
    if not all(line == line.strip() != "" for line in lines):
        wrong.append("a line is empty, indented or ends with a space")
    if re.match(r"[-*#]", text):
        wrong.append("it starts with a bullet or a heading")
    elif not re.match(r"[A-Z0-9`]", text) or not text.endswith((".\n", ".)\n")):
        wrong.append("it is no whole sentence")
    return wrong


def test_each_fragment_is_one_entry_of_a_known_type() -> None:
    found = {name: faults(name, text) for name, text in fragments().items()}
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("+page.md", "A page.\n"),
        ("+page.feature.md", "A page.\n"),
        ("page.added.md", "A page.\n"),
        ("+page.added.md", "- A page.\n"),
        ("+page.added.md", "A page\n"),
        ("+page.added.md", "A page.\n\nAnother one.\n"),
        ("+page.added.md", f"A {'long ' * 200}line.\n"),
    ],
)
def test_what_is_wrong_with_a_fragment_is_found(name: str, text: str) -> None:
    assert len(faults(name, text)) == 1


def test_types_are_the_sections_of_keep_a_changelog() -> None:
    names = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]
    assert [each["name"] for each in TOWNCRIER["type"]] == names


def build(folder: Path, *arguments: str) -> str:
    """Run towncrier in a copy of what it reads, and return the changelog."""
    command = [sys.executable, "-m", "towncrier", "build", "--version", "9.8.7", *arguments]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return (folder / "CHANGELOG.md").read_text()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a folder with our settings, three fragments and a short changelog."""
    (tmp_path / "changes").mkdir()
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copy(ROOT / "changes" / "template.md", tmp_path / "changes")
    (tmp_path / "CHANGELOG.md").write_text(
        "# Changelog\n\n## Unreleased\n\n### Added\n\n- By hand.\n\n## [9.8.6] - 2026-01-01\n"
    )
    (tmp_path / "changes" / "+a-page.added.md").write_text("A page\nin two lines.\n")
    (tmp_path / "changes" / "+a-fault.fixed.md").write_text("A fault.\n")
    (tmp_path / "changes" / "12.fixed.md").write_text("Another one.\n")
    return tmp_path


@needs_towncrier
def test_fragments_become_a_release_and_nothing_that_was_written_by_hand_is_lost(
    project: Path,
) -> None:
    subprocess.run(["git", "init", "-q"], cwd=project, check=True)
    assert build(project, "--yes", "--date", "2026-01-02") == (
        "# Changelog\n\n## Unreleased\n\n## [9.8.7] - 2026-01-02\n\n"
        "### Added\n\n- A page\n  in two lines.\n\n"
        "### Fixed\n\n- Another one. (#12)\n- A fault.\n\n"
        "### Added\n\n- By hand.\n\n## [9.8.6] - 2026-01-01\n"
    )
    assert [path.name for path in (project / "changes").iterdir()] == ["template.md"]


@needs_towncrier
def test_a_draft_writes_nothing(project: Path) -> None:
    before = (project / "CHANGELOG.md").read_text()
    assert build(project, "--draft") == before
    assert len(list((project / "changes").iterdir())) == 4

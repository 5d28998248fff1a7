"""A version that differs anywhere is found."""

from __future__ import annotations

from pathlib import Path

import pytest
from release.distributions import build_all
from release.versions import built_in, check, written

ROOT = Path(__file__).parents[2]

PLACES = [
    ("CITATION.cff", "version: 1.2.3", "version: 1.1.0", "CITATION.cff"),
    ("deploy/chart/steppe/Chart.yaml", "appVersion: 1.2.3", "appVersion: 1.1.0", "appVersion"),
    ("CHANGELOG.md", "## [1.2.3]", "## [1.1.0]", "newest release in CHANGELOG.md"),
]


def test_the_tree_has_one_version() -> None:
    assert len(set(written(ROOT).values())) == 1


@pytest.mark.slow
def test_a_project_with_one_version_is_fine(tree: Path, tmp_path: Path) -> None:
    finding = check(build_all(tree, tmp_path / "dist"), tmp_path)
    assert finding.faults == ()
    assert finding.checked == "version 1.2.3 at 10 places"


@pytest.mark.parametrize(("name", "right", "wrong", "place"), PLACES)
def test_another_version_in_the_tree_is_found(
    tree: Path, name: str, right: str, wrong: str, place: str
) -> None:
    text = (tree / name).read_text()
    (tree / name).write_text(text.replace(right, wrong))
    ((found, version),) = {each for each in written(tree).items() if each[1] != "1.2.3"}
    assert place in found
    assert version == "1.1.0"


@pytest.mark.slow
def test_a_package_that_says_another_version_is_found(tree: Path, tmp_path: Path) -> None:
    (tree / "runtime" / "steppe" / "__init__.py").write_text('__version__ = "1.2"\n')
    found = built_in(build_all(tree, tmp_path / "dist"), tmp_path)
    assert found.pop("steppe.__version__ of the wheel") == "1.2"
    assert set(found.values()) == {"1.2.3"}

"""The list of components names each file of others, and a stale or wrong one is found."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
from release.components import LIST, VENDOR, components_json, schema_faults
from release.finding import ReleaseError

ROOT = Path(__file__).parents[2]
needs_schema = pytest.mark.skipif(
    find_spec("cyclonedx") is None, reason="pip install -e '.[release]' (cyclonedx-bom)"
)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A tree with what the list is made from."""
    shutil.copytree(ROOT / VENDOR, tmp_path / VENDOR)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_list_in_the_tree_is_that_of_the_tree() -> None:
    assert (ROOT / LIST).read_text() == components_json(ROOT), "python -m release.components"


def test_each_file_of_others_is_in_the_list_with_its_checksum() -> None:
    document = json.loads(components_json(ROOT))
    files = [file for component in document["components"] for file in component["components"]]
    named = {Path(file["name"]).name: file["hashes"][0]["content"] for file in files}
    lines = (ROOT / VENDOR / "SHA256SUMS").read_text().splitlines()
    assert named == {line.split()[1]: line.split()[0] for line in lines}
    assert {path.name for path in (ROOT / VENDOR).iterdir()} == {*named, "README.txt", "SHA256SUMS"}


def test_a_file_without_an_origin_is_named(copy: Path) -> None:
    with (copy / VENDOR / "SHA256SUMS").open("a") as sums:
        sums.write(f"{'0' * 64}  other.js\n")
    with pytest.raises(ReleaseError, match=r"asked README\.txt for the origin of other\.js"):
        components_json(copy)


def test_an_origin_without_a_file_is_named(copy: Path) -> None:
    (copy / VENDOR / "SHA256SUMS").write_text("")
    with pytest.raises(ReleaseError, match="asked for files of uPlot, found none in SHA256SUMS"):
        components_json(copy)


@needs_schema
def test_the_list_keeps_to_the_schema_and_a_key_of_our_own_does_not() -> None:
    document = components_json(ROOT)
    assert schema_faults(document) == []
    (found,) = schema_faults(document.replace('"bomFormat"', '"colour": "red", "bomFormat"'))
    assert found.startswith("CycloneDX 1.6: ")

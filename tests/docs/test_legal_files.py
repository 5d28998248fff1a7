"""NOTICE, SECURITY.md and CITATION.cff say what is so."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.docs.blocks import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NOTICE = (ROOT / "NOTICE").read_text()
SECURITY = (ROOT / "SECURITY.md").read_text()
SOURCES = (
    "runtime",
    "kernels",
    "tests",
    "bench",
    "docs",
    "deploy",
    "configs",
    "install",
    "release",
)
VENDORED = sorted(
    path.parent.relative_to(ROOT)
    for folder in SOURCES
    for path in (ROOT / folder).rglob("SHA256SUMS")
    if "_build" not in path.parts
)


def entries() -> list[str]:
    """Return what NOTICE says of each project, its name and version first."""
    return [part for part in NOTICE.split("\n\n") if re.match(r"[\w-]+ \d", part)]


def test_every_folder_of_files_from_elsewhere_is_in_the_notice() -> None:
    assert Path("runtime/steppe/page/vendor") in VENDORED
    for folder in VENDORED:
        (entry,) = (part for part in entries() if f"{folder}," in part)
        readme = (ROOT / folder / "README.txt").read_text()
        assert readme.startswith(entry.split(",")[0]), "name and version are those of the folder"
        (licence,) = re.findall(r"licence in ([\w.]+)", entry)
        (holder,) = re.findall(r"Copyright \(c\) ([^\n]+)", entry)
        texts = [path.read_text(errors="replace") for path in (ROOT / folder).iterdir()]
        assert (ROOT / folder / licence).is_file()
        assert any(f"Copyright (c) {holder}" in text for text in texts)


def test_the_notice_names_nothing_that_is_not_there() -> None:
    assert len(entries()) == len(VENDORED)


def test_a_wheel_carries_the_licence_and_the_notice() -> None:
    assert {"LICENSE", "NOTICE"} <= set(PROJECT["license-files"])


def test_security_says_how_to_report_and_that_the_present_version_gets_fixes() -> None:
    assert re.search(r"^## Reporting\n\n.*\bprivately\b", SECURITY, re.MULTILINE)
    minor = PROJECT["version"].rpartition(".")[0]
    rows = dict(re.findall(r"^\| (\d+\.\d+) \| (yes|no)\b", SECURITY, re.MULTILINE))
    assert rows[minor] == "yes"
    assert [version for version, fixed in rows.items() if fixed == "yes"] == [minor]


@pytest.mark.parametrize("key", ["title", "abstract", "message"])
def test_a_text_of_the_citation_is_not_empty(key: str) -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert isinstance(citation[key], str)
    assert citation[key].strip()
    assert len(set(citation["keywords"])) == len(citation["keywords"])

"""What people find in the root of the repository is complete and agrees with itself."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from datetime import date
from typing import Any, is_typeddict

import pytest
import yaml
from tests.docs.blocks import ROOT, pages

from steppe.report.latency import Latency
from steppe.report.records import ReplicaTick, RequestRecord, ShortageTick, TickRecord
from steppe.report.summary import RequestCounts, ShortOf, Summary
from steppe.report.tracking import Tracking

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CITATION: dict[str, Any] = yaml.safe_load((ROOT / "CITATION.cff").read_text())
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
RELEASES = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d{2}-\d{2})$", CHANGELOG, re.MULTILINE)
LONGEST_README = 120
CFF_KEYS = """
abstract authors cff-version commit contact date-released doi identifiers keywords license
license-url message preferred-citation references repository repository-artifact repository-code
title type url version
"""
"""Every key that the Citation File Format 1.2.0 has at its root."""


def test_the_readme_fits_on_a_page() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= LONGEST_README


def test_the_newest_release_of_the_changelog_is_the_version_of_the_package() -> None:
    assert RELEASES[0][0] == PROJECT["version"]
    assert [day for _, day in RELEASES] == sorted((day for _, day in RELEASES), reverse=True)


def test_the_changelog_uses_the_sections_of_keep_a_changelog() -> None:
    known = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.+)$", CHANGELOG, re.MULTILINE)) <= known
    assert CHANGELOG.startswith("# Changelog\n")


def test_the_citation_is_valid_and_of_this_version() -> None:
    assert set(CITATION) <= set(CFF_KEYS.split())
    assert {"cff-version", "message", "title", "authors"} <= set(CITATION)
    assert CITATION["cff-version"] == "1.2.0"
    assert CITATION["type"] in ("software", "dataset")
    assert CITATION["version"] == PROJECT["version"]
    assert CITATION["license"] == PROJECT["license"]
    released = CITATION["date-released"]
    assert isinstance(released, date)
    assert released.isoformat() == RELEASES[0][1]
    assert CITATION["keywords"]
    for author in CITATION["authors"]:
        assert set(author) <= {"name", "family-names", "given-names", "affiliation", "orcid"}
        assert "name" in author or "family-names" in author


@pytest.mark.parametrize("name", ["bug.yml", "feature.yml"])
def test_an_issue_form_has_what_a_form_needs(name: str) -> None:
    form = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / name).read_text())
    assert {"name", "description", "body"} <= set(form)
    for element in form["body"]:
        assert element["type"] in {"markdown", "textarea", "input", "dropdown", "checkboxes"}
        assert element["attributes"]["label"]
    identifiers = [element["id"] for element in form["body"]]
    assert len(set(identifiers)) == len(identifiers)


def link_targets(text: str) -> list[str]:
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    return [link for link in links if not link.startswith(("http:", "https:"))]


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_a_link_of_a_root_page_leads_to_a_file(name: str) -> None:
    targets = link_targets((ROOT / name).read_text())
    assert [target for target in targets if not (ROOT / target.partition("#")[0]).exists()] == []


def test_every_page_is_in_the_table_of_contents() -> None:
    index = (ROOT / "docs" / "index.md").read_text().splitlines()
    docs = ROOT / "docs"
    names = {str(page.relative_to(docs)).removesuffix(".md") for page in pages()[1:]}
    assert names - {"index"} <= set(index)


@pytest.mark.parametrize(
    "record",
    [
        TickRecord, ReplicaTick, ShortageTick, RequestRecord,
        Summary, Tracking, Latency, RequestCounts, ShortOf,
    ],
)  # fmt: skip
def test_the_page_of_record_formats_names_every_field(record: type[Any]) -> None:
    if is_typeddict(record):
        names = set(record.__annotations__)
    else:
        names = {field.name for field in fields(record)}
    page = (ROOT / "docs" / "reference" / "records.md").read_text()
    assert {name for name in names if f"`{name}`" not in page} == set()

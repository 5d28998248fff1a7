"""The site of all versions: which there are, and what a reader of its pages sees."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.docs.blocks import ROOT
from tests.page.browser import Tab, open_browser

from versions import Version, build_site, pages, redirect, versions_of, with_switch

CONF = """project = "Steppe"
extensions = ["myst_parser"]
html_theme = "furo"
html_title = "Steppe NUMBER"
"""


def git(folder: Path, *arguments: str) -> None:
    settings = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "gc.auto=0"]
    subprocess.run(["git", "-C", folder, *settings, *arguments], check=True, capture_output=True)


def write_docs(folder: Path, number: str, *names: str) -> None:
    """Write a documentation with a page for each name."""
    docs = folder / "docs"
    shutil.rmtree(docs, ignore_errors=True)
    docs.mkdir()
    (docs / "conf.py").write_text(CONF.replace("NUMBER", number))
    contents = "\n".join(names)
    (docs / "index.md").write_text(f"# Start\n\n```{{toctree}}\n{contents}\n```\n")
    for name in names:
        (docs / f"{name}.md").parent.mkdir(exist_ok=True)
        (docs / f"{name}.md").write_text(f"# Page {name}\n\nOf {number}.\n")


def release(folder: Path, number: str, *names: str) -> None:
    write_docs(folder, number, *names)
    git(folder, "add", "--all")
    git(folder, "commit", "-q", "-m", number)
    git(folder, "tag", f"v{number}")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a repository whose first tag has no documentation."""
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q")
    git(folder, "commit", "-q", "--allow-empty", "-m", "empty")
    git(folder, "tag", "v0.0.1")
    return folder


def test_versions_are_the_releases_with_documentation_and_the_tree(repository: Path) -> None:
    for number in ("0.9.0", "0.10.0"):
        release(repository, number, "page")
    git(repository, "tag", "v0.11.0-rc1")
    assert versions_of(repository) == [
        Version("0.10.0", "v0.10.0"),
        Version("0.9.0", "v0.9.0"),
        Version("main", None),
    ]


def test_without_a_tag_or_without_git_there_is_the_tree_alone(
    repository: Path, tmp_path: Path
) -> None:
    assert versions_of(repository) == [Version("main", None)]
    assert versions_of(tmp_path) == [Version("main", None)]


def test_each_page_loads_the_list_from_the_root_of_the_site() -> None:
    page = with_switch("<html><head></head></html>", "0.2.0", "a/b.html")
    assert '<script defer src="../../versions.js"></script>' in page
    assert 'data-folder="0.2.0" data-page="a/b.html"></script>\n</head>' in page
    assert 'src="../switch.js"' in with_switch("<head></head>", "main", "index.html")


def test_the_first_page_leads_to_the_newest_version() -> None:
    page = redirect("0.2.0")
    assert 'content="0; url=0.2.0/index.html"' in page
    assert '<a href="0.2.0/index.html">' in page  # for a browser that follows no refresh


def test_what_is_loaded_lies_beside_the_versions() -> None:
    folder = ROOT / "docs" / "version_switch"
    assert {path.name for path in folder.iterdir()} == {"switch.js", "switch.css"}
    assert "http" not in (folder / "switch.js").read_text()


@pytest.mark.timeout(400)
@pytest.mark.slow  # builds four small sites, about 3 s each on an idle machine
async def test_a_reader_goes_from_a_version_to_the_same_page_of_another_one(
    repository: Path, tmp_path: Path
) -> None:
    pytest.importorskip("furo", reason="needs the extra docs")
    site = tmp_path / "site"
    release(repository, "0.9.0", "a/old", "kept")
    build_site(repository, site)
    first_built = (site / "0.9.0" / "index.html").stat().st_mtime_ns
    release(repository, "0.10.0", "kept")
    write_docs(repository, "0.10.0 and later", "kept", "new")
    build_site(repository, site)
    assert (site / "0.9.0" / "index.html").stat().st_mtime_ns == first_built
    assert "a/old.html" in pages(site, Version("0.9.0", "v0.9.0"))
    listed = (site / "versions.js").read_text().removeprefix("window.steppeVersions = ")
    listed_folders = [each["folder"] for each in json.loads(listed.rstrip().rstrip(";"))]
    assert listed_folders == ["0.10.0", "0.9.0", "main"]
    async with open_browser() as browser:
        tab = Tab(await browser.new_page())
        await tab.open(site.joinpath("index.html").as_uri())
        await tab.page.wait_for_url("**/0.10.0/index.html")
        await check_reading(tab, site)
        assert tab.problems == []


async def check_reading(tab: Tab, site: Path) -> None:
    """Go through the versions as a reader does."""
    page = tab.page
    assert await page.title() == "Steppe 0.10.0"
    assert await page.locator(".version-note").count() == 0
    await page.goto(site.joinpath("main", "kept.html").as_uri())
    assert await tab.text(".sidebar-brand-text") == "Steppe 0.10.0 and later"
    assert "not released" in await tab.text(".version-switch summary")
    await page.click(".version-switch summary")
    await page.click(".version-switch a:text-is('0.9.0')")
    await page.wait_for_url("**/0.9.0/kept.html")
    note = "This page is of version 0.9.0. The newest release is 0.10.0."
    assert await tab.text(".version-note") == note
    await page.goto(site.joinpath("0.9.0", "a", "old.html").as_uri())
    await page.click(".version-note a")  # the newest release has no such page: its first one
    await page.wait_for_url("**/0.10.0/index.html")

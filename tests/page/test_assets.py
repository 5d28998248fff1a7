"""The files of the page, and what came from elsewhere."""

from __future__ import annotations

import re
from hashlib import sha256
from importlib.resources import files

from steppe.page.assets import ICON, RECORD_SCRIPTS, SCRIPTS, STYLES, assets
from steppe.page.html import live_page

VENDOR = files("steppe.page").joinpath("vendor")


def test_the_vendored_files_are_those_of_the_manifest() -> None:
    lines = VENDOR.joinpath("SHA256SUMS").read_text().splitlines()
    listed = {name: digest for digest, name in (line.split("  ") for line in lines)}
    found = {
        path.name: sha256(path.read_bytes()).hexdigest()
        for path in VENDOR.iterdir()
        if path.name not in ("SHA256SUMS", "README.txt")
    }
    assert found == listed
    assert "uPlot.LICENSE" in listed
    assert "MIT License" in VENDOR.joinpath("uPlot.LICENSE").read_text()


def test_a_page_loads_only_files_that_it_has() -> None:
    named = {*SCRIPTS, *RECORD_SCRIPTS, *STYLES, ICON}
    assert named <= set(assets())
    assert set(assets()) <= named
    page = live_page().decode()
    sources = re.findall(r'(?:src|href)="([^"#]+)"', page)
    assert sources
    assert all(source.startswith("/steppe/page/") for source in sources)


def test_a_page_has_no_inline_script_or_style_and_no_script_sets_markup() -> None:
    page = live_page().decode()
    assert not re.search(r"<script(?![^>]*\bsrc=)", page)
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=", page)
    for name in {*SCRIPTS, *RECORD_SCRIPTS} - {"uPlot.iife.min.js"}:
        script = assets()[name].body.decode()
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script
        )


def test_nothing_of_the_page_is_fetched_from_elsewhere() -> None:
    for name, asset in assets().items():
        comments = rb"/\*.*?\*/"
        found = set(re.findall(rb"https?://[^\s\"')]+", re.sub(comments, b"", asset.body)))
        assert found <= {b"http://www.w3.org/2000/svg"}, name

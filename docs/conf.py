"""How Sphinx builds the documentation: `make docs`."""

from __future__ import annotations

import tomllib
from pathlib import Path

_ROOT = Path(__file__).parents[1]
_PROJECT = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
_NEWS = [path for path in (_ROOT / "changes").glob("*.md") if path.name != "template.md"]
"""Entries of the changelog that no release has yet."""

project = "Steppe"
author = "The Steppe authors"
project_copyright = author
version = release = _PROJECT["version"] + (" and later" if _NEWS else "")

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4

html_theme = "furo"
html_title = f"Steppe {version}"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_show_sphinx = False
html_copy_source = False

"""One version, wherever it is written."""

from __future__ import annotations

import re
import sys
import tomllib
from email.parser import BytesParser
from pathlib import Path

import yaml
from release.commands import run
from release.distributions import Distributions, members
from release.finding import Finding, ReleaseError

CHART = Path("deploy", "chart", "steppe", "Chart.yaml")
_NEWEST = re.compile(r"^## \[?(\d[^\]\s]*)\]?", re.MULTILINE)


def check(built: Distributions, scratch: Path) -> Finding:
    """Compare the version of pyproject.toml with the other places that have one.

    Raises:
        ReleaseError: pyproject.toml has no version.
    """
    project = tomllib.loads((built.root / "pyproject.toml").read_text())["project"]
    if "version" not in project:
        raise ReleaseError("pyproject.toml: asked for a version, found none")
    asked = project["version"]
    found = {**written(built.root), **built_in(built, scratch)}
    faults = [
        f"{place}: asked for the version {asked} of pyproject.toml, found {version}"
        for place, version in found.items()
        if version != asked
    ]
    return Finding(f"version {asked} at {len(found) + 1} places", tuple(faults))


def written(root: Path) -> dict[str, str]:
    """Return the versions that the tree has beside that of pyproject.toml, by their place."""
    citation = yaml.safe_load((root / "CITATION.cff").read_text())
    chart = yaml.safe_load((root / CHART).read_text())
    released = _NEWEST.search((root / "CHANGELOG.md").read_text())
    return {
        "CITATION.cff": str(citation.get("version")),
        "Chart.yaml version": str(chart.get("version")),
        "Chart.yaml appVersion": str(chart.get("appVersion")),
        "newest release in CHANGELOG.md": released[1] if released else "none",
    }


def built_in(built: Distributions, scratch: Path) -> dict[str, str]:
    """Return the versions of what was built: in names, metadata, and from Python."""
    sources = BytesParser().parsebytes(members(built.sdist)["PKG-INFO"])
    (metadata,) = (
        content
        for name, content in members(built.wheel).items()
        if name.endswith(".dist-info/METADATA")
    )
    code = f"import sys; sys.path.insert(0, {str(built.wheel)!r}); import steppe"
    command = [sys.executable, "-I", "-S", "-c", f"{code}; print(steppe.__version__)"]
    return {
        "name of the wheel": built.wheel.name.split("-")[1],
        "name of the sdist": built.sdist.name.removesuffix(".tar.gz").rpartition("-")[2],
        "METADATA of the wheel": str(BytesParser().parsebytes(metadata)["Version"]),
        "PKG-INFO of the sdist": str(sources["Version"]),
        "steppe.__version__ of the wheel": run(command, scratch).strip(),
    }

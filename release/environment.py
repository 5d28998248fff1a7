"""What is installed beside the wheel, as CycloneDX 1.6, in a file beside it.

It says which versions the wheel was tried with on the day of the release. An installation of
another day gets others, so it is not in the wheel.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from release.commands import tool
from release.contents import machine_words, private_words
from release.distributions import Distributions
from release.environments import CleanEnvironment, clean_environment
from release.finding import Finding

OPTIONS = ("--mc-type", "application", "--spec-version", "1.6", "--output-reproducible")


def check(built: Distributions, scratch: Path) -> Finding:
    """Install the wheel with the newest packages, and list them twice.

    Raises:
        ReleaseError: cyclonedx-bom is missing, or the packages cannot be had.
    """
    version = built.wheel.name.split("-")[1]
    place = clean_environment(scratch, "environment")
    place.install("--find-links", built.wheel.parent, f"steppe=={version}")
    texts = [listed(place, built.root, scratch / f"{number}.json") for number in (1, 2)]
    target = built.wheel.with_name(f"steppe-{version}.environment.cdx.json")
    target.write_text(texts[0])
    document = json.loads(texts[0])
    faults = list(document_faults(document, place.packages - 1, version))
    if texts[0] != texts[1]:
        faults.append(f"{target.name}: asked for the same bytes again, found others")
    faults += machine_words(
        target.name, {target.name: texts[0].encode()}, private_words(built.root)
    )
    licensed = sum(bool(each.get("licenses")) for each in document["components"])
    count = len(document["components"])
    return Finding(f"{count} packages, {licensed} with a licence, in {target.name}", tuple(faults))


def listed(place: CleanEnvironment, root: Path, out: Path) -> str:
    """Return the list of an environment.

    Raises:
        ReleaseError: The program fails; it holds its output against the schema.
    """
    program = tool("cyclonedx-py")
    own = ("--pyproject", root / "pyproject.toml")
    place.run(program, "environment", *OPTIONS, *own, "-o", out, place.python)
    return out.read_text()


def document_faults(document: dict[str, Any], packages: int, version: str) -> Iterator[str]:
    """Yield how a list differs from what is installed."""
    if document["specVersion"] != "1.6":
        yield f"asked for CycloneDX 1.6, found {document['specVersion']}"
    own = document["metadata"]["component"]
    if (own["name"], own.get("version")) != ("steppe", version):
        yield f"asked for steppe {version}, found {own['name']} {own.get('version')}"
    if len(document["components"]) != packages:
        yield f"asked for {packages} packages, found {len(document['components'])}"
    for component in document["components"]:
        if not component.get("version"):
            yield f"asked for a version of {component['name']}, found none"

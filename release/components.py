"""The components inside the wheel, as CycloneDX 1.6.

`python -m release.components` writes the list. The wheel has it in `.dist-info/sboms/` (PEP 770).
It names what others wrote and the wheel holds. What is installed beside it: `release.environment`.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

from release.distributions import Distributions, members
from release.finding import Finding, ReleaseError

VENDOR = Path("runtime", "steppe", "page", "vendor")
LIST = Path("release", "steppe.cdx.json")
WRITE = "run python -m release.components"
SCHEMA = "http://cyclonedx.org/schema/bom-1.6.schema.json"
_ORIGIN = re.compile(r"^(\S+) ([\d.]+), (\S+) licence \((\S+)\), from the npm package (\S+) ", re.M)
"""Name, version, licence, its file, and package: the first words of a paragraph of README.txt."""


def check(built: Distributions, scratch: Path) -> Finding:
    """Compare the list in the wheel with the tree, and hold it against the schema.

    Raises:
        ReleaseError: The tree does not say where its components are from, or there is no validator.
    """
    asked = components_json(built.root)
    place = f"steppe-{built.wheel.name.split('-')[1]}.dist-info/sboms/{LIST.name}"
    found = members(built.wheel).get(place, b"").decode()
    faults = list(schema_faults(asked))
    if not found:
        faults.append(f"wheel: asked for {place}, found none")
    elif found != asked:
        faults.append(f"{LIST}: asked for the components of the tree, found a stale list: {WRITE}")
    names = [f"{each['name']} {each['version']}" for each in json.loads(asked)["components"]]
    return Finding(f"{', '.join(names)} in {place}, CycloneDX 1.6", tuple(faults))


def components_json(root: Path) -> str:
    """Return the list of a tree: the same text for the same tree.

    Raises:
        ReleaseError: A file of others has no origin, or an origin has no file.
    """
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    components = _components(root)
    own = {
        "type": "application",
        "bom-ref": "steppe",
        "name": project["name"],
        "version": project["version"],
        "licenses": [{"expression": project["license"]}],
        "purl": f"pkg:pypi/{project['name']}@{project['version']}",
    }
    refs = [component["bom-ref"] for component in components]
    document = {
        "$schema": SCHEMA,
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"lifecycles": [{"phase": "build"}], "component": own},
        "components": components,
        "dependencies": [{"ref": "steppe", "dependsOn": refs}, *({"ref": ref} for ref in refs)],
    }
    return f"{json.dumps(document, indent=2)}\n"


def schema_faults(document: str) -> list[str]:
    """Return what the schema of CycloneDX 1.6 finds wrong.

    Raises:
        ReleaseError: The library with the schema is not installed.
    """
    try:
        from cyclonedx.schema import SchemaVersion
        from cyclonedx.validation.json import JsonStrictValidator
    except ImportError as error:
        asked = "asked for the schema of CycloneDX, found no cyclonedx-bom"
        raise ReleaseError(f"{asked}: it comes with the extra `release`") from error
    fault = JsonStrictValidator(SchemaVersion.V1_6).validate_str(document)
    return [f"CycloneDX 1.6: {str(fault.data).splitlines()[0]}"] if fault else []


def _components(root: Path) -> list[dict[str, Any]]:
    lines = (root / VENDOR / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, name in (line.split(maxsplit=1) for line in lines)}
    components = []
    named: set[str] = set()
    for name, version, licence, _, package in _ORIGIN.findall(
        (root / VENDOR / "README.txt").read_text()
    ):
        files = sorted(file for file in sums if file.partition(".")[0] == name)
        if not files:
            raise ReleaseError(f"{VENDOR}: asked for files of {name}, found none in SHA256SUMS")
        named.update(files)
        purl = f"pkg:npm/{package}@{version}"
        components.append(
            {
                "type": "library",
                "bom-ref": purl,
                "name": name,
                "version": version,
                "licenses": [{"license": {"id": licence}}],
                "purl": purl,
                "components": [_file(file, sums[file]) for file in files],
            }
        )
    if missing := sorted(sums.keys() - named):
        raise ReleaseError(f"{VENDOR}: asked README.txt for the origin of {missing[0]}, found none")
    return components


def _file(name: str, digest: str) -> dict[str, Any]:
    return {
        "type": "file",
        "name": f"steppe/page/vendor/{name}",
        "hashes": [{"alg": "SHA-256", "content": digest}],
    }


def main() -> int:
    """Write the list into the tree."""
    root = Path(__file__).parents[1]
    (root / LIST).write_text(components_json(root))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Make the next version: `python -m release.new_version 0.3.0`, in the root of a clean tree.

The fragments in changes/ and what stands under "Unreleased" become the section of the version in
CHANGELOG.md, and the version is written wherever one stands. Nothing is committed or tagged.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

from release import components
from release.commands import run
from release.finding import ReleaseError
from release.versions import CHART

ROOT = Path(__file__).parents[1]
SECTIONS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
"""Those of Keep a Changelog, in the order in which they stand."""
CHANGELOG = "CHANGELOG.md"
_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")
_RELEASE = re.compile(r"^## \[.*?\n(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_SECTION = re.compile(r"^### (.+)\n", re.MULTILINE)


def joined(changelog: str) -> str:
    """Return a changelog whose newest release has each of its sections once.

    towncrier puts the fragments of a release above what was written by hand, so that a section may
    stand there twice.

    Raises:
        ReleaseError: The newest release has another section, or a text outside of all.
    """
    release = _RELEASE.search(changelog)
    if release is None:
        raise ReleaseError(f"{CHANGELOG}: asked for a release, found none")
    head, _, body = release[0].partition("\n")
    before, *parts = _SECTION.split(body)
    texts: dict[str, list[str]] = {name: [] for name in SECTIONS}
    for name, text in zip(parts[::2], parts[1::2], strict=True):
        if name not in texts:
            raise ReleaseError(f"{CHANGELOG}: asked for {', '.join(SECTIONS)}, found {name!r}")
        texts[name].append(text.strip("\n"))
    if before.strip():
        raise ReleaseError(f"{CHANGELOG}: asked for a section, found {before.strip()[:60]!r}")
    entries = {name: "\n".join(found) for name, found in texts.items() if found}
    sections = [f"### {name}\n\n{text}\n" for name, text in entries.items()]
    whole = "\n".join([f"{head}\n", *sections])
    return f"{changelog[: release.start()]}{whole}\n{changelog[release.end() :]}".rstrip() + "\n"


def with_version(root: Path, version: str, day: date) -> dict[Path, str]:
    """Return the files of a tree that have its version, with a new one.

    Raises:
        ReleaseError: A file has no line for the version.
    """
    values = {
        Path("pyproject.toml"): {"version = ": f'"{version}"'},
        Path("CITATION.cff"): {"version: ": version, "date-released: ": day.isoformat()},
        CHART: {"version: ": version, "appVersion: ": f'"{version}"'},
    }
    texts: dict[Path, str] = {}
    for path, keys in values.items():
        text = (root / path).read_text()
        for key, value in keys.items():
            text, number = re.subn(
                rf"^{key}\S+", f"{key}{value}", text, count=1, flags=re.MULTILINE
            )
            if not number:
                raise ReleaseError(f"{path}: asked for a line {key!r}, found none")
        texts[path] = text
    return texts


def make(root: Path, version: str, day: date) -> list[Path]:
    """Write a version into a tree, and return the files that changed.

    Raises:
        ReleaseError: It is not a newer version, the tree has changes, or a file is not as expected.
    """
    present = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    if not (_VERSION.fullmatch(version) and _numbers(version) > _numbers(present)):
        raise ReleaseError(f"asked for a version above {present} such as 1.2.3, found {version!r}")
    if changed := run(["git", "status", "--porcelain", "--untracked-files=no"], root).strip():
        raise ReleaseError(f"asked for a tree without changes, found {changed.splitlines()[0]}")
    texts = with_version(root, version, day)
    draft = ["--yes", "--version", version, "--date", day.isoformat()]
    run([sys.executable, "-m", "towncrier", "build", *draft], root)
    texts[Path(CHANGELOG)] = joined((root / CHANGELOG).read_text())
    for path, text in texts.items():
        (root / path).write_text(text)
    return sorted(texts)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def main(arguments: Sequence[str] | None = None) -> int:
    """Make a version of this tree; return 1 if that cannot be."""
    parser = argparse.ArgumentParser(prog="python -m release.new_version", description=__doc__)
    parser.add_argument("version", help="such as 0.3.0")
    given = parser.parse_args(arguments)
    try:
        changed = [*make(ROOT, given.version, datetime.now(UTC).date()), components.LIST]
        components.main()  # the list names the version
    except ReleaseError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write("".join(f"wrote {path}\n" for path in changed))
    return 0


if __name__ == "__main__":
    sys.exit(main())

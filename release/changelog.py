"""The changelog of the next release can be made from the fragments in changes/."""

from __future__ import annotations

from pathlib import Path

from release.commands import run, tool
from release.distributions import Distributions
from release.finding import Finding

FOLDER, TEMPLATE = "changes", "template.md"


def check(built: Distributions, scratch: Path) -> Finding:
    """Let towncrier show what it would write, and look for each fragment in it.

    Raises:
        ReleaseError: There is no towncrier, or it refuses a fragment.
    """
    root = built.root
    shown = run([tool("towncrier"), "build", "--draft", "--version", "next"], root)
    files = sorted(path for path in (root / FOLDER).iterdir() if path.name != TEMPLATE)
    faults = [
        f"{FOLDER}/{path.name}: asked for it in the changelog, found no such entry"
        for path in files
        if words(path.read_text()) not in words(shown)
    ]
    return Finding(f"{len(files)} entries that are not in CHANGELOG.md yet", tuple(faults))


def words(text: str) -> str:
    """Return a text with single spaces: towncrier breaks lines elsewhere."""
    return " ".join(text.split())

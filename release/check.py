"""Check a release: `python -m release.check [PART ...]`, in the root.

The sdist and the wheel are built into dist/. Each part looks at them and prints one line with its
figure. What a part finds wrong goes to the standard error.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from release import (
    changelog,
    components,
    contents,
    demo,
    distributions,
    environment,
    metadata,
    pins,
    versions,
)
from release.distributions import Distributions, build_all
from release.finding import Finding, ReleaseError

ROOT = Path(__file__).parents[1]
Part = Callable[[Distributions, Path], Finding]
OFFLINE: Mapping[str, Part] = {
    "reproducible": distributions.check,
    "versions": versions.check,
    "changelog": changelog.check,
    "contents": contents.check,
    "metadata": metadata.check,
    "components": components.check,
}
"""Parts that need no package index."""
PARTS: Mapping[str, Part] = {
    **OFFLINE,
    "environment": environment.check,
    "pins": pins.check,
    "demo": demo.check,
}
"""All parts, in the order in which they run: what is quick and most often wrong comes first."""


def check_parts(names: Sequence[str], built: Distributions) -> bool:
    """Run some parts and print what they find; return whether nothing is wrong."""
    is_sound = True
    for name in names:
        begun_s = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="steppe-release-") as scratch:
            try:
                finding = PARTS[name](built, Path(scratch))
            except ReleaseError as error:
                finding = Finding("not checked", (str(error),))
        took = f"{time.monotonic() - begun_s:.0f} s"
        sys.stdout.write(f"{name}: {finding.checked} ({took})\n")
        for fault in finding.faults:
            sys.stderr.write(f"{name}: {fault}\n")
        sys.stdout.flush()
        is_sound = is_sound and not finding.faults
    return is_sound


def main(arguments: Sequence[str] | None = None) -> int:
    """Build and check; return 1 if anything is wrong, or cannot be checked here."""
    parser = argparse.ArgumentParser(prog="python -m release.check", description=__doc__)
    parser.add_argument("part", nargs="*", help=f"{', '.join(PARTS)}; all by default")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder of the files")
    given = parser.parse_args(arguments)
    if unknown := [name for name in given.part if name not in PARTS]:
        parser.error(f"asked for the part {unknown[0]!r}, found {', '.join(PARTS)}")
    for old in [*given.out.glob("steppe-*.whl"), *given.out.glob("steppe-*.tar.gz")]:
        old.unlink()
    try:
        built = build_all(ROOT, given.out.resolve())
    except ReleaseError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    is_sound = check_parts(given.part or list(PARTS), built)
    sys.stdout.write(f"{'sound' if is_sound else 'not fit for a release'}: {built.wheel.name}\n")
    return 0 if is_sound else 1


if __name__ == "__main__":
    sys.exit(main())

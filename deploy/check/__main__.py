"""Check everything in deploy/: `python -m deploy.check [PART...]`, in the root.

Each part is a module here, and works alone as well. A part whose tools are not installed fails, and
names the Debian package that has them.
"""

from __future__ import annotations

import argparse
import sys
import time
from importlib import import_module

PARTS = ("observability", "layout", "images", "chart", "units", "built_images")


def main() -> int:
    """Run all checks, or those asked for; return 1 if one has found anything."""
    parser = argparse.ArgumentParser(prog="python -m deploy.check", description=__doc__)
    parser.add_argument("part", nargs="*", help=f"{', '.join(PARTS)}; all by default")
    parts = parser.parse_args().part or PARTS
    if unknown := sorted(set(parts) - set(PARTS)):
        parser.error(f"asked for the part {', '.join(unknown)}, found {', '.join(PARTS)}")
    failed: list[str] = []
    for part in parts:
        began_s = time.monotonic()
        if import_module(f"deploy.check.{part}").main() != 0:
            failed.append(part)
        sys.stdout.write(f"== {part}: {time.monotonic() - began_s:.1f} s\n")
        sys.stdout.flush()
    if failed:
        sys.stderr.write(f"deploy-check: {', '.join(failed)} failed\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

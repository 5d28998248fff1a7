"""Check everything in deploy/: `python -m deploy.check`, in the root.

Each module here that has `main()` without arguments checks one part, and works alone as well.
"""

from __future__ import annotations

import sys
from importlib import import_module

PARTS = ("observability", "images", "chart", "units")


def main() -> int:
    """Run all checks; return 1 if one has found anything."""
    results: list[int] = [import_module(f"deploy.check.{part}").main() for part in PARTS]
    return max(results)


if __name__ == "__main__":
    sys.exit(main())

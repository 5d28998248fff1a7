"""Import every module of the installed packages: `python -I import_all.py LIBRARY ...`.

It runs in environments of which it is told what they lack. Its output is one JSON document.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import sys
from pathlib import Path

PACKAGES = ("steppe", "steppe_kernels")


def lacking(error: BaseException | None) -> str | None:
    """Return the library that is missing, from an error or from its cause."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and error.name:
            return error.name.partition(".")[0]
        error = error.__cause__ or error.__context__
    return None


def main(absent: list[str]) -> int:
    """Import all, and print how many modules came, and what is wrong with which."""
    imported, without, faults = 0, 0, []
    for package in PACKAGES:
        for module in pkgutil.walk_packages(
            importlib.import_module(package).__path__, f"{package}."
        ):
            if module.name.endswith(".__main__"):
                continue
            try:
                importlib.import_module(module.name)
                imported += 1
            except Exception as error:  # noqa: BLE001 - whatever the import of a module raises
                if lacking(error) in absent:
                    without += 1
                else:
                    faults.append(f"{module.name}: {type(error).__name__}: {error}")
    place = str(Path(str(sys.modules["steppe"].__file__)).parent)
    report = {"imported": imported, "without": without, "faults": faults, "place": place}
    sys.stdout.write(f"{json.dumps(report)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

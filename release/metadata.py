"""What index servers and installers read: twine, check-wheel-contents, validate-pyproject."""

from __future__ import annotations

from pathlib import Path

from release.commands import outcome, tool
from release.distributions import Distributions
from release.finding import Finding

IGNORED = ("W002", "W009")
"""Checks of check-wheel-contents that we leave out.

W009 is for several packages at the top: `steppe` and `steppe_kernels`, which stands alone on
purpose. W002 is for equal files: the chart holds copies of alerts and dashboards, for helm reads no
file outside of a chart. `release.contents` allows equal files there only.
"""


def check(built: Distributions, scratch: Path) -> Finding:
    """Ask twine, check-wheel-contents and validate-pyproject.

    Raises:
        ReleaseError: One of them is not installed.
    """
    commands: list[list[str | Path]] = [
        [tool("twine"), "--no-color", "check", "--strict", built.sdist, built.wheel],
        [tool("check-wheel-contents"), "--ignore", ",".join(IGNORED), built.wheel],
        [tool("validate-pyproject"), built.root / "pyproject.toml"],
    ]
    faults: list[str] = []
    for command in commands:
        done = outcome(command, scratch)
        if done.returncode != 0:
            said = f"{done.stdout}\n{done.stderr}".splitlines()
            faults += [
                f"{Path(command[0]).name}: {' '.join(line.split())}" for line in said if line
            ]
    names = ", ".join(Path(command[0]).name for command in commands)
    return Finding(f"{names} (without {' and '.join(IGNORED)})", tuple(faults))

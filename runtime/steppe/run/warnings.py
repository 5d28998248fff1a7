"""How a run warns its user."""

from __future__ import annotations

import sys
from collections.abc import Callable

Warn = Callable[[str], None]
"""Takes a warning: one line that begins with the configuration key it is about."""


def warn_on_stderr(problem: str) -> None:
    """Write a warning as one line on stderr."""
    say_on_stderr(f"warning: {problem}")


def say_on_stderr(line: str) -> None:
    """Write a line on stderr."""
    sys.stderr.write(f"steppe: {line}\n")

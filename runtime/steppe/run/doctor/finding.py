"""What a check found, and what to do about it."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass


class Level(enum.StrEnum):
    """How much a finding matters."""

    OK = "ok"
    """As it should be."""
    UNKNOWN = "unknown"
    """Not reported here; nothing follows from it."""
    WARNING = "warning"
    """A run works, but not as well as it could, or not in every case."""
    FATAL = "fatal"
    """A run cannot work, or would work on false figures."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        group: Heading that it stands under.
        check: What was checked, in a word or two.
        level: How much it matters.
        found: What was found.
        advice: What to do; never empty for a warning or for what is fatal.
        node: Host that it is of; empty for the run as a whole.
    """

    group: str
    check: str
    level: Level
    found: str
    advice: str = ""
    node: str = ""

    def __post_init__(self) -> None:
        """Check that what is wrong comes with advice."""
        assert self.advice or self.level in (Level.OK, Level.UNKNOWN), self.found


def worst(findings: Iterable[Finding]) -> Level:
    """Return the worst level of some findings; `OK` without any."""
    order = list(Level)
    return max((finding.level for finding in findings), key=order.index, default=Level.OK)

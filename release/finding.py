"""What a part of the release check hands back."""

from __future__ import annotations

from dataclasses import dataclass


class ReleaseError(Exception):
    """A part cannot be checked at all; the message says what was asked and what was found."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one part has checked, and what is wrong.

    Attributes:
        checked: One line: what was checked, with its figure.
        faults: One line each: what was asked, and what was found.
    """

    checked: str
    faults: tuple[str, ...] = ()

"""Completion windows: `24h`, `90m`, `7d`."""

from __future__ import annotations

import re

from steppe.services.api_error import invalid

_UNITS_S = {"m": 60.0, "h": 3600.0, "d": 86_400.0}
_WINDOW = re.compile(r"([1-9][0-9]{0,5})([mhd])")


def window_s(text: object, least_s: float, most_s: float) -> float:
    """Return the length of a completion window, s.

    Args:
        text: What the client asked for.
        least_s: The shortest one, s.
        most_s: The longest one, s.

    Raises:
        ApiError: It is no window, too short or too long.
    """
    found = _WINDOW.fullmatch(text) if isinstance(text, str) else None
    length_s = None if found is None else int(found[1]) * _UNITS_S[found[2]]
    if length_s is not None and least_s <= length_s <= most_s:
        return length_s
    asked = f"asked for a time from {shown_window(least_s)} to {shown_window(most_s)}, such as 24h"
    raise invalid(f"completion_window: {asked}, found {text!r:.60}", "completion_window")


def shown_window(length_s: float) -> str:
    """Return a length as a completion window: in the largest unit that divides it, or in s."""
    for unit in ("d", "h", "m"):
        if length_s >= _UNITS_S[unit] and length_s % _UNITS_S[unit] == 0:
            return f"{length_s / _UNITS_S[unit]:g}{unit}"
    return f"{length_s:g}s"

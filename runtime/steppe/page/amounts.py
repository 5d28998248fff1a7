"""Numbers for people: three or four digits and a unit."""

from __future__ import annotations

import math
from itertools import pairwise

NONE = "–"
_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_STEPS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def number(value: float | None, digits: int = 1) -> str:
    """Return a number with thousands separated; whole ones without a fraction."""
    if value is None or not math.isfinite(value):
        return NONE
    if float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:,.{digits}f}"


def watts(value: float | None) -> str:
    """Return a power, such as `412.3 W` or `1.204 MW`."""
    return _scaled(value, "W", from_=1e6)


def joules(value: float | None) -> str:
    """Return an energy, such as `3.1 J` or `12.4 MJ`."""
    return _scaled(value, "J", from_=1e4)


def joules_per_token(value: float | None) -> str:
    """Return an energy per token, such as `0.412 J`."""
    if value is None or not math.isfinite(value):
        return NONE
    if 0 < abs(value) < 0.01:
        return f"{value * 1e3:.3f} mJ"
    return f"{value:.3f} J"


def share(value: float | None) -> str:
    """Return a share in percent."""
    return NONE if value is None else f"{100 * value:.0f} %"


def span(seconds: float | None) -> str:
    """Return a time span, such as `12 s`, `3 min 20 s` or `2 h 5 min`."""
    if seconds is None or not math.isfinite(seconds):
        return NONE
    whole = round(seconds)
    for (size, unit), (less, smaller) in pairwise(_UNITS):
        if whole >= size:
            rest = whole % size // less
            return f"{whole // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"


def milliseconds(seconds: float | None) -> str:
    """Return a short time in ms."""
    return NONE if seconds is None else f"{1e3 * seconds:,.1f} ms"


def _scaled(value: float | None, unit: str, from_: float) -> str:
    if value is None or not math.isfinite(value):
        return NONE
    if abs(value) >= from_:
        for factor, prefix in _STEPS:
            if abs(value) >= factor:
                return f"{value / factor:,.3f} {prefix}{unit}"
    return f"{number(value)} {unit}"

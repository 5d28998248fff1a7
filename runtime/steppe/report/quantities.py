"""Numbers as text: three digits, a unit, and an energy source."""

from __future__ import annotations

import math

_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
UNKNOWN = "–"


def quantity(value: float | None, unit: str) -> str:
    """Return a number with three significant digits and an SI prefix, such as `1.25 kW`."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    if value == 0:
        return f"0 {unit}"
    rounded = float(f"{value:.3g}")
    scale, prefix = next(
        ((scale, prefix) for scale, prefix in _PREFIXES if abs(rounded) >= scale), (1.0, "")
    )
    decimals = max(0, 2 - math.floor(math.log10(abs(rounded) / scale)))
    return f"{rounded / scale:.{decimals}f} {prefix}{unit}"


def share(value: float | None) -> str:
    """Return a share as a percentage, such as `3.4 %`."""
    return UNKNOWN if value is None else f"{100 * value:.1f} %"


def count(value: int) -> str:
    """Return a whole number with its thousands set apart, such as `48,210`."""
    return f"{value:,}"


def span(duration_s: float) -> str:
    """Return a length of time, such as `4:05` or `1:02:33`."""
    minutes, seconds = divmod(int(duration_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def source_text(energy_source: str) -> str:
    """Return an energy source, and whether it is modelled."""
    match energy_source:
        case "emulated":
            return "emulated (modelled, not measured)"
        case "estimated":
            return "estimated (not all of it metered)"
        case _:
            return energy_source

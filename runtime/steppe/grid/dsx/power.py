"""Power as DSX Flex writes it: a value and a unit."""

from __future__ import annotations

from typing import Any

from steppe.grid.dsx.envelope import MessageError, shown

_WATTS = {"watt": 1.0, "kilowatt": 1e3, "megawatt": 1e6}
_LARGEST_W = 1e12


def watts_of(what: str, found: object) -> float:
    """Return a power, W.

    Raises:
        MessageError: It is no power, or a negative or an absurd one.
    """
    if not isinstance(found, dict):
        raise MessageError(f"{what}: asked for a value and a unit, found {shown(found)}")
    value, unit = found.get("value"), found.get("unit")
    if not isinstance(unit, str) or unit not in _WATTS:
        raise MessageError(f"{what}: asked for one of {', '.join(_WATTS)}, found {shown(unit)}")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MessageError(f"{what}: asked for a number, found {shown(value)}")
    if not 0 <= value * _WATTS[unit] <= _LARGEST_W:
        raise MessageError(f"{what}: asked for 0 to {_LARGEST_W:g} W, found {value:g} {unit}")
    return value * _WATTS[unit]


def power_of(watts: float) -> dict[str, Any]:
    """Return a power as the value and the unit of a message; watts below 0 are none."""
    return {"value": max(0.0, watts), "unit": "watt"}

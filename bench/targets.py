"""What a benchmark is held against: one entry of `targets` in its document."""

from __future__ import annotations

from typing import Any


def at_most(name: str, value: float, unit: str, target: float) -> dict[str, Any]:
    """Return a target that is met from below."""
    return {"name": name, "value": value, "unit": unit, "target": target, "met": value <= target}


def at_least(name: str, value: float, unit: str, target: float) -> dict[str, Any]:
    """Return a target that is met from above."""
    return {"name": name, "value": value, "unit": unit, "target": target, "met": value >= target}

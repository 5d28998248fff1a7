"""Targets of a benchmark: entries of `targets` in its document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def at_most(name: str, value: float, unit: str, target: float) -> dict[str, Any]:
    """Return a target that is met from below."""
    return {"name": name, "value": value, "unit": unit, "target": target, "met": value <= target}


def at_least(name: str, value: float, unit: str, target: float) -> dict[str, Any]:
    """Return a target that is met from above."""
    return {"name": name, "value": value, "unit": unit, "target": target, "met": value >= target}


def worst_mae(rows: Sequence[dict[str, Any]], target: float) -> list[dict[str, Any]]:
    """Return the target of the worst error of the draw; none where no row has one."""
    known = [row["relative_mae"] for row in rows if row["relative_mae"] is not None]
    return [at_most("worst relative_mae", max(known), "share", target)] if known else []

"""What the grid asks and what the site gives, in words."""

from __future__ import annotations

from steppe.report.quantities import quantity, share, span
from steppe.report.records import GridTick, TickRecord


def grid_text(record: TickRecord) -> str | None:
    """Return what the grid asks, and whether the site does it; None if it asks nothing.

    Such as `grid drill/e1: 8.00 kW allowed in 0:32, 30.0 % below 11.4 kW` before its start, then
    `grid drill/e1: 8.00 kW allowed, draw 7.96 kW (-3.44 kW), complies, ends in 2:58`.
    """
    grid = record.grid
    if grid is None:
        return None
    if not grid.event:
        return f"grid {grid.limit}: {quantity(grid.limit_w, 'W')} allowed{_draw(record)}"
    text = f"grid {grid.event}: " + (_coming(grid) if grid.is_coming else _running(record, grid))
    if grid.limit and grid.limit != grid.event:
        text += f"; limit {grid.limit} {quantity(grid.limit_w, 'W')}"
    return text


def refusal_text(grid: GridTick) -> str | None:
    """Return why the site cannot comply with an event; None if it can."""
    if not grid.reason:
        return None
    asked, _, found = grid.reason.partition(", found ")
    return f"cannot comply: {f'found {found}' if found else asked}"


def _coming(grid: GridTick) -> str:
    text = f"{quantity(grid.hold_w, 'W')} allowed in {span(grid.begins_in_s)}"
    if not grid.baseline_w or grid.hold_w is None:
        return text
    less = 1 - grid.hold_w / grid.baseline_w
    way = "below" if less >= 0 else "above"
    return f"{text}, {share(abs(less))} {way} {quantity(grid.baseline_w, 'W')}"


def _running(record: TickRecord, grid: GridTick) -> str:
    text = f"{quantity(grid.target_w, 'W')} allowed{_draw(record)}"
    if grid.delivered_w is not None:
        sign = "-" if grid.delivered_w >= 0 else "+"
        text += f" ({sign}{quantity(abs(grid.delivered_w), 'W')})"
    text += ", complies" if grid.complies else ", above it"
    return text if grid.ends_in_s is None else f"{text}, ends in {span(grid.ends_in_s)}"


def _draw(record: TickRecord) -> str:
    return f", draw {quantity(record.site_w, 'W')}"

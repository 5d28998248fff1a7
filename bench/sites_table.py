"""What the rows of `sites.py` say: gain shares, the table for people, and the targets."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import Any

from rich.console import Console
from rich.table import Table

from targets import at_least, at_most

Row = dict[str, Any]
TARGET = 0.9
OURS, LOCAL, NEAREST, ORACLE = "steppe", "local", "nearest", "oracle"


def with_gains(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of one world with the share of the oracle's gain that each gains."""
    of = {row["policy"]: row for row in rows}
    if LOCAL not in of:
        return list(rows)
    local, best = of[LOCAL], of[ORACLE]
    return [
        row
        | {
            "gain_share": _share(row, local, best, "green_share"),
            "grid_gain_share": _share(row, local, best, "grid_kwh"),
        }
        for row in rows
    ]


def _share(row: Row, local: Row, best: Row, figure: str) -> float | None:
    whole = best[figure] - local[figure]
    return round((row[figure] - local[figure]) / whole, 4) if whole else None


def targets(rows: Sequence[Row]) -> list[Row]:
    """Return the targets: least gain share of all worlds, and p99 TTFT over that of nearest."""
    found = []
    rows = [row for row in rows if not row["front"]]
    for sites in dict.fromkeys(row["sites"] for row in rows):
        mine = [r for r in rows if r["sites"] == sites and r["policy"] == OURS]
        near = [r for r in rows if r["sites"] == sites and r["policy"] == NEAREST]
        if gains := [row["gain_share"] for row in mine if row.get("gain_share") is not None]:
            name = f"{sites} sites: least share of the oracle's gain in green share"
            found.append(at_least(name, min(gains), "share", TARGET))
        for ours, rival in zip(mine, near, strict=False):
            world = f"{sites} sites, seed {ours['seed']}, {ours['days']:g} days"
            name = f"{world}: p99 TTFT, against that of nearest and a round trip"
            allowed_s = rival["p99_ttft_s"] + ours["longest_rtt_s"]
            found.append(at_most(name, ours["p99_ttft_s"], "s", round(allowed_s, 4)))
    return found


def show(rows: Sequence[Row]) -> None:
    """Print the table for people: means over the worlds of each number of sites."""
    table = Table(title="Sites with their own wind and sun: simulated, energy modelled")
    headings = ("sites, days", "policy", "green", "gain share", "grid MWh", "cost, CNY", "CO2, t",
                "p99 TTFT", "moved", "cache lost")  # fmt: skip
    for heading in headings:
        table.add_column(heading)
    for world, policy in dict.fromkeys((_kind(row), row["policy"]) for row in rows):
        same = [r for r in rows if (_kind(r), r["policy"]) == (world, policy)]
        table.add_row(
            world, policy,
            *(_mean(same, *form) for form in (
                ("green_share", 1.0, "{:.3f}"), ("gain_share", 1.0, "{:.2f}"),
                ("grid_kwh", 1e-3, "{:.2f}"), ("cost", 1.0, "{:.0f}"),
                ("carbon_kg", 1e-3, "{:.2f}"), ("p99_ttft_s", 1.0, "{:.2f} s"),
                ("moved_share", 1.0, "{:.3f}"), ("cache_loss", 1.0, "{:.3f}"),
            )),
        )  # fmt: skip
    Console(width=120).print(table)


def _kind(row: Row) -> str:
    return f"{row['sites']}, {row['days']:g}{' front' if row['front'] else ''}"


def _mean(rows: Sequence[Row], figure: str, unit: float, form: str) -> str:
    known = [row[figure] for row in rows if row.get(figure) is not None]
    return form.format(unit * mean(known)) if known else ""

"""The arithmetic and the tables of `scoreboard.py`: from rows of runs to medians and worst days."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from policy_table import KEPT, OURS, SAVING
from targets import at_least, at_most

Row = dict[str, Any]
FIGURES = ("output_tokens", "request_goodput")
NOMINAL = "nominal"
NAMES = {"output_tokens": "tokens", "request_goodput": "good requests/s"}


def best_of_day(rows: Sequence[Row], figure: str) -> list[Row]:
    """Return one row for each curve, day and policy: of a tuned one the best, in hindsight.

    The best is that with the most of a figure among those that keep to the budget; if none does,
    that with the least energy above it.
    """
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        key = row["clock_curve"], row["happening"], row["policy"]
        groups.setdefault(key, []).append(row)
    return [_best(group, figure) for group in groups.values()]


def _best(rows: Sequence[Row], figure: str) -> Row:
    kept = [row for row in rows if is_kept(row)]
    if kept:
        return max(kept, key=lambda row: float(row[figure]))
    return min(rows, key=lambda row: float(row["over_budget_share"]))


def is_kept(row: Row) -> bool:
    """Return whether a run kept to the budget."""
    return bool(row["over_budget_share"] <= KEPT)


def over_ours(rows: Sequence[Row], figure: str) -> list[Row]:
    """Return the best rows of each day, with their figure over ours of the same day and curve.

    Days on which ours is 0, or was not run, are left out.
    """
    best = best_of_day(rows, figure)
    ours = {_day(row): float(row[figure]) for row in best if row["policy"] == OURS}
    return [
        row | {"ratio": row[figure] / ours[_day(row)]} for row in best if ours.get(_day(row), 0) > 0
    ]


def policies_of(rows: Sequence[Row]) -> list[Row]:
    """Return one row for each curve and policy: median and worst day of everything."""
    found = []
    for curve, policy in dict.fromkeys((row["clock_curve"], row["policy"]) for row in rows):
        mine = [r for r in rows if (r["clock_curve"], r["policy"]) == (curve, policy)]
        days = best_of_day(mine, FIGURES[0])
        kept = sum(is_kept(row) for row in days)
        line: Row = {"clock_curve": curve, "policy": policy, "days": len(days), "kept_days": kept}
        for figure in FIGURES:
            line[figure] = _spread((row[figure] for row in best_of_day(mine, figure)), min)
            ratios = over_ours([*mine, *_ours(rows, curve)], figure)
            line[f"{figure}_over_ours"] = _spread(
                (row["ratio"] for row in ratios if row["policy"] == policy), min
            )
        for figure in ("relative_mae", "over_budget_share"):
            line[figure] = _spread((row[figure] for row in days), max)
        found.append(line)
    return found


def headline(rows: Sequence[Row]) -> list[Row]:
    """Return ours over the best rival of each day that keeps to the budget, by curve and figure.

    A rival is any policy but ours and `save_energy`. Days on which none keeps to the budget, or
    none serves anything, are left out and counted.
    """
    found = []
    for curve in dict.fromkeys(row["clock_curve"] for row in rows):
        of_curve = [row for row in rows if row["clock_curve"] == curve]
        for figure in FIGURES:
            ratios, beside = _over_rivals(of_curve, figure)
            days = len({row["happening"] for row in of_curve})
            found.append(
                {
                    "clock_curve": curve,
                    "figure": figure,
                    "days": len(ratios),
                    "days_left_out": days - len(ratios),
                    **_spread(ratios, min),
                    "beside": {name: beside.count(name) for name in dict.fromkeys(beside)},
                }
            )
    return found


def targets(rows: Sequence[Row]) -> list[Row]:
    """Return what the results are held against, at the fitted clock curve."""
    known = [row for row in rows if row["clock_curve"] == NOMINAL]
    ours = [row for row in known if row["policy"] == OURS]
    found = [
        at_least(f"{NAMES[line['figure']]}, median over the best rival", line["median"], "ratio", 1)
        for line in headline(known)
        if line["median"] is not None
    ]
    if ours:
        over = max(row["over_budget_share"] for row in ours)
        found.append(at_most("energy above the budget, worst day", over, "share", KEPT))
    return found


def _over_rivals(rows: Sequence[Row], figure: str) -> tuple[list[float], list[str]]:
    """Return ours over the best rival of each day, and which it is."""
    best = best_of_day(rows, figure)
    ratios, beside = [], []
    for day in dict.fromkeys(row["happening"] for row in best):
        of_day = [row for row in best if row["happening"] == day]
        ours = next((row for row in of_day if row["policy"] == OURS), None)
        rivals = [r for r in of_day if r["policy"] not in (OURS, SAVING) and is_kept(r)]
        first = max(rivals, key=lambda row: float(row[figure]), default=None)
        if ours is not None and first is not None and first[figure] > 0:
            ratios.append(ours[figure] / first[figure])
            beside.append(first["policy"])
    return ratios, beside


def _ours(rows: Sequence[Row], curve: str) -> list[Row]:
    return [row for row in rows if row["clock_curve"] == curve and row["policy"] == OURS]


def _day(row: Row) -> tuple[str, str]:
    return row["clock_curve"], row["happening"]


def _spread(values: Iterable[float | None], worst: Callable[[list[float]], float]) -> Row:
    """Return the median, the worst and both ends of some values; None of none."""
    known = [value for value in values if value is not None]
    if not known:
        return dict.fromkeys(("median", "worst", "least", "most"))
    return {
        "median": median(known), "worst": worst(known), "least": min(known), "most": max(known)
    }  # fmt: skip


def show(lines: Sequence[Row], headlines: Sequence[Row], title: str) -> None:
    """Print the tables for people: the fitted curve, then what the others change."""
    console = Console(width=150)
    table = Table(title=title)
    for heading in (
        "policy", "days kept", "tokens, M", "over ours", "good/s", "over ours", "error, %",
        "above, %",
    ):  # fmt: skip
        table.add_column(heading)
    nominal = [line for line in lines if line["clock_curve"] == NOMINAL] or lines
    for line in sorted(nominal, key=lambda line: -(line["output_tokens"]["median"] or 0.0)):
        table.add_row(
            line["policy"],
            f"{line['kept_days']} of {line['days']}",
            _pair(line["output_tokens"], 1e-6, "{:.2f}"),
            _range(line["output_tokens_over_ours"]),
            _pair(line["request_goodput"], 1.0, "{:.1f}"),
            _range(line["request_goodput_over_ours"]),
            _pair(line["relative_mae"], 100.0, "{:.1f}"),
            _pair(line["over_budget_share"], 100.0, "{:.3f}"),
        )
    console.print(table)
    console.print("Median (worst day); over ours: median (least–most). Days kept: budget kept.")
    for line in headlines:
        what = (
            f"{NAMES[line['figure']]} over the best rival of the day, {line['clock_curve']} curve"
        )
        beside = ", ".join(f"{name} {days}" for name, days in line["beside"].items())
        console.print(
            f"{what}: {_range(line)} × on {line['days']} days ({beside})", highlight=False
        )


def _pair(spread: Row, unit: float, form: str) -> str:
    if spread["median"] is None:
        return "–"
    return " ".join(
        (form.format(unit * spread["median"]), f"({form.format(unit * spread['worst'])})")
    )


def _range(spread: Row) -> str:
    if spread["median"] is None:
        return "–"
    return f"{spread['median']:.2f} ({spread['least']:.2f}–{spread['most']:.2f})"

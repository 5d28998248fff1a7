"""The rows, the table and the targets of `policies.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from steppe.report.quantities import UNKNOWN
from steppe.report.summary import Summary
from targets import at_least, at_most, worst_mae

OURS, SAVING, FULL, SCALER = "follow_budget", "save_energy", "full_clocks", "reactive"
TWO_KNOBS = ("clocks_and_replicas", "dynamo_llm")
"""Policies that move clocks and replicas; a clock that was locked beforehand is not moved."""
NO_BUDGET, STEPS = "no budget", "40 steps of 30 %"
AT_EQUAL = 0.005
"""Shares of good requests that differ by no more are equal."""
KEPT = 0.001
"""A policy that draws at most this share of its energy above the budget keeps to it."""
ALMOST = 0.01
"""A policy that draws at most this share of its energy above the budget almost keeps to it."""
Row = dict[str, Any]
DAYS = ("windy day", "cloudy solar day")


def row_of(policy: str, happening: str, summary: Summary, cpu_s: float) -> Row:
    """Return what the table shows of a run."""
    tracking = summary["tracking"]
    energy_j = summary["energy_j"]
    return {
        "policy": policy,
        "happening": happening,
        "relative_mae": tracking["relative_mae"],
        "over_budget_share": over_share(summary),
        "over_budget_s": tracking["over_budget_s"],
        "max_over_fraction": tracking["max_over_fraction"],
        "unused_while_waiting_share": tracking["unused_while_waiting_j"] / energy_j,
        "settle_p95_s": tracking["settle_p95_s"],
        "pjm_score": tracking["pjm_score"],
        "output_tokens": summary["output_tokens"],
        "output_tokens_per_joule": summary["output_tokens_per_joule"],
        "slo_attainment": summary["slo_attainment"],
        "request_goodput": summary["request_goodput"],
        "completed": summary["requests"]["completed"],
        "cpu_s": cpu_s,
    }


def over_share(summary: Summary) -> float:
    """Return the energy above the budget, share of all energy."""
    over_j = summary["tracking"]["over_budget_j"]
    assert over_j is not None, "a run of a benchmark has ticks"
    return over_j / summary["energy_j"]


def targets(rows: Sequence[Row]) -> list[Row]:
    """Return what the results are held against."""
    ours = [row for row in rows if row["policy"] == OURS and has_budget(row)]
    found = []
    if ours:
        over = max(row["over_budget_share"] for row in ours)
        found += worst_mae(ours, 0.02)
        found.append(at_most("worst over-budget energy", over, "share", 0.001))
    steps = [row["settle_p95_s"] for row in ours if row["happening"] == STEPS]
    if steps and steps[0] is not None:
        found.append(at_most("settling of 30 % steps, 95th percentile", steps[0], "s", 10.0))
    gain = _gain_over_the_best(rows)
    if gain is not None:
        found.append(at_least("tokens over the best baseline, days", gain, "ratio", 1.15))
    for name in dict.fromkeys(row["happening"] for row in rows if not has_budget(row)):
        saved = _saved([row for row in rows if row["happening"] == name], FULL)
        if saved is not None:
            found.append(at_least(f"joules per token saved, {name}", saved, "share", 0.4))
    return found


def has_budget(row: Row) -> bool:
    """Return whether the budget of a row's scenario binds."""
    return not row["happening"].startswith(NO_BUDGET)


def _gain_over_the_best(rows: Sequence[Row]) -> float | None:
    """Return our tokens over those of the best baseline that keeps to the budget, on the days."""
    gains = []
    for day in DAYS:
        ours, others = _kept(rows, day)
        best = max((row["output_tokens"] for row in others), default=0)
        if ours and best:  # of a replica or two, a baseline may never serve
            gains.append(ours["output_tokens"] / best)
    return min(gains) if gains else None


def _kept(rows: Sequence[Row], day: str) -> tuple[Row | None, list[Row]]:
    """Return our row of a day, and those of the baselines that keep to its budget."""
    of_it = [row for row in rows if row["happening"] == day]
    ours = next((row for row in of_it if row["policy"] == OURS), None)
    others = [row for row in of_it if row["policy"] not in (OURS, SAVING)]
    return ours, [row for row in others if row["over_budget_share"] <= KEPT]


def beside(rows: Sequence[Row]) -> list[Row]:
    """Return what has no target, beside the baselines that come closest.

    On the days: good requests per second, beside the best in tokens and the best in good requests
    of those that keep to the budget; and tokens, beside the best that moves one knob. Without a
    budget: joules per token that are saved, beside the ordinary autoscaler, which already has
    replicas sleep.
    """
    found = []
    for day in DAYS:
        ours, others = _kept(rows, day)
        for key in ("output_tokens", "request_goodput") if ours and others else ():
            best = max(others, key=lambda row: float(row[key]))
            if ours and best["request_goodput"]:
                ratio = ours["request_goodput"] / best["request_goodput"]
                name = f"request_goodput over the best baseline in {key}"
                found.append(_value(day, name, best["policy"], ratio, "ratio"))
        ones = [row for row in others if row["policy"] not in TWO_KNOBS and row["output_tokens"]]
        if ours and ones:
            best = max(ones, key=lambda row: int(row["output_tokens"]))
            ratio = ours["output_tokens"] / best["output_tokens"]
            name = "output_tokens over the best baseline of one knob"
            found.append(_value(day, name, best["policy"], ratio, "ratio"))
    for happening in dict.fromkeys(row["happening"] for row in rows if not has_budget(row)):
        saved = _saved([row for row in rows if row["happening"] == happening], SCALER)
        if saved is not None:
            found.append(_value(happening, "joules per token saved", SCALER, saved, "share"))
    return found


def _value(happening: str, name: str, baseline: str, value: float, unit: str) -> Row:
    return {
        "happening": happening, "name": name, "beside": baseline, "value": value, "unit": unit
    }  # fmt: skip


def beside_almost(rows: Sequence[Row]) -> list[Row]:
    """Return our tokens on the days beside the best baseline that almost keeps to the budget.

    What it drew above the budget is taken off its tokens, at its mean tokens per joule; for one
    that draws far too much that would mean nothing.
    """
    found = []
    for day in DAYS:
        kept = {
            row["policy"]: row["output_tokens"] * (1 - row["over_budget_share"])
            for row in rows
            if row["happening"] == day and row["over_budget_share"] <= ALMOST
        }
        baselines = {name: tokens for name, tokens in kept.items() if name not in (OURS, SAVING)}
        others = {name: tokens for name, tokens in baselines.items() if tokens}
        if OURS in kept and others:
            best = max(others, key=lambda name: others[name])
            found.append({"happening": day, "best": best, "ratio": kept[OURS] / others[best]})
    return found


def _saved(rows: Sequence[Row], baseline: str) -> float | None:
    """Return the share of a baseline's joules per token that `save_energy` saves in a happening.

    Nothing is saved where its users are served worse.
    """
    found = {row["policy"]: row for row in rows}
    if SAVING not in found or baseline not in found:
        return None
    saving, other = found[SAVING], found[baseline]
    if saving["slo_attainment"] < other["slo_attainment"] - AT_EQUAL:
        return 0.0
    spent, others = (1 / row["output_tokens_per_joule"] for row in (saving, other))
    return float(1 - spent / others)


def show(rows: Sequence[Row]) -> None:
    """Print the table for people."""
    table = Table(title="Policies under a power budget; simulated, energy modelled")
    for heading in (
        "happening", "policy", "MAE", "over", "unused", "settle", "tokens", "tok/J", "SLO", "good/s"
    ):  # fmt: skip
        table.add_column(heading)
    for row in rows:
        settle = "" if row["settle_p95_s"] is None else f"{row['settle_p95_s']:.0f} s"
        mae = UNKNOWN if row["relative_mae"] is None else f"{row['relative_mae']:.2%}"
        attained = row["slo_attainment"]
        table.add_row(
            row["happening"],
            row["policy"],
            mae,
            f"{row['over_budget_share']:.3%}",
            f"{row['unused_while_waiting_share']:.2%}",
            settle,
            f"{row['output_tokens'] / 1e6:.2f} M",
            f"{row['output_tokens_per_joule'] or 0:.2f}",
            "" if attained is None else f"{attained:.1%}",
            f"{row['request_goodput']:.2f}",
        )
    Console(width=120).print(table)


def show_beside(values: Sequence[Row], targets: Sequence[Row]) -> None:
    """Print what is held against something, a line each, for people."""
    lines = [f"{row['name']}: {row['value']:.4g} (target {row['target']:g})" for row in targets]
    lines += [
        f"{row['happening']}: {row['name']}, beside {row['beside']}: {row['value']:.4g}"
        for row in values
    ]
    Console(width=120).print("\n".join(lines), highlight=False)


def show_all(title: str, rows: Sequence[Row]) -> None:
    """Print rows as they are, every key a column."""
    table = Table(title=title)
    for heading in rows[0]:
        table.add_column(heading)
    for row in rows:
        table.add_row(*(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()))
    Console(width=140).print(table)

"""The figure of `policies.py`: one row for each happening, one mark for each policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from policy_table import DAYS, KEPT, OURS, has_budget

OTHERS = (
    "save_energy", "power_cap", "clocks", "replicas", "clocks_and_replicas", "nameplate",
    "reactive", "full_clocks", "static_clock", "locked_autoscaler", "capped_autoscaler",
    "dynamo_llm", "slo_dvfs",
)  # fmt: skip
MARKS = dict(zip(OTHERS, "Dsov*^PXh<>pd", strict=True))
GREY, BLUE, ORANGE = "#8a94a6", "#1f6fb4", "#c2571a"
LEAST_SHARE = 1e-5
"""Where a share of 0 stands on a logarithmic axis."""

Row = dict[str, Any]


def draw(document: dict[str, Any]) -> Figure:
    """Return the figure of a result."""
    rows = [row for row in document["results"] if has_budget(row)]
    happenings = list(dict.fromkeys(row["happening"] for row in rows))
    known = [row for row in rows if row["relative_mae"] is not None]
    kept = [row for row in rows if row["over_budget_share"] <= KEPT]
    best = {name: _best_tokens(kept, name) for name in happenings}
    compared = [row for row in kept if best[row["happening"]]]
    figure = Figure(figsize=(12.5, 6.2), layout="constrained")
    error, over, tokens = figure.subplots(1, 3, sharey=True)
    _panel(error, happenings, known, lambda row: max(LEAST_SHARE, row["relative_mae"]))
    _panel(over, happenings, rows, lambda row: max(LEAST_SHARE, row["over_budget_share"]))
    _panel(tokens, happenings, compared, lambda row: row["output_tokens"] / best[row["happening"]])
    _note_where_none_keeps(tokens, [number for number, name in enumerate(best) if not best[name]])
    for axes, target, label in (
        (error, 0.02, "relative error of the draw, work waiting"),
        (over, 0.001, "energy above the budget, share"),
    ):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(_percent))
        axes.axvline(target, color=ORANGE, linewidth=1, linestyle="--")
        axes.set_xlabel(f"{label}\n(dashed: target)")
    tokens.axvline(1.0, color=ORANGE, linewidth=1, linestyle="--")
    tokens.set_xlabel(
        "tokens, of policies that keep to the budget,\nover those of the best baseline (dashed)"
    )
    error.set_yticks(range(len(happenings)), happenings)
    error.invert_yaxis()
    simulated = document["fleets"][0]["simulated"]
    duration_s = document["arguments"]["duration_s"]
    title = f"Policies under a power budget, each in {duration_s:g} s: simulated, energy modelled"
    figure.suptitle(f"{title}\n{simulated}", fontsize=11)
    marks = tokens.get_legend_handles_labels()
    figure.legend(*marks, loc="outside lower center", ncols=len(marks[1]), frameon=False)
    return figure


def _panel(
    axes: Axes, happenings: list[str], rows: Sequence[Row], value: Callable[[Row], float]
) -> None:
    for policy in (*OTHERS, OURS):
        mine = [row for row in rows if row["policy"] == policy]
        axes.scatter(
            [value(row) for row in mine],
            [happenings.index(row["happening"]) for row in mine],
            label=policy.replace("_", " "),
            marker=MARKS.get(policy, "o"),
            s=150 if policy == OURS else 42,
            # A ring, so that a policy with the same result is not hidden.
            facecolor="none" if policy == OURS else GREY,
            edgecolor=BLUE if policy == OURS else "white",
            linewidth=2.6 if policy == OURS else 0.8,
            zorder=3 if policy == OURS else 2,
        )
    axes.grid(axis="x", color="#e3e7ee")
    for number, name in enumerate(happenings):
        if name in DAYS:
            axes.axhspan(number - 0.5, number + 0.5, color="#f4f7fb", zorder=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)


def _note_where_none_keeps(axes: Axes, numbers: Sequence[int]) -> None:
    for number in numbers:
        axes.text(
            1.0,
            number,
            "no baseline keeps to the budget",
            ha="center",
            va="center",
            color=GREY,
            backgroundcolor="white",
            zorder=4,
        )


def _percent(share: float, _: int) -> str:
    return "0" if share <= LEAST_SHARE else f"{share * 100:g} %"


def _best_tokens(kept: Sequence[Row], happening: str) -> int:
    """Return the most tokens of a baseline that keeps to the budget; 0 where none does."""
    ours = (OURS, OTHERS[0])
    others = [r for r in kept if r["happening"] == happening and r["policy"] not in ours]
    return max((int(row["output_tokens"]) for row in others), default=0)

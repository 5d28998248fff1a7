"""The rows, the table and the targets of `traffic.py`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from policy_table import FULL, KEPT, OURS, SAVING, row_of
from steppe.report.quantities import UNKNOWN
from steppe.report.summary import Summary
from targets import at_least, at_most

AMPLE = "ample"
LOST, SAVED, ERROR = 0.02, 0.25, 0.02
"""Most SLO attainment lost to full clocks, least share of their joules saved, and largest error of
the draw."""
Row = dict[str, Any]


def traffic_row(traffic: str, policy: str, happening: str, summary: Summary) -> Row:
    """Return what the table shows of a run."""
    latency = summary["latency"]
    row = row_of(policy, happening, summary, 0.0)
    del row["cpu_s"]
    return {
        "traffic": traffic,
        **row,
        "energy_j": summary["energy_j"],
        "ttft_p50_s": latency["ttft_s"]["p50"],
        "ttft_p95_s": latency["ttft_s"]["p95"],
        "tpot_p95_s": latency["tpot_s"]["p95"],
    }


class Cell:
    """The runs of all policies with one traffic in one happening.

    Attributes:
        traffic: Name of the traffic.
        happening: Name of the happening.
        rows: A row for each policy.
    """

    def __init__(self, traffic: str, happening: str, rows: Sequence[Row]) -> None:
        """Take the rows of the cell."""
        self.traffic, self.happening = traffic, happening
        self.rows = {row["policy"]: row for row in rows}

    @property
    def is_ample(self) -> bool:
        """Whether no budget binds."""
        return self.happening == AMPLE

    @property
    def ours(self) -> Row | None:
        """Our row: without a binding budget the policy that saves energy."""
        return self.rows.get(SAVING if self.is_ample else OURS)

    @property
    def full(self) -> Row | None:
        """The row of full clocks, which ignore the budget."""
        return self.rows.get(FULL)

    @property
    def best_rival(self) -> Row | None:
        """The rival with the most good requests among those that keep to the budget."""
        kept = [
            row
            for policy, row in self.rows.items()
            if policy not in (OURS, SAVING, FULL) and row["over_budget_share"] <= KEPT
        ]
        return max(kept, key=lambda row: float(row["request_goodput"]), default=None)

    def good_over(self, other: Row | None) -> float | None:
        """Return our good requests per second over another's; None where it has none."""
        if self.ours is None or other is None or not other["request_goodput"]:
            return None
        return float(self.ours["request_goodput"] / other["request_goodput"])

    @property
    def lost(self) -> float | None:
        """Most SLO attainment that our policies lose to full clocks, share."""
        lost = [_lost(self.rows.get(name), self.full) for name in (OURS, SAVING)]
        return max((share for share in lost if share is not None), default=None)

    @property
    def saved(self) -> float | None:
        """Share of the joules of full clocks that our policy saves; 0 if it loses attainment."""
        lost = _lost(self.ours, self.full)
        if self.ours is None or self.full is None or lost is None:
            return None
        return 0.0 if lost > LOST else float(1 - self.ours["energy_j"] / self.full["energy_j"])

    def targets(self) -> Iterator[Row]:
        """Yield what the cell is held against."""
        if self.is_ample:
            if self.lost is not None:
                yield at_most("SLO attainment lost to full clocks", self.lost, "share", LOST)
            if self.saved is not None:
                yield at_least("joules saved over full clocks", self.saved, "share", SAVED)
            return
        if self.ours is None:
            return
        ratio, error = self.good_over(self.best_rival), self.ours["relative_mae"]
        if ratio is not None:
            yield at_least("good requests/s over the best rival", ratio, "ratio", 1.0)
        yield at_most("energy above the budget", self.ours["over_budget_share"], "share", KEPT)
        if error is not None:
            yield at_most("error of the draw", error, "share", ERROR)


def cells_of(rows: Sequence[Row]) -> list[Cell]:
    """Return the cells of a table in its order."""
    keys = dict.fromkeys((row["traffic"], row["happening"]) for row in rows)
    return [
        Cell(*key, [row for row in rows if (row["traffic"], row["happening"]) == key])
        for key in keys
    ]


def targets(cells: Sequence[Cell]) -> list[Row]:
    """Return the worst cell of each target, with its name."""
    found: dict[str, Row] = {}
    for cell in cells:
        for target in cell.targets():
            row = target | {"cell": f"{cell.traffic}, {cell.happening}"}
            other = found.setdefault(target["name"], row)
            if _shortfall(row) > _shortfall(other):
                found[target["name"]] = row
    return list(found.values())


def short_of_target(cells: Sequence[Cell]) -> list[Row]:
    """Return what falls short, cell by cell."""
    return [
        {"traffic": cell.traffic, "happening": cell.happening, **target}
        for cell in cells
        for target in cell.targets()
        if not target["met"]
    ]


def _lost(row: Row | None, full: Row | None) -> float | None:
    """Return the SLO attainment that a policy loses to full clocks; None if either is unknown."""
    if row is None or full is None:
        return None
    attained, at_full = row["slo_attainment"], full["slo_attainment"]
    return None if None in (attained, at_full) else float(at_full - attained)


def _shortfall(target: Row) -> float:
    """Return by how much a value is on the wrong side of its target; below 0 if it is met."""
    sign = -1 if target["name"].startswith(("joules saved", "good requests")) else 1
    return float(sign * (target["value"] - target["target"]))


def show(cells: Sequence[Cell]) -> None:
    """Print the table for people."""
    table = Table(title="Policies by traffic; simulated, energy modelled")
    for heading in (
        "traffic", "happening", "policy", "SLO", "good/s", "tokens", "MJ", "over", "error",
        "TTFT p50", "p95", "TPOT p95",
    ):  # fmt: skip
        table.add_column(heading)
    for cell in cells:
        for row in cell.rows.values():
            table.add_row(cell.traffic, cell.happening, row["policy"], *_shown(row))
        table.add_section()
    Console(width=150).print(table)


def _shown(row: Row) -> Iterator[str]:
    yield _share(row["slo_attainment"], "{:.1%}")
    yield f"{row['request_goodput']:.2f}"
    yield f"{row['output_tokens'] / 1e6:.2f} M"
    yield f"{row['energy_j'] / 1e6:.2f}"
    yield f"{row['over_budget_share']:.3%}"
    yield _share(row["relative_mae"], "{:.2%}")
    yield _share(row["ttft_p50_s"], "{:.2f} s")
    yield _share(row["ttft_p95_s"], "{:.2f} s")
    yield _share(row["tpot_p95_s"], "{:.3f} s")


def _share(value: float | None, shape: str) -> str:
    return UNKNOWN if value is None else shape.format(value)


def show_targets(found: Sequence[Row], short: Sequence[Row]) -> None:
    """Print the worst cell of each target, and the cells that fall short, a line each."""
    lines = [
        f"{row['name']}: worst {row['value']:.4g} (target {row['target']:g}), {row['cell']}"
        for row in found
    ]
    lines += [
        f"short: {row['traffic']}, {row['happening']}: {row['name']} {row['value']:.4g} "
        f"(target {row['target']:g})"
        for row in short
    ]
    Console(width=150).print("\n".join(lines), highlight=False)

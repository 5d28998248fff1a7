"""Console output of a load test: a progress line, then a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

from steppe.load.replay import ReplayProgress

Summary = dict[str, object]

_COUNTS = (
    ("completed", "completed"),
    ("failed", "failed"),
    ("rejected (429)", "rejected"),
    ("shed (503)", "shed"),
    ("cancelled", "cancelled"),
    ("not sent", "not_sent"),
    ("503s waited out", "retries"),
    ("duration, s", "duration"),
    ("prompt tokens", "total_input_tokens"),
    ("output tokens", "total_output_tokens"),
    ("requests/s", "request_throughput"),
    ("good requests/s", "request_goodput"),
    ("SLO attainment", "slo_attainment"),
    ("output tokens/s", "output_throughput"),
    ("most outstanding", "max_concurrent_requests"),
)
_TIMES = (("TTFT", "ttft"), ("TPOT", "tpot"), ("ITL", "itl"), ("E2E", "e2el"))
_KINDS = ("mean", "median", "p95", "p99")


@contextmanager
def show_progress(
    console: Console, *, requests: int | None = None, duration_s: float | None = None
) -> Iterator[Callable[[ReplayProgress], None]]:
    """Show a progress line on a terminal, nothing elsewhere; yields the function that updates it.

    Args:
        console: Where to show it.
        requests: Requests to send, where their number is fixed.
        duration_s: Length of the load, s, where that is fixed instead.
    """
    columns = (
        TextColumn("sent {task.fields[sent]}"),
        BarColumn(),
        TextColumn("running {task.fields[now].running}"),
        TextColumn("done {task.fields[now].completed}"),
        TextColumn("unserved {task.fields[now].unserved}"),
        TextColumn("{task.fields[tps]:.0f} tok/s"),
        TimeRemainingColumn(),
    )
    total = duration_s if requests is None else requests
    with Bar(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("load", total=total, now=ReplayProgress(), sent="0", tps=0.0)

        def show(now: ReplayProgress) -> None:
            ended = now.elapsed_s if requests is None else now.completed + now.unserved
            sent = f"{now.sent}" if requests is None else f"{now.sent}/{requests}"
            tps = now.output_tokens / max(now.elapsed_s, 1e-9)
            bar.update(task, completed=ended, now=now, sent=sent, tps=tps)

        yield show


def summary_tables(summary: Summary) -> tuple[Table, Table]:
    """Return the totals, and the latencies in ms, of a finished load test."""
    totals = Table(show_header=False, box=None)
    totals.add_column(style="bold")
    totals.add_column(justify="right")
    for label, key in _COUNTS:
        totals.add_row(label, _shown(summary[key]))
    times = Table("ms", box=None)
    for kind in _KINDS:
        times.add_column(kind, justify="right")
    for label, key in _TIMES:
        times.add_row(label, *(_shown(summary[f"{kind}_{key}_ms"]) for kind in _KINDS))
    return totals, times


def _shown(value: object) -> str:
    match value:
        case None:
            return "-"
        case float():
            return f"{value:,.2f}"
        case _:
            return f"{value:,}"

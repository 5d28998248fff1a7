"""Shows how far a job is: a bar on a terminal, elsewhere a line from time to time."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import datetime

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from steppe.batch.runner.progress import Finish, RunProgress
from steppe.report.quantities import UNKNOWN, count, quantity, share, span

LINE_S = 10.0
"""Time between two lines where there is no terminal, s."""

_MODELLED = {"emulated": " (emulated)", "estimated": " (estimated)"}

OnProgress = Callable[[RunProgress], None]


def progress_text(progress: RunProgress, now_epoch_s: float) -> str:
    """Return the state of a job in one line, without its rows."""
    rates = progress.rates
    parts = [
        f"{rates.rows_per_s:.3g} rows/s",
        f"{rates.output_tps:.3g} tokens/s",
        f"{_three(rates.tokens_per_joule)} tokens/J",
        f"{quantity(rates.draw_w or None, 'W')}{_MODELLED.get(progress.energy_source, '')}",
    ]
    if progress.surplus_share is not None:
        parts.append(f"{share(progress.surplus_share)} surplus")
    if progress.failed:
        parts.append(f"{count(progress.failed)} failed")
    if progress.left and not progress.outstanding and progress.reason:
        parts.append(progress.reason.replace("_", " "))
    parts.append(finish_text(progress.finish, now_epoch_s))
    return ", ".join(parts)


def finish_text(finish: Finish, now_epoch_s: float) -> str:
    """Return when a job is expected to be done, and how sure that is."""
    if finish.at_epoch_s is None:
        return "end unknown"
    left_s = max(0.0, finish.at_epoch_s - now_epoch_s)
    at = datetime.fromtimestamp(finish.at_epoch_s).astimezone()
    clock = at.strftime("%H:%M" if left_s < 43_200 else "%a %H:%M")
    text = f"done {clock} (in {span(left_s)}"
    if finish.spread_s is not None:
        text += f" ± {span(finish.spread_s)}"
    if finish.sure is not None:
        text += f", in time with {share(finish.sure)}"
    return text + ")"


@contextmanager
def batch_progress(
    console: Console, now_s: Callable[[], float] = time.monotonic
) -> Generator[OnProgress]:
    """Show each state that the function gets inside the block."""
    columns = (
        TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
        BarColumn(),
        TextColumn("{task.description}"),
    )
    next_line_s = now_s()
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", total=1)

        def show(progress: RunProgress) -> None:
            nonlocal next_line_s
            text = progress_text(progress, time.time())
            bar.update(task, total=progress.total, completed=progress.done, description=text)
            if not console.is_terminal and (now_s() >= next_line_s or not progress.left):
                next_line_s = now_s() + LINE_S
                rows = f"{count(progress.done)}/{count(progress.total)} rows"
                console.print(f"{rows}, {text}", soft_wrap=True, markup=False, highlight=False)

        yield show


def _three(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.3g}"

"""How far the probes of a GPU have come, and how long they still take."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from steppe.run.sweep_progress import in_words


@contextmanager
def probe_progress(console: Console) -> Generator[Callable[[int, int], None]]:
    """Say which clock is probed and how long the others take: a bar, or lines without a terminal.

    Yields the function that takes the number of clocks that are done, and of all.
    """
    columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
    begun_s: float | None = None
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("measuring the draw at rest", total=None)

        def on_clock(done: int, total: int) -> None:
            nonlocal begun_s
            begun_s = time.monotonic() if begun_s is None else begun_s
            bar.update(task, description="probing", completed=done, total=total)
            if not console.is_terminal:
                spent_s = time.monotonic() - begun_s
                left = f", {in_words(spent_s / done * (total - done))} left" if done else ""
                console.print(f"probed {done} of {total} clocks{left}", highlight=False)

        yield on_clock

"""Closes the record of a run whose process was killed: the summary of what is on disk."""

from __future__ import annotations

import contextlib
import fcntl
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import orjson

from steppe.report.continued import both_reasons
from steppe.report.figures import run_figure
from steppe.report.record_folder import (
    BOOKS_FILE,
    FIGURE_FILE,
    SUMMARY_FILE,
    each_request,
    is_being_recorded,
    read_ticks,
    summary_text,
)
from steppe.report.records import RunTotals, Slo, TickRecord
from steppe.report.summary import Summary, summarise

KILLED = "the process of the run was killed"


def close_broken_record(folder: Path, why: str = KILLED) -> Summary | None:
    """Write the summary and the figure that a killed run could not write.

    The joules are those of the recorded ticks, so that they belong to the same time as the tokens
    of the recorded requests. Idle and transition energy are as of the last checkpoint; all that no
    recorded request explains is unclaimed, such as the energy of requests that were open.

    Two processes may do so at the same time: the one that cleans up after the run, and the next
    run. The second waits for the first, and finds nothing left to do.

    Args:
        folder: The record folder.
        why: Why the run ended; the requests that were under way are added.

    Returns:
        The summary; None if the folder has one already, the run did not get so far, or another run
        goes on with the record.

    Raises:
        UsageError: A line is not a record.
        OSError: The folder cannot be read or written.
    """
    with _books(folder) as books:
        if books is None or (folder / SUMMARY_FILE).exists() or is_being_recorded(folder):
            return None
        return _close(folder, orjson.loads(books.read()), why)


@contextmanager
def _books(folder: Path) -> Iterator[IO[bytes] | None]:
    """Open the totals so far, and hold them against other processes; None if there are none."""
    try:
        books = (folder / BOOKS_FILE).open("rb")
    except FileNotFoundError:
        yield None
        return
    with books:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(books, fcntl.LOCK_EX)
        yield books


def _close(folder: Path, found: dict[str, Any], why: str) -> Summary:
    totals, slo = RunTotals.read(found["totals"]), Slo.read(found["slo"])
    ticks = read_ticks(folder)
    energy_j = math.fsum(tick.energy_j for tick in ticks)
    requests_j = math.fsum(request.energy_j or 0.0 for request in each_request(folder))
    known_j = totals.idle_energy_j + totals.transition_energy_j + requests_j
    totals = replace(
        totals,
        duration_s=max(totals.duration_s, ticks[-1].t_s if ticks else 0.0),
        energy_j=max(energy_j, known_j),
        unclaimed_energy_j=max(0.0, energy_j - known_j),
        broke_off=both_reasons(totals.broke_off, f"{why}{_under_way(ticks)}"),
    )
    summary = summarise(ticks, each_request(folder), totals, slo)
    (folder / SUMMARY_FILE).write_text(summary_text(summary))
    run_figure(ticks, summary, folder / FIGURE_FILE)
    (folder / BOOKS_FILE).unlink(missing_ok=True)
    return summary


def _under_way(ticks: Sequence[TickRecord]) -> str:
    """Return how many requests the last tick had under way, which no record has."""
    open_ = ticks[-1].running + ticks[-1].waiting if ticks else 0
    return f" with {open_} requests under way" if open_ else ""

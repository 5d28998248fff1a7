"""Closes the record of a run whose process was killed: the summary of what is on disk."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from steppe.report.figures import run_figure
from steppe.report.record_folder import (
    BOOKS_FILE,
    FIGURE_FILE,
    SUMMARY_FILE,
    each_request,
    read_ticks,
    summary_text,
)
from steppe.report.records import RunTotals, Slo
from steppe.report.summary import Summary, summarise

KILLED = "the process of the run was killed"


def close_broken_record(folder: Path, why: str = KILLED) -> Summary | None:
    """Write the summary and the figure that a killed run could not write.

    The joules are those of the recorded ticks, so that they belong to the same time as the tokens
    of the recorded requests. Idle and transition energy are as of the last checkpoint; all that no
    recorded request explains is unclaimed, such as the energy of requests that were open.

    Args:
        folder: The record folder.
        why: Why the run ended.

    Returns:
        The summary; None if the folder has one already, or the run did not get so far.

    Raises:
        UsageError: A line is not a record.
        OSError: The folder cannot be read or written.
    """
    books = folder / BOOKS_FILE
    if (folder / SUMMARY_FILE).exists() or not books.is_file():
        return None
    found: dict[str, Any] = orjson.loads(books.read_bytes())
    totals, slo = RunTotals(**found["totals"]), Slo(**found["slo"])
    ticks = read_ticks(folder)
    energy_j = math.fsum(tick.energy_j for tick in ticks)
    requests_j = math.fsum(request.energy_j or 0.0 for request in each_request(folder))
    known_j = totals.idle_energy_j + totals.transition_energy_j + requests_j
    totals = replace(
        totals,
        duration_s=max(totals.duration_s, ticks[-1].t_s if ticks else 0.0),
        energy_j=max(energy_j, known_j),
        unclaimed_energy_j=max(0.0, energy_j - known_j),
        broke_off=why,
    )
    summary = summarise(ticks, each_request(folder), totals, slo)
    (folder / SUMMARY_FILE).write_text(summary_text(summary))
    run_figure(ticks, summary, folder / FIGURE_FILE)
    books.unlink()
    return summary

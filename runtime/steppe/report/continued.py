"""Goes on with the record of an earlier run, so that one folder has several runs of one service."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import orjson

from steppe.errors import UsageError
from steppe.report.ledger_totals import LedgerTotals
from steppe.report.records import RunTotals, TickRecord
from steppe.report.summary import Summary

LEAST_GAP_S = 1.0
"""Least time between the last tick of a run and the begin of the next one, s."""
CARRIED_ON = (
    "energy_source", "energy_j", "idle_energy_j", "transition_energy_j", "energy_error_j",
    "unclaimed_energy_j", "wasted_energy_j", "neighbour_energy_j", "prompt_tokens", "output_tokens",
    "requests", "lost_ticks", "lost_requests", "gateway_restarts", "broke_off",
)  # fmt: skip
"""What of the summary of a run is added to that of the next one."""


@dataclass(frozen=True, slots=True)
class EarlierRun:
    """The run, or runs, that a record folder has already.

    Attributes:
        summary: What they achieved.
        offset_s: When the next run begins, s since the first one began.
    """

    summary: Summary
    offset_s: float

    @classmethod
    def read(cls, summary_file: Path, ticks_file: Path, last_s: float) -> EarlierRun:
        """Read it from a folder whose runs have ended.

        Args:
            summary_file: Its summary.
            ticks_file: Its ticks; the file was written last with the last tick.
            last_s: The time of that tick, s since the first run began.

        Raises:
            OSError: A file cannot be read.
            UsageError: An older Steppe wrote the summary, and it lacks what is carried on.
        """
        summary = cast("Summary", orjson.loads(summary_file.read_bytes()))
        if missing := [name for name in CARRIED_ON if name not in summary]:
            maker = f"steppe {summary.get('versions', {}).get('steppe', 'of unknown version')}"
            asked = f"asked to go on with a run, found no {', '.join(missing)} in that of {maker}"
            raise UsageError(f"{summary_file}: {asked}: record in a new folder")
        gap_s = max(LEAST_GAP_S, time.time() - ticks_file.stat().st_mtime)
        return cls(summary, last_s + gap_s)

    @property
    def gap(self) -> TickRecord:
        """A tick that ends the time without a run: nothing was offered, and nothing drawn."""
        return TickRecord(self.offset_s, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0, 0, replicas=())

    def before(self, totals: RunTotals) -> RunTotals:
        """Return the totals of these runs and of one that follows them."""
        earlier = self.summary
        is_same = earlier["energy_source"] == totals.energy_source
        return replace(
            totals,
            duration_s=self.offset_s + totals.duration_s,
            energy_source=totals.energy_source if is_same else "estimated",
            energy_j=earlier["energy_j"] + totals.energy_j,
            idle_energy_j=earlier["idle_energy_j"] + totals.idle_energy_j,
            transition_energy_j=earlier["transition_energy_j"] + totals.transition_energy_j,
            energy_error_j=earlier["energy_error_j"] + totals.energy_error_j,
            unclaimed_energy_j=earlier["unclaimed_energy_j"] + totals.unclaimed_energy_j,
            neighbour_energy_j=earlier["neighbour_energy_j"] + totals.neighbour_energy_j,
            lost_ticks=earlier["lost_ticks"] + totals.lost_ticks,
            lost_requests=earlier["lost_requests"] + totals.lost_requests,
            gateway_restarts=earlier["gateway_restarts"] + totals.gateway_restarts,
            broke_off=both_reasons(earlier["broke_off"], totals.broke_off),
            ledger=(*_ledger_of(earlier), *totals.ledger),
        )


def _ledger_of(summary: Summary) -> tuple[LedgerTotals, ...]:
    """Return what the runs of a summary have booked; older summaries have none."""
    return tuple(LedgerTotals(**each) for each in summary.get("ledger", ()))


def both_reasons(earlier: str, later: str) -> str:
    """Return why runs of one record broke off, in one text; empty if none did."""
    return "; ".join(reason for reason in (earlier, later) if reason)

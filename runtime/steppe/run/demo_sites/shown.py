"""What the figure and the end of the demo show of the records of its sites."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from steppe.report.site_days_figure import (
    DayShown,
    SiteDay,
    mean_in_bins,
    site_days_figure,
    spread_over_bins,
)
from steppe.run.demo_sites.places import ANYWHERE, NEAREST
from steppe.run.demo_sites.served import Phase, PhaseSums, SiteRecord, served_in, sums_of

BINS = 48
"""Most parts of a day in the figure: half an hour each."""
_LEAST_S = 2.0
"""Least length of a part, s: two ticks."""
TITLES = {NEAREST: "Nearest site", ANYWHERE: "Steppe"}


def parts_of(day_s: float) -> int:
    """Return in how many parts the figure shows a day."""
    return max(1, min(BINS, int(day_s / _LEAST_S)))


def day_of(record: SiteRecord, phase: Phase, homes: Sequence[str], bins: int) -> SiteDay:
    """Return what the figure shows of a site in a phase.

    Args:
        record: The record of the site.
        phase: The phase.
        homes: All sites.
        bins: Parts of the day.
    """
    begun_s = phase.begun_epoch_s - record.begun_epoch_s
    ticks = record.windows(begun_s, begun_s + phase.day_s)
    times = (np.array([tick.t_s for tick in ticks]) - begun_s) / phase.day_s
    own_w = np.array([max(0.0, tick.supply_w - record.firm_w) for tick in ticks])
    draw_w = np.array([tick.site_w or tick.draw_w for tick in ticks])
    return SiteDay(
        record.name,
        np.nan_to_num(mean_in_bins(times, own_w, bins)),
        mean_in_bins(times, draw_w, bins),
        _served_tps(record, phase, homes, bins),
    )


def _served_tps(
    record: SiteRecord, phase: Phase, homes: Sequence[str], bins: int
) -> dict[str, np.ndarray]:
    served = served_in(record, phase)
    found = {}
    for home in homes:
        own = [each for each in served if each.home == home]
        begins, ends = (
            (np.array(epochs_s, dtype=float) - phase.begun_epoch_s) / phase.day_s
            for epochs_s in (
                [each.begun_epoch_s for each in own],
                [each.ended_epoch_s for each in own],
            )
        )
        tokens = np.array([each.tokens for each in own], dtype=float)
        found[home] = spread_over_bins(begins, ends, tokens, bins) / (phase.day_s / bins)
    return found


def draw_figure(records: Sequence[SiteRecord], phases: Sequence[Phase], path: Path) -> None:
    """Draw the phases side by side.

    Args:
        records: The records of the sites.
        phases: The phases, in the order from left to right.
        path: The PNG file to write.
    """
    homes = [record.name for record in records]
    sums = {phase.name: sums_of(records, phase) for phase in phases}
    days = [
        DayShown(
            TITLES[phase.name],
            outcome_line(sums[phase.name]),
            [day_of(record, phase, homes, parts_of(phase.day_s)) for record in records],
        )
        for phase in phases
    ]
    source = next((r.energy_source for each in records for r in each.requests), "emulated")
    site_days_figure(days, "A day of wind and sun at three sites", source, path)


def outcome_line(sums: PhaseSums) -> str:
    """Return in a line what came of a phase."""
    share = f"{sums.on_surplus} of {sums.served} requests on surplus"
    return f"{share}, {sums.moved} moved" if sums.moved else share


def document(
    sums: Mapping[str, PhaseSums], latencies: Mapping[str, Mapping[str, float | None]]
) -> dict[str, object]:
    """Return the result of each phase as JSON values.

    Args:
        sums: What the sites did, by phase.
        latencies: What the clients saw, by phase.
    """
    return {
        name: {
            "requests": each.served,
            "on_surplus": each.on_surplus,
            "surplus_share": each.surplus_share,
            "moved": each.moved,
            "moved_share": each.moved_share,
            "moved_to": dict(each.moved_to),
            "output_tokens": each.tokens,
            "energy_j": each.energy_j,
            "bought_j": each.bought_j,
            **latencies[name],
        }
        for name, each in sums.items()
    }

"""Quick measurements of a fleet's frontier: the points, and one short window for each.

The same measurement as `steppe bench sweep`, under one load of each phase that runs throughout, so
that a point needs no warm-up of its own. A fit through all points makes up for the short windows.
"""

from __future__ import annotations

from collections.abc import Sequence

from steppe.config import SweepSection
from steppe.measure.sweep.frontier import Offer
from steppe.measure.sweep.grid import SweepGrid, powers_of_two, spread_clocks
from steppe.measure.sweep.idle import SETTLE_S
from steppe.measure.sweep.point import MeasurePlan
from steppe.measure.sweep.result import Setting
from steppe.roofline.lengths import RequestLengths

WARM_UP_S = 4.0
DENSE_CLOCKS = 20
APART_CLOCKS = 3
"""Clocks at which prefill and decode are also measured alone. The costs of a step are interpolated
between them: at half of the highest clock and above that is good to 4 % of a time."""


def quick_settings(
    supported_mhz: Sequence[int], section: SweepSection, largest: int
) -> list[Setting]:
    """Return the points to measure, the fastest first.

    Args:
        supported_mhz: Clocks that the GPUs can be limited to, rising, MHz.
        section: How many clocks, which batch limits, and the lengths of the requests.
        largest: Largest batch limit.
    """
    clocks_mhz = spread_clocks(supported_mhz, section.clocks, section.lowest_clock_share)
    grid = SweepGrid(
        clocks_mhz=clocks_mhz,
        batch_limits=section.batch_limits or powers_of_two(largest),
        lengths=((section.prompt_tokens, section.output_tokens),),
        apart_clocks_mhz=spread_clocks(clocks_mhz, APART_CLOCKS),
    )
    return grid.settings


def dense_offer(
    supported_mhz: Sequence[int],
    section: SweepSection,
    largest: int,
    tokens_per_step: int | None = None,
) -> Offer:
    """Return the points that a computed frontier offers.

    Args:
        supported_mhz: As for `quick_settings`.
        section: As for `quick_settings`.
        largest: Largest batch limit.
        tokens_per_step: Most tokens that the engine computes in a step; None if unknown.
    """
    return Offer(
        clocks_mhz=spread_clocks(supported_mhz, DENSE_CLOCKS, section.lowest_clock_share),
        largest=largest,
        prompt_tokens_per_output=section.prompt_tokens / section.output_tokens,
        lengths=RequestLengths(section.prompt_tokens, section.output_tokens),
        tokens_per_step=tokens_per_step,
    )


def quick_plan(window_s: float) -> MeasurePlan:
    """Return how a point is measured under a load that runs throughout: in one window."""
    return MeasurePlan(
        windows=1,
        window_s=window_s,
        warm_up_s=SETTLE_S,
        longest_warm_up_s=SETTLE_S,
        longest_settle_s=0.0,
    )

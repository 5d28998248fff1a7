"""The frontier that follows from measured points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from steppe.errors import InfeasibleError
from steppe.frontier.fit import FrontierFit, SweepWindow, fit_frontier
from steppe.frontier.pareto import Frontier
from steppe.measure.sweep.result import Phase, PointResult, RestWatts
from steppe.measure.sweep.step_samples import measured_costs
from steppe.roofline.lengths import RequestLengths
from steppe.roofline.point import OperatingPoint
from steppe.roofline.step_costs import StepCosts

FEWEST_FOR_FIT = 3


@dataclass(frozen=True, slots=True)
class Offer:
    """The operating points that a frontier offers between the measured ones.

    Attributes:
        clocks_mhz: Clock limits, MHz; empty where the clock cannot be set.
        largest: Largest batch limit; smaller ones follow in steps of about a quarter.
        prompt_tokens_per_output: Prompt tokens for each output token of the load.
        lengths: The mean request of the load; None if it is not stated.
        tokens_per_step: Most tokens that the engine computes in a step; None if unknown, so that
            the costs of a step are not fitted.
    """

    clocks_mhz: tuple[int, ...]
    largest: int
    prompt_tokens_per_output: float
    lengths: RequestLengths | None = None
    tokens_per_step: int | None = None

    @property
    def batch_limits(self) -> list[int]:
        """Batch limits, rising."""
        return sorted({max(1, round(self.largest * 0.75**i)) for i in range(20)})


def fit_points(points: Sequence[PointResult]) -> FrontierFit:
    """Fit the frontier's curves through measured points, one long window each.

    Raises:
        InfeasibleError: Fewer than three of them gave tokens.
    """
    return fit_frontier([_whole(point) for point in points])


def fitted_frontier(
    fit: FrontierFit,
    rest: RestWatts,
    source: str,
    offer: Offer,
    costs: StepCosts | None = None,
) -> Frontier:
    """Return a dense frontier along fitted curves.

    Args:
        fit: Curves through the measured points.
        rest: Draw of the replica without work.
        source: `measured` or `emulated`.
        offer: Operating points to offer.
        costs: What a step costs; None if unknown.
    """
    points = [
        fit.point(clock, batch, offer.prompt_tokens_per_output)
        for clock in offer.clocks_mhz or (0,)
        for batch in offer.batch_limits
    ]
    frontier = Frontier.of(points, rest.frontier_asleep_w, rest.idle_w, source)
    return frontier.with_costs(costs, offer.lengths)


def frontier_from(
    points: Sequence[PointResult], rest: RestWatts, source: str, offer: Offer | None
) -> Frontier:
    """Return the frontier that a sweep found; only sound points are used.

    Mixed points make its operating points. With those of prefill alone and decode alone they also
    give the costs of a step, from which points for other requests follow.

    Args:
        points: The measured points.
        rest: Draw of the replica without work.
        source: `measured` or `emulated`.
        offer: Operating points to offer between the measured ones, along fitted curves; None
            where engine steps were not counted. Then, and with fewer than three points, the
            measured ones alone are offered.

    Raises:
        InfeasibleError: No sound point gave tokens, or the replica draws no less asleep than at its
            leanest point, as when another load ran on the GPU while its draw at rest was measured.
    """
    used = sound_mixed(points)
    if offer is not None and len(used) >= FEWEST_FOR_FIT:
        frontier = fitted_frontier(fit_points(used), rest, source, offer, costs_of(points, offer))
    else:
        asleep_w, idle_w = rest.frontier_asleep_w, rest.idle_w
        frontier = Frontier.of(map(_as_measured, used), asleep_w, idle_w, source)
    if frontier.asleep_w >= frontier.floor.draw_w:
        raise InfeasibleError(
            f"asked for a frontier, found {frontier.asleep_w:g} W asleep, no less than the "
            f"{frontier.floor.draw_w:g} W of the point that draws least"
        )
    return frontier


def costs_of(points: Sequence[PointResult], offer: Offer) -> StepCosts | None:
    """Return the costs of a step by measured points; None if these do not determine them."""
    if offer.tokens_per_step is None:
        return None
    return measured_costs(points, offer.tokens_per_step)


def sound_mixed(points: Sequence[PointResult]) -> list[PointResult]:
    """Return the sound points whose load was the mix that a replica serves."""
    return [p for p in points if p.is_sound and p.setting.phase is Phase.MIXED]


def _whole(point: PointResult) -> SweepWindow:
    windows = point.windows
    return SweepWindow(
        clock_mhz=point.setting.clock_mhz,
        batch_limit=point.setting.batch_limit,
        duration_s=sum(window.duration_s for window in windows),
        energy_j=sum(window.energy_j for window in windows),
        steps=sum(window.steps for window in windows),
        prompt_tokens=sum(window.prompt_tokens for window in windows),
        output_tokens=sum(window.output_tokens for window in windows),
    )


def _as_measured(point: PointResult) -> OperatingPoint:
    whole = _whole(point)
    output_tps = whole.output_tokens / whole.duration_s
    batch = point.setting.batch_limit
    return OperatingPoint(
        point.setting.clock_mhz, batch, output_tps, whole.draw_w, batch / output_tps
    )

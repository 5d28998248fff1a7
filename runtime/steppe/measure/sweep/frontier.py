"""The frontier that follows from measured points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from steppe.errors import InfeasibleError
from steppe.frontier.fit import FrontierFit, SweepWindow, fit_frontier
from steppe.frontier.pareto import Frontier
from steppe.measure.sweep.length_sample import LengthSample
from steppe.measure.sweep.result import Phase, PointResult, RestWatts
from steppe.measure.sweep.step_samples import measured_costs
from steppe.roofline.lengths import RequestLengths
from steppe.roofline.point import OperatingPoint
from steppe.roofline.step_costs import StepCosts

FEWEST_FOR_FIT = 3
WORST_MEDIAN = 0.1
"""Largest median error of a fit that is used, of time and of draw: half of a modelled frontier's
for the worst tenth of models (20 %). A worse fit would lose what measuring gains."""
WORST_TAIL = 0.2
"""Largest error that a tenth of the points may exceed."""


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


@dataclass(frozen=True, slots=True)
class SweptFrontier:
    """The frontier of a sweep, and what was fitted to its points.

    Attributes:
        frontier: The operating points, with the costs of a step if these were fitted.
        fit: The curves through the points, also if they were refused; None where there are fewer
            than three points, or engine steps were not counted.
        refused: Why a fit was not used, a line for each; empty if nothing was refused.
    """

    frontier: Frontier
    fit: FrontierFit | None = None
    refused: tuple[str, ...] = ()


def frontier_from(
    points: Sequence[PointResult],
    rest: RestWatts,
    source: str,
    offer: Offer | None,
    sample: LengthSample | None = None,
) -> SweptFrontier:
    """Return the frontier that a sweep found; only sound points are used.

    Mixed points make its operating points. With those of prefill alone and decode alone they also
    give the costs of a step, from which points for other requests follow. A fit that the points lie
    too far from is refused: then the points are offered as they were measured, without costs. If
    only the costs do not fit, the curves are used without them.

    Args:
        points: The measured points.
        rest: Draw of the replica without work.
        source: `measured` or `emulated`.
        offer: Operating points to offer between the measured ones, along fitted curves; None
            where engine steps were not counted. Then, and with fewer than three points, the
            measured ones alone are offered.
        sample: Lengths of the requests. Mixed points that name another sample are left out.

    Raises:
        InfeasibleError: No sound point gave tokens, or the replica draws no less asleep than at its
            leanest point, as when another load ran on the GPU while its draw at rest was measured.
    """
    digest = sample.digest if sample else ""
    points = [p for p in points if p.setting.phase is Phase.DECODE or p.setting.sample == digest]
    used = sound_mixed(points)
    lengths = sample.lengths if sample else None if offer is None else offer.lengths
    if offer is None or len(used) < FEWEST_FOR_FIT:
        swept = SweptFrontier(_measured_frontier(used, rest, source, lengths))
    else:
        swept = _fitted(points, rest, source, offer, sample)
    frontier = swept.frontier
    if frontier.asleep_w >= frontier.floor.draw_w:
        raise InfeasibleError(
            f"asked for a frontier, found {frontier.asleep_w:g} W asleep, no less than the "
            f"{frontier.floor.draw_w:g} W of the point that draws least"
        )
    return swept


def _fitted(
    points: Sequence[PointResult],
    rest: RestWatts,
    source: str,
    offer: Offer,
    sample: LengthSample | None,
) -> SweptFrontier:
    """Return the frontier along fitted curves, or the measured points if they do not fit."""
    used = sound_mixed(points)
    fit = fit_points(used)
    if (problem := _problem_of(fit)) is not None:
        return SweptFrontier(_measured_frontier(used, rest, source, offer.lengths), fit, (problem,))
    costs = costs_of(points, offer, sample)
    problem = None if costs is None else _costs_problem(costs)
    if problem is None:
        return SweptFrontier(fitted_frontier(fit, rest, source, offer, costs), fit)
    return SweptFrontier(fitted_frontier(fit, rest, source, offer), fit, (problem,))


def _measured_frontier(
    used: Sequence[PointResult], rest: RestWatts, source: str, lengths: RequestLengths | None
) -> Frontier:
    """Return the points as measured; of several lengths the first, for a limit counts once."""
    first = [_lengths_of(point) for point in used[:1]]
    points = [_as_measured(point) for point in used if _lengths_of(point) in first]
    frontier = Frontier.of(points, rest.frontier_asleep_w, rest.idle_w, source)
    return frontier.with_costs(None, lengths)


def _lengths_of(point: PointResult) -> tuple[int, int]:
    return point.setting.prompt_tokens, point.setting.output_tokens


def _problem_of(fit: FrontierFit) -> str | None:
    """Return why curves are not used, in one line; None if they are."""
    errors = {"time": (fit.time_error, fit.time_tail), "draw": (fit.draw_error, fit.draw_tail)}
    for what, (median, tail) in errors.items():
        if median > WORST_MEDIAN or tail > WORST_TAIL:
            return (
                f"the fit is refused, and the points are used as measured: asked for errors of the "
                f"{what} of at most {WORST_MEDIAN:.0%} (median) and {WORST_TAIL:.0%} (worst "
                f"tenth), found {median:.1%} and {tail:.1%}"
            )
    return None


def _costs_problem(costs: StepCosts) -> str | None:
    """Return why costs are not used, in one line; None if they are."""
    for what, error in (("time", costs.time_error), ("energy", costs.energy_error)):
        if error > WORST_MEDIAN:
            return (
                f"the costs of a step are refused, so plans keep the lengths of the sweep: asked "
                f"for a median error of the {what} of at most {WORST_MEDIAN:.0%} on points that "
                f"were left out, found {error:.1%}"
            )
    return None


def costs_of(
    points: Sequence[PointResult], offer: Offer, sample: LengthSample | None = None
) -> StepCosts | None:
    """Return the costs of a step by measured points; None if these do not determine them."""
    if offer.tokens_per_step is None:
        return None
    return measured_costs(points, offer.tokens_per_step, sample=sample)


def provenance_of_fit(swept: SweptFrontier) -> dict[str, Any]:
    """Return how well curves and costs fit, and what was refused, as JSON values."""
    values: dict[str, Any] = {}
    fit, costs = swept.fit, swept.frontier.costs
    if fit is not None:
        values |= {
            name: round(getattr(fit, name), 4)
            for name in ("time_error", "draw_error", "time_tail", "draw_tail")
        }
    if costs is not None:
        values["step_time_error"] = round(costs.time_error, 4)
        values["step_energy_error"] = round(costs.energy_error, 4)
    if swept.refused:
        values["refused"] = list(swept.refused)
    return values


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

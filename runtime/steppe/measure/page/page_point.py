"""One measured operating point as a report shows it, and which one to choose."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """An estimate and its 95 % confidence interval; infinite ends where there is none."""

    value: float
    low: float
    high: float

    @property
    def is_bounded(self) -> bool:
        """Whether there is an interval."""
        return math.isfinite(self.low) and math.isfinite(self.high)


@dataclass(frozen=True, slots=True)
class BenchPoint:
    """One point of a sweep.

    Attributes:
        phase: `mixed`, `prefill` or `decode`.
        clock_mhz: SM clock limit, MHz; 0 where it cannot be set.
        batch_limit: Batch limit.
        prompt_tokens: Mean prompt length, tokens.
        output_tokens: Mean output length, tokens.
        output_tps: Output tokens/s.
        energy_per_output_token: J.
        energy_per_prompt_token: J; None where no prompt was computed.
        draw_w: Mean draw, W.
        tpot_s: Mean time between two tokens of a sequence, s; None for prefill alone.
        itl_p50_s: Median gap between two chunks as clients saw it, s; None if unknown.
        itl_p99_s: 99th percentile of it, s; None if unknown.
        flags: What was wrong; empty when nothing was.
        is_sound: Whether it may be chosen.
    """

    phase: str
    clock_mhz: int
    batch_limit: int
    prompt_tokens: int
    output_tokens: int
    output_tps: Span
    energy_per_output_token: Span
    energy_per_prompt_token: Span | None
    draw_w: Span
    tpot_s: float | None
    itl_p50_s: float | None
    itl_p99_s: float | None
    flags: tuple[str, ...]
    is_sound: bool

    @property
    def worst_gap_s(self) -> float | None:
        """What an SLO on the pace of tokens is held against, s: p99 where known, else the mean."""
        return self.tpot_s if self.itl_p99_s is None else self.itl_p99_s


@dataclass(frozen=True, slots=True)
class Choice:
    """A point to choose, and for what.

    Attributes:
        letter: How charts mark it.
        aim: What it is best at, in words.
        point: The point; None when none meets the aim.
        why: What it costs or saves beside the fastest point, in words.
    """

    letter: str
    aim: str
    point: BenchPoint | None
    why: str


def serving(points: Sequence[BenchPoint]) -> list[BenchPoint]:
    """Return the sound mixed points with the lengths of the first of them."""
    mixed = [point for point in points if point.phase == "mixed" and point.is_sound]
    lengths = {(p.prompt_tokens, p.output_tokens): None for p in mixed}
    first = next(iter(lengths), None)
    return [p for p in mixed if (p.prompt_tokens, p.output_tokens) == first]


def pareto(points: Sequence[BenchPoint]) -> list[BenchPoint]:
    """Return the points that no other beats on both tokens/s and J/token, by rising tokens/s."""
    kept: list[BenchPoint] = []
    for point in sorted(points, key=lambda p: -p.output_tps.value):
        if not kept or point.energy_per_output_token.value < kept[-1].energy_per_output_token.value:
            kept.append(point)
    return kept[::-1]


def choices(points: Sequence[BenchPoint], slo_s: float) -> tuple[Choice, Choice, Choice]:
    """Return the points to choose for least energy, most tokens, and an SLO.

    Args:
        points: Points of one load; at least one.
        slo_s: Longest gap between two tokens of a sequence, s.
    """
    fastest = max(points, key=lambda p: p.output_tps.value)
    leanest = min(points, key=_joules)
    within = [p for p in points if p.worst_gap_s is not None and p.worst_gap_s <= slo_s]
    quick = min(within, key=_joules, default=None)
    gap = f"{1000 * slo_s:.0f} ms"
    return (
        Choice("A", "the fewest joules per token", leanest, _beside(leanest, fastest, points)),
        Choice("B", "the most tokens per second", fastest, _beside(fastest, leanest, ())),
        Choice(
            "C",
            f"the fewest joules with at most {gap} between tokens",
            quick,
            _beside(quick, fastest, within) if quick else f"No measured point stays within {gap}.",
        ),
    )


def _joules(point: BenchPoint) -> float:
    return point.energy_per_output_token.value


def _beside(point: BenchPoint, other: BenchPoint, rivals: Sequence[BenchPoint]) -> str:
    """Say what a point costs beside another, and how many others may be as lean."""
    top = point.energy_per_output_token.high
    ties = sum(p is not point and p.energy_per_output_token.low <= top for p in rivals)
    others = "1 other point" if ties == 1 else f"{ties} other points"
    doubt = f" Within the errors, {others} may be as lean." if ties else ""
    if point is other:
        return "It is the leanest and the fastest point at once." + doubt
    energy = _joules(point) / _joules(other) - 1
    speed = point.output_tps.value / other.output_tps.value - 1
    knob = f"{other.clock_mhz} MHz and " if other.clock_mhz else ""
    name = f"{knob}batch limit {other.batch_limit}"
    return f"{energy:+.0%} energy per token and {speed:+.0%} tokens/s beside {name}.{doubt}"

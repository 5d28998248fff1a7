"""One measured point as tables and charts show it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from steppe.measure.statistics import Interval
from steppe.measure.sweep.result import Flag, Phase, PointResult

UNRELIABLE = frozenset({Flag.UNSETTLED, Flag.UNSTEADY, Flag.YOUNG})
"""With one of these flags a point is sound, but too uncertain to be recommended."""


@dataclass(frozen=True, slots=True)
class PointSummary:
    """One point of a sweep with its estimates.

    Attributes:
        phase: What its load consisted of.
        clock_mhz: SM clock limit, MHz; 0 where it cannot be set.
        batch_limit: Batch limit.
        prompt_tokens: Mean prompt length, tokens.
        output_tokens: Mean output length, tokens.
        output_tps: Output tokens/s.
        energy_per_output_token: J.
        energy_per_prompt_token: J; None where no prompt was computed.
        draw_w: Mean draw, W.
        window_s: Mean length of its windows, s.
        tpot_s: Mean time between two tokens of a sequence, s; None for prefill alone.
        itl_p50_s: Median gap between two chunks at the clients, s; None if unknown.
        itl_p99_s: 99th percentile of it, s; None if unknown.
        flags: What was wrong; empty when nothing was.
        is_sound: Whether it may be used.
    """

    phase: Phase
    clock_mhz: int
    batch_limit: int
    prompt_tokens: int
    output_tokens: int
    output_tps: Interval
    energy_per_output_token: Interval
    energy_per_prompt_token: Interval | None
    draw_w: Interval
    window_s: float
    tpot_s: float | None
    itl_p50_s: float | None
    itl_p99_s: float | None
    flags: tuple[Flag, ...]
    is_sound: bool

    @property
    def worst_gap_s(self) -> float | None:
        """The gap between tokens that an SLO limits, s: p99 where known, else the mean."""
        return self.tpot_s if self.itl_p99_s is None else self.itl_p99_s

    @property
    def doubts(self) -> tuple[Flag, ...]:
        """Flags that make it too uncertain to be recommended."""
        return tuple(flag for flag in self.flags if flag in UNRELIABLE)

    @property
    def name(self) -> str:
        """Its limits, for people."""
        clock = f"{self.clock_mhz} MHz, " if self.clock_mhz else ""
        return f"{clock}batch limit {self.batch_limit}"


def summarize(points: Sequence[PointResult]) -> tuple[PointSummary, ...]:
    """Return the summaries of the points that gave tokens."""
    summaries = (_summary(point) for point in points)
    return tuple(summary for summary in summaries if summary is not None)


def _summary(point: PointResult) -> PointSummary | None:
    estimates, setting = point.estimates, point.setting
    if estimates is None:
        return None
    is_prefill = setting.phase is Phase.PREFILL
    return PointSummary(
        phase=setting.phase,
        clock_mhz=setting.clock_mhz,
        batch_limit=setting.batch_limit,
        prompt_tokens=setting.prompt_tokens,
        output_tokens=setting.output_tokens,
        output_tps=estimates.output_tps,
        energy_per_output_token=estimates.energy_per_output_token,
        energy_per_prompt_token=estimates.energy_per_prompt_token,
        draw_w=estimates.draw_w,
        window_s=math.fsum(w.duration_s for w in point.windows) / len(point.windows),
        tpot_s=None if is_prefill else setting.batch_limit / estimates.output_tps.value,
        itl_p50_s=point.client.itl_p50_s,
        itl_p99_s=point.client.itl_p99_s,
        flags=point.flags,
        is_sound=point.is_sound,
    )


def window_rows(point: PointResult) -> list[dict[str, Any]]:
    """Return one table row for each window of a point, with the point's settings and estimates."""
    setting, estimates = point.setting, point.estimates
    shared: dict[str, Any] = {
        "key": setting.key,
        **dataclasses.asdict(setting),
        "phase": str(setting.phase),
        "replica": point.replica,
        "started": point.started,
        "meter": point.meter,
        "is_sound": point.is_sound,
        "flags": [str(flag) for flag in point.flags],
        "seen_clock_mhz": point.gpu.clock_mhz,
        "start_c": point.gpu.start_c,
        "end_c": point.gpu.end_c,
        "itl_p50_s": point.client.itl_p50_s,
        "itl_p99_s": point.client.itl_p99_s,
    }
    if estimates is not None:
        for name in ("energy_per_output_token", "output_tps", "draw_w"):
            interval: Interval = getattr(estimates, name)
            shared |= {
                name: interval.value,
                f"{name}_low": interval.low,
                f"{name}_high": interval.high,
            }
    return [
        {**shared, "window": number, **dataclasses.asdict(window)}
        for number, window in enumerate(point.windows)
    ]


def serving(points: Sequence[PointSummary]) -> list[PointSummary]:
    """Return the sound mixed points with the lengths of the first of them."""
    mixed = [point for point in points if point.phase is Phase.MIXED and point.is_sound]
    lengths = [(point.prompt_tokens, point.output_tokens) for point in mixed]
    return [point for point, both in zip(mixed, lengths, strict=True) if both == lengths[0]]


def pareto(points: Sequence[PointSummary]) -> list[PointSummary]:
    """Return the points that no other beats on both tokens/s and J/token, by rising tokens/s."""
    kept: list[PointSummary] = []
    for point in sorted(points, key=lambda p: -p.output_tps.value):
        if not kept or point.energy_per_output_token.value < kept[-1].energy_per_output_token.value:
            kept.append(point)
    return kept[::-1]

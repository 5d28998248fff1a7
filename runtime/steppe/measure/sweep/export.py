"""Sweep results as tables: Parquet for analysis, plain rows for the report."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import orjson

from steppe.measure.page.page_point import BenchPoint, Span
from steppe.measure.statistics import Interval
from steppe.measure.sweep.result import Phase, PointResult
from steppe.measure.sweep.store import SweepResults

PARQUET_FILE = "results.parquet"


def write_parquet(results: SweepResults, path: Path) -> None:
    """Write one row a window, with its point's settings, estimates and flags.

    The file's metadata hold provenance and rest watts as JSON under the key `steppe`.
    """
    from pyarrow import Table, parquet

    rows = [row for point in results.points for row in _rows(point)]
    head = dataclasses.asdict(results.head)
    table = Table.from_pylist(rows)
    table = table.replace_schema_metadata({b"steppe": orjson.dumps(head)})
    parquet.write_table(table, path)


def _rows(point: PointResult) -> list[dict[str, Any]]:
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


def bench_points(results: SweepResults) -> tuple[BenchPoint, ...]:
    """Return the points as the report shows them."""
    return tuple(_bench_point(p) for p in results.points if p.estimates is not None)


def _bench_point(point: PointResult) -> BenchPoint:
    estimates, setting = point.estimates, point.setting
    assert estimates is not None, "the caller leaves out points without tokens"
    has_batch_rhythm = setting.phase is not Phase.PREFILL
    return BenchPoint(
        phase=str(setting.phase),
        clock_mhz=setting.clock_mhz,
        batch_limit=setting.batch_limit,
        prompt_tokens=setting.prompt_tokens,
        output_tokens=setting.output_tokens,
        output_tps=_span(estimates.output_tps),
        energy_per_output_token=_span(estimates.energy_per_output_token),
        energy_per_prompt_token=(
            None
            if estimates.energy_per_prompt_token is None
            else _span(estimates.energy_per_prompt_token)
        ),
        draw_w=_span(estimates.draw_w),
        tpot_s=setting.batch_limit / estimates.output_tps.value if has_batch_rhythm else None,
        itl_p50_s=point.client.itl_p50_s,
        itl_p99_s=point.client.itl_p99_s,
        flags=tuple(str(flag) for flag in point.flags),
        is_sound=point.is_sound,
    )


def _span(interval: Interval) -> Span:
    return Span(interval.value, interval.low, interval.high)

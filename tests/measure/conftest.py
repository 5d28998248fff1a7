"""Synthetic results, and a replica in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.fixtures.virtual_replica import VirtualReplica

from steppe.measure.provenance import Provenance
from steppe.measure.sweep.result import (
    ClientTimes,
    Flag,
    GpuSummary,
    MeasuredWindow,
    Phase,
    PointResult,
    RestWatts,
    Setting,
)
from steppe.measure.sweep.store import ResultsFile, RunHead, SweepResults, read_results

MakePoint = Callable[..., PointResult]


@pytest.fixture
def provenance() -> Provenance:
    return Provenance(
        boundary="gpu",
        energy_source="emulated",
        meter="emulated",
        counter_period_s=0.1,
        gpus=("NVIDIA L4",),
        uuids=("GPU-1",),
        driver="580.EMU",
        model="small",
        engine="synthetic",
        seed=0,
        host="x86_64",
        versions={"steppe": "0"},
        commit="abc",
    )


def _make_point(
    clock: int = 1800, batch: int = 8, phase: Phase = Phase.MIXED, *flags: Flag, joules: float = 0.0
) -> PointResult:
    """Return a point whose draw rises with clock and batch, and whose windows differ by 1 %."""
    tps = clock / 100 * batch**0.7
    draw_w = joules * tps or 20 + clock / 60 + batch / 2
    windows = tuple(
        MeasuredWindow(10.0, 10 * draw_w * ripple, 0.1, 100, round(50 * tps), round(10 * tps))
        for ripple in (0.99, 1.0, 1.01)
    )
    return PointResult(
        setting=Setting(phase, clock, batch, 144, 26),
        replica="replica-1",
        started="2026-01-01T00:00:00+00:00",
        warm_up_s=5.0,
        windows=windows,
        meter_error_j=0.2,
        meter="emulated",
        client=ClientTimes(20, 0.5, 0.1, 0.15, 0.2),
        gpu=GpuSummary(float(clock), 50, 51, (), 1),
        flags=flags,
    )


@pytest.fixture
def make_point() -> MakePoint:
    return _make_point


@pytest.fixture
def results(tmp_path: Path, provenance: Provenance) -> SweepResults:
    """A small sweep on disk, with one throttled point."""
    file = ResultsFile(tmp_path)
    file.begin(RunHead(provenance, RestWatts(12.0, 18.0, 15.0, 14.0), {"windows": 3}))
    for clock in (1000, 1400, 1800):
        for batch in (1, 4, 8):
            file.add(_make_point(clock, batch))
    file.add(_make_point(2000, 8, Phase.MIXED, Flag.THROTTLED))
    return read_results(tmp_path)


@pytest.fixture
def replica() -> VirtualReplica:
    return VirtualReplica()


@pytest.fixture
def other_model(provenance: Provenance) -> Provenance:
    return replace(provenance, model="another")

"""Made-up results, and a replica in virtual time."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from steppe.device.gpu import LimitReason
from steppe.load.arrivals import Arrival
from steppe.measure.provenance import Provenance
from steppe.measure.sweep.client_subject import ClientReading
from steppe.measure.sweep.point import PointTiming
from steppe.measure.sweep.result import (
    ClientTimes,
    Flag,
    GpuSeen,
    MeasuredWindow,
    Phase,
    PointResult,
    RestWatts,
    Setting,
)
from steppe.measure.sweep.saturate import Saturation
from steppe.measure.sweep.store import ResultsFile, RunHead, SweepResults, read_results
from steppe.measure.sweep.subject import GpuLook, Rig

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
        gpu=GpuSeen(float(clock), 50, 51, (), 1),
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


@dataclass
class VirtualReplica:
    """Steps ten times a second, draws 40 W, and does what its attributes say."""

    now_s: float = 0.0
    heat_c: float = 50.0
    heat_per_s: float = 0.0
    clock_mhz: int = 0
    batch: int = 1
    running_share: float = 1.0
    waiting: int = 2
    quality: str = "emulated"
    lag_s: float = 0.05
    reasons: frozenset[LimitReason] = frozenset()
    processes: int = 1
    is_seen: bool = True
    clock_offset: float = 1.0
    tokens: int = 0
    asked: list[tuple[int, int]] = field(default_factory=list)
    concurrency: int = 0
    word_seeds: list[int] = field(default_factory=list)
    ripple: float = 0.0

    def set_point(self, clock_mhz: int, batch_limit: int) -> None:
        self.clock_mhz, self.batch = clock_mhz, batch_limit
        self.asked.append((clock_mhz, batch_limit))

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        rate = 10 * (1 + self.ripple * math.sin(self.now_s / 2))
        self.tokens += round(rate * seconds * self.batch)

    def reading(self) -> ClientReading:
        at_s = self.now_s - self.lag_s
        running = int(self.running_share * self.batch)
        return ClientReading(
            time_s=at_s,
            energy_j=40.0 * at_s,
            error_j=0.05,
            quality=self.quality,
            steps=round(10 * self.now_s),
            prompt_tokens=5 * self.tokens,
            output_tokens=self.tokens,
            running=running,
            waiting=self.waiting,
        )

    def look(self) -> GpuLook | None:
        if not self.is_seen:
            return None
        heat_c = round(self.heat_c + self.heat_per_s * self.now_s)
        clock_mhz = round(self.clock_mhz * self.clock_offset)
        return GpuLook(clock_mhz, heat_c, self.reasons, self.processes)

    @contextmanager
    def saturate(
        self, arrivals: Sequence[Arrival], concurrency: int, seed: int
    ) -> Generator[Saturation]:
        assert arrivals
        self.concurrency = concurrency
        self.word_seeds.append(seed)
        yield Saturation(begun_s=self.now_s)

    @property
    def rig(self) -> Rig:
        return Rig("replica-1", self, self.look, self.saturate)

    @property
    def timing(self) -> PointTiming:
        return PointTiming(lambda: self.now_s, self.sleep)


@pytest.fixture
def replica() -> VirtualReplica:
    return VirtualReplica()


@pytest.fixture
def other_model(provenance: Provenance) -> Provenance:
    return replace(provenance, model="another")

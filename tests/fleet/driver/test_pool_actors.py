from __future__ import annotations

from collections.abc import Iterator

import pytest

from steppe.config import RunConfig
from steppe.fleet.driver import pool_actors
from steppe.fleet.driver.pool_actors import PoolActors
from steppe.fleet.messages import GpuInfo, ReplicaTotals

CONFIG = RunConfig.model_validate(
    {
        "model": {"name": "llama-3.1-8b"},
        "device": {"kind": "nvml"},
        "power": {"supply": [{"kind": "constant", "watts": 100}]},
    }
)


def pool_of(
    *clocks_mhz: tuple[int, ...], readings: Iterator[ReplicaTotals] | None = None
) -> PoolActors:
    gpus = tuple(GpuInfo(index, "L4", clocks) for index, clocks in enumerate(clocks_mhz))
    ready = tuple(f"replica-{gpu.index}" for gpu in gpus)
    return PoolActors("", CONFIG, gpus, len(gpus), ready, lambda _: next(readings or iter(())))


@pytest.mark.parametrize(
    ("clocks_mhz", "can"), [([(600, 900)], True), ([(600, 900), ()], True), ([(), ()], False)]
)
def test_a_pool_keeps_its_clocks_as_long_as_that_of_one_gpu_can_be_limited(
    clocks_mhz: list[tuple[int, ...]], can: bool
) -> None:
    assert pool_of(*clocks_mhz).can_limit_clocks == can


def test_the_clocks_of_a_pool_are_those_that_all_its_gpus_support() -> None:
    clocks_mhz = [(600, 900, 1200), (300, 600, 900), (600, 900)]
    assert pool_of(*clocks_mhz).common_clocks_mhz == (600, 900)
    assert pool_of(*clocks_mhz, ()).common_clocks_mhz == (600, 900), "without the unlimited"


def test_the_idle_draw_is_the_largest_of_the_metered_replicas(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def reading(time_s: float, energy_j: float) -> ReplicaTotals:
        return ReplicaTotals(time_s, energy_j, 0, 0, 0, 0.0, "counter", 0, 0)

    readings = iter([reading(1.0, 0.0), reading(1.0, 0.0), reading(3.0, 70.0), reading(1.0, 0.0)])
    monkeypatch.setattr(pool_actors, "IDLE_WINDOW_S", 0.0)
    assert pool_of((900,), (900,), readings=readings).measure_idle_w() == 35.0

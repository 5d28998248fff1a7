from __future__ import annotations

from dataclasses import replace

import pytest

from steppe.device.gpu import Capabilities

GPU = Capabilities(
    uuid="GPU-1",
    name="a GPU",
    driver="580.1",
    is_mig=False,
    has_energy_counter=True,
    has_instant_power=True,
    has_module_scope=False,
    power_limit_range_w=(200.0, 700.0),
    default_power_limit_w=700.0,
    sm_clocks_mhz=tuple(range(210, 1981, 15)),
)


@pytest.mark.parametrize(
    ("clock_mhz", "limit_mhz", "obeys"),
    [(900, 900, True), (915, 900, True), (916, 900, False), (600, 900, True), (1980, 900, False)],
)
def test_a_clock_obeys_a_limit_that_it_exceeds_by_no_more_than_a_step(
    clock_mhz: int, limit_mhz: int, obeys: bool
) -> None:
    assert GPU.obeys_clock_limit(clock_mhz, limit_mhz) == obeys


def test_the_clock_at_which_an_idle_gpu_rests_breaks_no_limit() -> None:
    assert GPU.obeys_clock_limit(345, 210)
    assert not GPU.obeys_clock_limit(600, 210)


def test_a_gpu_without_limits_may_draw_anything() -> None:
    assert GPU.max_w == 875.0
    assert replace(GPU, power_limit_range_w=None).max_w == float("inf")

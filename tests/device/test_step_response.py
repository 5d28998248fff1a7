from __future__ import annotations

from typing import Any

import pynvml
import pytest
from tests.fixtures.emulated_node import EmulatedNode

from steppe.device.nvml import NvmlGpu, open_gpus
from steppe.device.step_response import ResponseTiming, record_steps
from steppe.errors import NoPermissionError


class Direct:
    """Sets limits without an agent."""

    def __init__(self, gpus: tuple[NvmlGpu, ...]) -> None:
        self._gpus = {gpu.uuid: gpu for gpu in gpus}

    def set_clock_limit(self, uuid: str, clock_mhz: int) -> int:
        return self._gpus[uuid].set_clock_limit(clock_mhz)

    def set_power_limit(self, uuid: str, limit_w: float) -> float:
        return self._gpus[uuid].set_power_limit(limit_w)

    def reset(self, uuid: str | None = None) -> None:
        for gpu in self._gpus.values() if uuid is None else [self._gpus[uuid]]:
            if gpu.capabilities.has_clock_limit:
                gpu.reset_clock_limit()
            gpu.set_power_limit(gpu.capabilities.default_power_limit_w or 0.0)


def steps_of(node: EmulatedNode, index: int = 0) -> dict[str, Any]:
    gpu = open_gpus()[index]
    timing = ResponseTiming(clock=lambda: node.now_s, pause=node.wait)
    return record_steps([gpu], Direct((gpu,)), timing)[gpu.uuid]


def test_the_latency_of_a_clock_limit_is_seen_under_load(node: EmulatedNode) -> None:
    node.work(3.0)
    assert steps_of(node)["clock_limit"]["lag_s"] == pytest.approx(0.015, abs=0.005)


def test_a_falling_and_a_rising_power_limit_are_seen_through_the_sensor(node: EmulatedNode) -> None:
    node.work(3.0)
    steps = steps_of(node)
    down, up = steps["power_limit_down"], steps["power_limit_up"]
    assert 0.0 < down["lag_s"] <= 0.25
    assert 0.1 <= up["lag_s"] <= 0.5
    assert down["values"][-1] < 250, "at its lowest clock it draws more than its lowest limit"
    assert up["values"][-1] > 600


def test_an_idle_gpu_shows_no_lag_of_its_power_limit(node: EmulatedNode) -> None:
    steps = steps_of(node)
    assert [steps[name]["lag_s"] for name in ("power_limit_down", "power_limit_up")] == [None] * 2


def test_a_gpu_without_a_clock_limit_has_no_such_step(node: EmulatedNode) -> None:
    assert set(steps_of(node, node.p40)) == {"power_limit_down", "power_limit_up"}


def test_every_limit_is_undone_also_when_a_step_fails(node: EmulatedNode) -> None:
    steps_of(node)
    assert (node.truth().clock_lock_mhz, node.truth().power_limit_w) == (None, 700)
    node.emulator.inject(
        "nvmlDeviceSetPowerManagementLimit", error=pynvml.NVML_ERROR_NO_PERMISSION, count=1
    )
    with pytest.raises(NoPermissionError):
        steps_of(node)
    node.wait(0.1)
    assert (node.truth().clock_lock_mhz, node.truth().power_limit_w) == (None, 700)

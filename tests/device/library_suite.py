"""What every NVML library must do for Steppe, real or emulated; reads only.

Run by test_any_library.py, once for each library, in a process of its own:

    pytest tests/device/library_suite.py --nvml-library /usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1
"""

from __future__ import annotations

import ctypes
import io
import json
import time
from itertools import pairwise

import pytest
from rich.console import Console

from steppe.device.inventory import gpus_table, measure_periods, render
from steppe.device.nvml import NvmlGpu, open_gpus
from steppe.device.recording import record
from steppe.energy.counter import CounterHistory, Quality


@pytest.fixture(scope="module")
def gpus(request: pytest.FixtureRequest) -> tuple[NvmlGpu, ...]:
    # A later dlopen("libnvidia-ml.so.1") of pynvml finds this one by its soname.
    ctypes.CDLL(str(request.config.getoption("--nvml-library")), mode=ctypes.RTLD_GLOBAL)
    found = open_gpus()
    assert found, "the library has no GPU"
    return found


def test_gpus_come_in_pci_order_with_distinct_uuids(gpus: tuple[NvmlGpu, ...]) -> None:
    assert [gpu.index for gpu in gpus] == sorted(gpu.index for gpu in gpus)
    assert len({gpu.uuid for gpu in gpus}) == len(gpus)


def test_every_knob_is_in_order_or_hidden(gpus: tuple[NvmlGpu, ...]) -> None:
    for gpu in gpus:
        can = gpu.capabilities
        assert can.name
        assert can.driver
        assert all(low < high for low, high in pairwise(can.sm_clocks_mhz))
        if can.power_limit_range_w is not None:
            low_w, high_w = can.power_limit_range_w
            assert 0 < low_w <= (can.default_power_limit_w or high_w) <= high_w


def test_a_sample_lies_within_what_the_gpu_can_do(gpus: tuple[NvmlGpu, ...]) -> None:
    for gpu in gpus:
        sample, can = gpu.sample(), gpu.capabilities
        assert 0 < sample.power_w <= can.max_w
        assert 0 < sample.average_power_w <= can.max_w
        assert sample.sm_clock_mhz <= max(can.sm_clocks_mhz, default=10_000)
        assert sample.temperature_c is None or 0 < sample.temperature_c < 120
        assert sample.utilisation is None or 0 <= sample.utilisation <= 1


def test_the_counter_is_published_periodically(gpus: tuple[NvmlGpu, ...]) -> None:
    for period_s in measure_periods(gpus, 1.5).values():
        assert 0.005 < period_s < 1.0


def test_a_window_has_the_joules_that_its_power_readings_suggest(
    gpus: tuple[NvmlGpu, ...],
) -> None:
    metered = [gpu for gpu in gpus if gpu.capabilities.has_energy_counter]
    meters = {gpu.uuid: CounterHistory(gpu.capabilities.max_w) for gpu in metered}
    powers_w: dict[str, list[float]] = {gpu.uuid: [] for gpu in metered}
    start_s = time.monotonic()
    while time.monotonic() < start_s + 2.0:
        for gpu in metered:
            before_s = time.monotonic()
            counter_j, power_w = gpu.energy_j(), gpu.power_w()
            read_s = time.monotonic() - before_s
            meters[gpu.uuid].add(before_s, counter_j, power_w, read_s)
            powers_w[gpu.uuid].append(power_w)
        time.sleep(0.01)
    for uuid, meter in meters.items():
        window = meter.window(start_s + 0.5, meter.covered_until_s)
        assert window.quality is Quality.COUNTER
        assert window.error_j >= 0
        seen_w = powers_w[uuid]
        assert 0.5 * min(seen_w) <= window.mean_w <= 1.5 * max(seen_w)


def test_a_recording_is_json(gpus: tuple[NvmlGpu, ...]) -> None:
    document = json.loads(json.dumps(record(gpus, 0.5)))
    assert len(document["gpus"]) == len(gpus)
    for gpu in document["gpus"]:
        assert gpu["sensors"]["sm_clock_mhz"]["reads"] > 10


def test_the_inventory_shows_every_gpu(gpus: tuple[NvmlGpu, ...]) -> None:
    text = io.StringIO()
    Console(file=text, width=250).print(render(gpus_table(gpus)))
    assert all(gpu.uuid in text.getvalue() for gpu in gpus)

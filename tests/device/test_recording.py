from __future__ import annotations

import json
from typing import Any

import pynvml
import pytest
from tests.fixtures.emulated_node import EmulatedNode

from steppe.device.nvml import open_gpus
from steppe.device.recording import record


@pytest.fixture
def recording(node: EmulatedNode) -> dict[str, Any]:
    node.emulator.set_load(node.h100, core=1.0, mem=0.3, valid_s=1e9)
    found: dict[str, Any] = json.loads(
        json.dumps(record(open_gpus(), 3.0, lambda: node.now_s, node.wait))
    )
    return found


def test_the_period_of_each_sensor_is_found(recording: dict[str, Any]) -> None:
    sensors = recording["gpus"][0]["sensors"]
    assert sensors["energy_j"]["period_s"] == pytest.approx(0.1, rel=0.05)
    assert sensors["instant_power_w"]["period_s"] == pytest.approx(0.1, rel=0.05)
    assert sensors["energy_j"]["reads"] > 1000


def test_sensors_that_a_gpu_lacks_are_left_out(recording: dict[str, Any]) -> None:
    everywhere = {"average_power_w", "sm_clock_mhz", "utilisation"}
    assert set(recording["gpus"][2]["sensors"]) == everywhere
    assert set(recording["gpus"][0]["sensors"]) == everywhere | {"energy_j", "instant_power_w"}


def test_the_values_are_kept_where_they_move(recording: dict[str, Any]) -> None:
    energy = recording["gpus"][0]["sensors"]["energy_j"]
    assert len(energy["values"]) == len(energy["t_s"]) == energy["changes"] + 1
    assert energy["values"] == sorted(energy["values"])


def test_a_recording_of_emulated_gpus_says_so(recording: dict[str, Any]) -> None:
    assert recording["source"] == "emulated"


def test_recording_changes_no_limit(node: EmulatedNode) -> None:
    record(open_gpus(), 0.1, lambda: node.now_s, node.wait)
    truth = node.truth()
    assert (truth.clock_sets, truth.power_limit_sets) == (0, 0)


def test_a_sensor_that_fails_is_counted_and_the_others_go_on(node: EmulatedNode) -> None:
    gpus = open_gpus()[:1]
    node.emulator.inject(
        "nvmlDeviceGetTotalEnergyConsumption", error=pynvml.NVML_ERROR_UNKNOWN, index=node.h100
    )
    sensors = record(gpus, 0.5, lambda: node.now_s, node.wait)["gpus"][0]["sensors"]
    assert sensors["energy_j"]["failures"] > 100
    assert sensors["energy_j"]["period_s"] is None
    assert sensors["sm_clock_mhz"]["failures"] == 0

"""Record emulated GPUs, fit other ones to the recording, replay it: all say the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pynvml
import pytest

from steppe.device.nvml import open_gpus
from steppe.device.recording import record
from steppe.emulator.library import Emulator
from steppe.emulator.recorded import (
    ProfileOverrides,
    RecordingReplay,
    apply_overrides,
    emulated_gpus,
    fit_recording,
)
from steppe.errors import OutOfRangeError, UsageError

ODD = ProfileOverrides(
    idle_w=91.0, energy_period_s=0.05, power_period_s=0.04, lock_latency_s=0.03,
    limit_down_tau_s=0.2, limit_up_tau_s=0.3,
)  # fmt: skip


class Stage:
    """Emulated GPUs in virtual time that are loaded, recorded, and read."""

    def __init__(self, library: Path, folder: Path) -> None:
        self.library, self.folder = library, folder
        self.now_s, self.states = 0.0, 0

    def set_up(self, gpus: str) -> Emulator:
        self.states += 1
        self.emulator = Emulator.attach(self.library, self.folder / str(self.states), gpus)
        self.emulator.use_virtual_clock(True)
        self.now_s = 0.0
        return self.emulator

    def wait(self, seconds: float) -> None:
        self.emulator.tick(seconds)
        self.now_s += seconds

    def work(self, seconds: float) -> None:
        """Wait, while the load of the first GPU comes and goes."""
        busy = 1.0 if self.now_s % 0.5 < 0.3 else 0.0
        self.emulator.set_load(0, core=busy, mem=0.3 * busy, valid_s=1e9)
        self.wait(seconds)

    def record(self, seconds: float) -> Any:
        found = record(open_gpus(), seconds, lambda: self.now_s, self.work)
        return json.loads(json.dumps(found))


@pytest.fixture
def stage(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    monkeypatch.setenv("STEPPE_EMULATED_PRIVILEGE", "1")
    made = Stage(library, tmp_path)
    made.set_up("h100x1,v100x1")
    pynvml.nvmlInit()
    yield made
    pynvml.nvmlShutdown()


def test_a_power_sensor_slower_than_its_average_shows_its_last_value(stage: Stage) -> None:
    apply_overrides(stage.emulator, 0, ProfileOverrides(power_period_s=1.5))
    stage.wait(10.0)
    (reading, _) = (gpu.sample() for gpu in open_gpus())
    assert reading.average_power_w == reading.power_w > 50.0


def test_a_fitted_gpu_behaves_as_the_recorded_one(stage: Stage) -> None:
    apply_overrides(stage.emulator, 0, ODD)
    recording = stage.record(4.0)
    fitted = fit_recording(recording["gpus"][0])
    assert fitted.energy_period_s == pytest.approx(0.05, rel=0.05)
    assert fitted.power_period_s == pytest.approx(0.04, rel=0.05)
    assert fitted.idle_w == pytest.approx(91.0, rel=0.05)
    apply_overrides(stage.set_up(emulated_gpus(recording)), 0, fitted)
    again = fit_recording(stage.record(4.0)["gpus"][0])
    assert again.energy_period_s == pytest.approx(fitted.energy_period_s, rel=0.02)
    assert again.idle_w == pytest.approx(fitted.idle_w, rel=0.03)


def test_a_replay_shows_the_recorded_readings_through_nvml(stage: Stage) -> None:
    recording = stage.record(3.0)
    emulator = stage.set_up(emulated_gpus(recording))
    replay = RecordingReplay(recording, emulator)
    for gpu, document in zip(open_gpus(), recording["gpus"], strict=True):
        sensors = document["sensors"]
        for at_s, energy_j in zip(
            sensors["energy_j"]["t_s"], sensors["energy_j"]["values"], strict=True
        ):
            replay.show(at_s)
            stage.wait(0.3)
            assert gpu.energy_j() == pytest.approx(energy_j, abs=1e-3)
        replay.show(recording["duration_s"])
        assert gpu.sm_clock_mhz() == sensors["sm_clock_mhz"]["values"][-1]
        assert gpu.power_w() == pytest.approx(sensors["instant_power_w"]["values"][-1], abs=2e-3)
        assert gpu.is_emulated


def test_a_whole_replay_shows_every_reading_in_its_order(stage: Stage) -> None:
    recording = stage.record(3.0)
    emulator = stage.set_up(emulated_gpus(recording))
    shown: list[float] = []

    def wait(seconds: float) -> None:
        shown.append(open_gpus()[0].energy_j())
        stage.wait(seconds)

    RecordingReplay(recording, emulator).run(wait)
    values = recording["gpus"][0]["sensors"]["energy_j"]["values"]
    seen = [after for before, after in pairwise(shown) if after != before]
    assert len(seen) >= len(values) - 1, "nobody looks after the last reading"
    assert seen == pytest.approx(values[: len(seen)], abs=1.1e-3)
    assert emulator.snapshot(0).energy_j == pytest.approx(values[-1])


def test_what_a_recording_does_not_tell_stays_as_it_is(stage: Stage) -> None:
    before = stage.emulator.snapshot(0).power_w
    apply_overrides(stage.emulator, 0, ProfileOverrides())
    stage.wait(1.0)
    assert stage.emulator.snapshot(0).power_w == pytest.approx(before, rel=0.02)


def test_a_lag_that_the_sensor_cannot_resolve_is_not_taken_over() -> None:
    sensors = {
        "instant_power_w": {"period_s": 0.1, "t_s": [0.0], "values": [60.0]},
        "average_power_w": {"period_s": None, "t_s": [], "values": []},
    }
    steps = {"power_limit_down": {"lag_s": 0.15}, "power_limit_up": {"lag_s": 0.4}}
    fitted = fit_recording({"sensors": sensors, "steps": steps})
    assert (fitted.limit_down_tau_s, fitted.limit_up_tau_s) == (None, 0.4)
    assert (fitted.idle_w, fitted.energy_period_s, fitted.lock_latency_s) == (None, None, None)


@pytest.mark.parametrize(
    ("name", "value"),
    [("idle_w", -1.0), ("energy_period_s", 1e-9), ("idle_w", float("nan")), ("abacus", 1.0)],
)
def test_a_constant_that_cannot_be_is_refused(stage: Stage, name: str, value: float) -> None:
    with pytest.raises(OutOfRangeError):
        stage.emulator.set_constant(0, name, value)


def test_a_gpu_that_no_profile_fits_is_named() -> None:
    with pytest.raises(UsageError, match="GeForce"):
        emulated_gpus({"gpus": [{"capabilities": {"name": "NVIDIA GeForce 256"}}]})

"""The closed form agrees with the emulated GPU that it stands for."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import pynvml
import pytest

from steppe.config import PaceSection
from steppe.emulator.build import build_library
from steppe.emulator.library import Emulator
from steppe.emulator.pace import Pace
from steppe.errors import ConfigError
from steppe.roofline.energy_roofline import StepWork
from steppe.sim.engine.pace_model import PaceModel, emulated_profile

PACE = PaceSection(weights_s=0.02, decode_s=0.001, prefill_s=0.0002)
OVERLAPPED = PaceSection(
    weights_s=0.02, decode_s=0.001, prefill_s=0.0002, context_s=1e-6, launch_s=0.004, overlap=4
)
SETTLED_S = 200.0
GPUS = ("l4", "v100", "a100", "h100", "h200", "b200")


@pytest.fixture
def emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    monkeypatch.setenv("STEPPE_EMULATED_PRIVILEGE", "1")
    gpus = ",".join(f"{key}x1" for key in GPUS)
    made = Emulator.attach(build_library(), tmp_path / "gpus", gpus)
    made.use_virtual_clock(True)
    pynvml.nvmlInit()
    yield made
    pynvml.nvmlShutdown()


@pytest.mark.parametrize("key", GPUS)
@pytest.mark.parametrize("clock_share", [0.5, 0.8, 1.0])
@pytest.mark.parametrize("pace", [PACE, OVERLAPPED], ids=["one after the other", "overlapped"])
@pytest.mark.parametrize("tokens", [(1, 0), (16, 0), (16, 300), (200, 2000)])
def test_a_step_draws_what_the_emulated_gpu_draws_under_its_load(
    emulator: Emulator, key: str, clock_share: float, pace: PaceSection, tokens: tuple[int, int]
) -> None:
    decodes, prompt_tokens = tokens
    index, profile = GPUS.index(key), emulated_profile(key)
    model, work = PaceModel(profile, pace), StepWork(prompt_tokens, decodes, 500 * decodes)
    parts = Pace(**pace.model_dump()).parts(prompt_tokens, decodes, 500 * decodes)
    handle, wanted_mhz = pynvml.nvmlDeviceGetHandleByIndex(index), profile.full_mhz * clock_share
    pynvml.nvmlDeviceSetGpuLockedClocks(handle, profile.lowest_mhz, round(wanted_mhz))
    for _ in range(20):  # the load follows the clock, and the clock the load
        step = parts.at(emulator.speed(index))
        emulator.set_load(index, core=step.core, mem=step.mem, valid_s=math.inf)
        emulator.tick(SETTLED_S / 20)
    truth = emulator.snapshot(index)
    assert truth.clock_lock_mhz is not None
    clock_mhz = truth.clock_lock_mhz[1]
    assert model.step_draw_w(work, clock_mhz) == pytest.approx(truth.power_w, rel=0.01)
    assert model.step_s(work, clock_mhz) == pytest.approx(step.duration_s, rel=0.01)


@pytest.mark.parametrize("key", GPUS)
def test_an_idle_replica_draws_what_a_gpu_with_a_context_draws(
    emulator: Emulator, key: str
) -> None:
    index, profile = GPUS.index(key), emulated_profile(key)
    emulator.set_context(index, os.getpid(), 0)
    emulator.tick(SETTLED_S)
    model = PaceModel(profile, PACE)
    assert model.idle_w(profile.full_mhz) == pytest.approx(
        emulator.snapshot(index).power_w, rel=0.01
    )
    assert model.asleep_w < model.idle_w(profile.full_mhz)


def test_a_step_bound_by_memory_hardly_slows_down_at_a_lower_clock_and_draws_less() -> None:
    model, work = PaceModel(emulated_profile("h100"), OVERLAPPED), StepWork(0, 4, 2000)
    full_mhz, half_mhz = model.profile.full_mhz, model.profile.full_mhz // 2
    slowdown = model.step_s(work, half_mhz) / model.step_s(work, full_mhz)
    assert 1 < slowdown < 1.02
    assert model.step_draw_w(work, half_mhz) < 0.75 * model.step_draw_w(work, full_mhz)


def test_two_gpus_draw_twice_as_much_and_take_as_long() -> None:
    one, two = (PaceModel(emulated_profile("l4"), PACE, gpus) for gpus in (1, 2))
    work = StepWork(100, 8, 4000)
    assert two.step_draw_w(work, 1500) == 2 * one.step_draw_w(work, 1500)
    assert two.idle_w(1500) == 2 * one.idle_w(1500)
    assert two.step_s(work, 1500) == one.step_s(work, 1500)


def test_an_unknown_gpu_is_named_with_those_that_are_known() -> None:
    with pytest.raises(ConfigError, match=r"asked for tpu, found a100, b200"):
        emulated_profile("tpu")

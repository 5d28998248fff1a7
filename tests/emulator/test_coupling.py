"""The loop between an engine's steps and the emulated clock, in virtual time."""

from __future__ import annotations

import os

import pynvml
import pytest
from tests.emulator.conftest import World

from steppe.emulator.build import build_library
from steppe.emulator.coupling import StepCoupling, couple
from steppe.emulator.pace import Pace
from steppe.errors import BackendUnavailableError, EngineError, OutOfRangeError

PACE = Pace(weights_s=0.03, decode_s=0.002, prefill_s=0.001)


class Engine:
    """An engine whose own work takes no time or as long as it is told, on one L4."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.coupling = StepCoupling(
            world.emulator, [world.l4], PACE, clock=self.now_s, sleep=world.emulator.tick
        )
        world.emulator.tick(1)

    def now_s(self) -> float:
        return float(self.world.truth(self.world.l4).now_s)

    def step(self, prefill_tokens: int, decode_sequences: int, work_s: float = 0.0) -> float:
        """Run one step and return how long it took, s."""
        start_s = self.now_s()
        self.coupling.begin(prefill_tokens, decode_sequences)
        self.world.emulator.tick(work_s)
        self.coupling.end()
        return self.now_s() - start_s


@pytest.fixture
def engine(world: World) -> Engine:
    return Engine(world)


def lock(world: World, max_mhz: int) -> None:
    pynvml.nvmlDeviceSetGpuLockedClocks(world.nvml(world.l4), 210, max_mhz)


def test_a_step_takes_its_time_at_the_full_clock(engine: Engine) -> None:
    assert engine.step(0, 10) == pytest.approx(0.03 + 0.02, rel=1e-3)
    assert engine.step(100, 0) == pytest.approx(0.03 + 0.1, rel=1e-3)


def test_half_the_clock_doubles_only_the_compute_part(world: World, engine: Engine) -> None:
    lock(world, 1020)
    world.emulator.tick(0.1)
    assert engine.step(0, 10) == pytest.approx(0.03 + 0.02 * 2, rel=1e-3)


def test_a_clock_change_acts_in_the_middle_of_a_step(world: World, engine: Engine) -> None:
    engine.coupling.begin(1000, 0)
    start_s = engine.now_s()
    lock(world, 1020)
    world.emulator.tick(0.015)
    engine.coupling.end()
    took_s = engine.now_s() - start_s
    full_s, half_s = 1.03, 2.03
    expected_s = 0.015 + (1 - 0.015 / full_s) * half_s
    assert took_s == pytest.approx(expected_s, abs=0.01)


def test_a_step_that_really_took_longer_does_not_wait(engine: Engine) -> None:
    assert engine.step(0, 10, work_s=0.2) == pytest.approx(0.2)
    assert engine.step(0, 10, work_s=0.04) == pytest.approx(0.05, rel=1e-3)


def test_the_load_is_what_the_step_does(world: World, engine: Engine) -> None:
    engine.coupling.begin(0, 15)
    truth = world.truth(world.l4)
    assert (truth.core_load, truth.mem_load) == pytest.approx((0.5, 0.5))
    engine.coupling.end()
    engine.step(570, 0)
    assert world.truth(world.l4).core_load == pytest.approx(0.95)


def test_the_load_stays_between_steps_and_ends_when_idle(world: World, engine: Engine) -> None:
    engine.step(0, 10)
    world.emulator.tick(0.05)
    assert world.truth(world.l4).core_load > 0
    engine.coupling.idle()
    world.emulator.tick(0.05)
    idle = world.truth(world.l4)
    assert (idle.core_load, idle.mem_load) == (0, 0)
    assert idle.clock_mhz == 2040, "its context keeps the clock up"


def test_the_load_of_an_engine_that_went_silent_ends(world: World, engine: Engine) -> None:
    engine.coupling.begin(0, 10)
    world.emulator.tick(1.9)
    assert world.truth(world.l4).core_load > 0
    world.emulator.tick(0.2)
    assert world.truth(world.l4).core_load == 0


def test_a_step_longer_than_the_lease_keeps_its_load(world: World, engine: Engine) -> None:
    before_j = world.truth(world.l4).energy_j
    took_s = engine.step(10_000, 0)
    assert took_s == pytest.approx(10.03, rel=1e-3)
    assert (world.truth(world.l4).energy_j - before_j) / took_s > 55


def test_overlapping_steps_run_one_after_another(engine: Engine) -> None:
    start_s = engine.now_s()
    engine.coupling.begin(0, 10)
    engine.coupling.begin(0, 10)
    engine.coupling.end()
    assert engine.now_s() - start_s == pytest.approx(0.05, rel=1e-3)
    engine.coupling.begin(0, 20)
    engine.coupling.end()
    engine.coupling.end()
    assert engine.now_s() - start_s == pytest.approx(0.05 + 0.05 + 0.07, rel=1e-3)


def test_a_pace_of_nothing_waits_for_nothing(world: World) -> None:
    coupling = StepCoupling(
        world.emulator,
        [world.l4],
        Pace(0.0, 0.0, 0.0),
        clock=lambda: 5.0,
        sleep=world.emulator.tick,
    )
    coupling.begin(100, 100)
    coupling.end()
    assert world.truth(world.l4).core_load == 0


def test_the_slowest_gpu_of_a_replica_sets_the_pace(world: World) -> None:
    coupling = StepCoupling(
        world.emulator,
        [world.h100, world.spare_h100],
        PACE,
        clock=lambda: float(world.truth().now_s),
        sleep=world.emulator.tick,
    )
    pynvml.nvmlDeviceSetGpuLockedClocks(world.nvml(world.spare_h100), 210, 990)
    world.emulator.tick(0.1)
    start_s = world.truth().now_s
    coupling.begin(0, 10)
    assert world.truth(world.spare_h100).core_load == pytest.approx(4 / 7)
    assert world.truth(world.h100).core_load == pytest.approx(4 / 7)
    coupling.end()
    assert world.truth().now_s - start_s == pytest.approx(0.07, rel=1e-3)


def test_ending_a_step_that_never_began_is_an_error(engine: Engine) -> None:
    with pytest.raises(EngineError, match="none has begun"):
        engine.coupling.end()


def test_coupling_registers_this_process_on_its_gpus(world: World) -> None:
    couple(str(world.state), [world.l4], weights_s=0.03, decode_s=0.002, prefill_s=0.001)
    processes = pynvml.nvmlDeviceGetComputeRunningProcesses(world.nvml(world.l4))
    assert [process.pid for process in processes] == [os.getpid()]
    assert world.truth().contexts == 0


def test_coupling_needs_gpus_that_exist(world: World) -> None:
    with pytest.raises(OutOfRangeError):
        couple(str(world.state), [9], weights_s=0.03, decode_s=0.002, prefill_s=0.001)
    with pytest.raises(BackendUnavailableError):
        couple(f"{world.state}-none", [0], weights_s=0.03, decode_s=0.002, prefill_s=0.001)
    assert build_library() == world.library

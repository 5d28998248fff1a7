from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.fixtures.serving import (
    FULL_W,
    MODEL,
    START_S,
    EnergyWitness,
    PowerSignal,
    Serving,
    free_port,
    wait_until,
)

from steppe.device.nvml import open_gpus
from steppe.emulator.build import build_library
from steppe.emulator.library import Emulator
from steppe.frontier.file import write_frontier
from steppe.frontier.pareto import Frontier
from steppe.models.tiny_model import write_tiny_model
from steppe.roofline.point import OperatingPoint

MakeConfig = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session", autouse=True)
def hear_interrupts() -> Iterator[None]:
    """Undo that a shell lets its background jobs, such as this run, ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def asleep_w(tmp_path_factory: pytest.TempPathFactory) -> float:
    """The draw of an emulated L4 at its lowest clock without any load, W."""
    state = tmp_path_factory.mktemp("asleep") / "gpus"
    emulator = Emulator.attach(build_library(), state, "l4x1")
    emulator.set_context(0, os.getpid(), 0)
    (gpu,) = open_gpus()
    gpu.set_clock_limit(gpu.capabilities.sm_clocks_mhz[0])
    emulator.use_virtual_clock(True)
    emulator.tick(60.0)
    return emulator.snapshot(0).power_w


@pytest.fixture(scope="session")
def make_config(tmp_path_factory: pytest.TempPathFactory, asleep_w: float) -> MakeConfig:
    """Return a function that makes a config, with some sections replaced."""
    model = write_tiny_model(tmp_path_factory.mktemp("models") / MODEL, seed=0)
    # Near enough to what these GPUs do for the controller to correct the rest.
    points = [
        OperatingPoint(clock_mhz, limit, limit * clock_mhz / 160, asleep_w + 5 + clock_mhz / 100)
        for clock_mhz, limit in ((615, 4), (1005, 6), (1500, 8), (2040, 8))
    ]
    frontier = tmp_path_factory.mktemp("frontier") / "frontier.yaml"
    write_frontier(Frontier.of(points, asleep_w, asleep_w, "modelled"), frontier)

    def make(**changes: Any) -> dict[str, Any]:
        config = {
            "model": {"name": str(model), "served_name": MODEL, "max_model_len": 1024},
            "engine": {
                "max_batch_limit": 8,
                "max_tokens_per_step": 256,
                "kv_cache_bytes": 64 << 20,
                "args": {"enforce_eager": True},
            },
            "fleet": {"replicas": 2},
            "device": emulated(2),
            "power": {"supply": [{"kind": "constant", "watts": FULL_W}]},
            "frontier": {"file": str(frontier)},
            "control": {"period_s": 0.5, "dwell_s": 1.0, "drain_s": 2.0},
            "gateway": {"port": free_port()},
        } | changes
        return {key: section for key, section in config.items() if section is not None}

    return make


def emulated(gpus: int) -> dict[str, Any]:
    pace = {"weights_s": 0.05, "decode_s": 0.004, "prefill_s": 0.0005}
    return {"kind": "emulated", "profile": "l4", "count": gpus, "pace": pace}


@pytest.fixture(scope="session")
def one_gpu() -> dict[str, Any]:
    """The sections of a config that make a fleet of one replica."""
    return {"fleet": {"replicas": 1}, "device": emulated(1)}


@pytest.fixture(scope="session")
def synthetic() -> dict[str, Any]:
    """The section of a config that makes replicas without a model, which start in seconds."""
    return {"engine": {"kind": "synthetic", "max_batch_limit": 8, "stall_s": 10.0}}


@pytest.fixture(scope="module")
def serve(
    tmp_path_factory: pytest.TempPathFactory, make_config: MakeConfig
) -> Iterator[Callable[..., Serving]]:
    """Return a function that starts `steppe serve`; what it started ends with the module."""
    running: list[Serving] = []

    def start(*more: str, **changes: Any) -> Serving:
        folder = tmp_path_factory.mktemp("serve")
        running.append(Serving.start(make_config(**changes), folder, *more))
        return running[-1]

    yield start
    for serving in running:
        serving.clean()


@pytest.fixture(scope="module")
def power_signal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PowerSignal]:
    with PowerSignal(tmp_path_factory.mktemp("signal") / "watts") as signal_:
        yield signal_


@pytest.fixture(scope="module")
def whole_run(
    serve: Callable[..., Serving], power_signal: PowerSignal, request: pytest.FixtureRequest
) -> Iterator[tuple[Serving, EnergyWitness]]:
    """The fleet that a module shares, and the true energy of its GPUs.

    A module that sets `SYNTHETIC = True` gets one without a model.
    """
    supply = [{"kind": "signal", "path": str(power_signal.path)}]
    is_synthetic = getattr(request.module, "SYNTHETIC", False)
    engine = request.getfixturevalue("synthetic") if is_synthetic else {}
    running = serve(power={"supply": supply, "stale_s": 60.0, "fallback_w": 0.0}, **engine)
    running.wait_for_words("opening the GPUs")
    running.wait_for_words("loading 2 replicas")
    with EnergyWitness(running.pid) as witness:
        running.wait_for_words("running")
        yield running, witness


@pytest.fixture
def fleet(whole_run: tuple[Serving, EnergyWitness], power_signal: PowerSignal) -> Serving:
    """The shared fleet with full power, no requests, and no replica missing."""
    fleet, _ = whole_run
    power_signal.set(FULL_W)

    def is_well() -> bool:
        ticks = fleet.ticks()
        return (
            bool(ticks)
            and ticks[-1].budget_w == FULL_W
            and ticks[-1].running + ticks[-1].waiting == 0
            and set(fleet.states()) <= {"awake", "asleep"}
        )

    wait_until(is_well, "a fleet without requests and without missing replicas", START_S)
    return fleet


@pytest.fixture
def witness(whole_run: tuple[Serving, EnergyWitness]) -> EnergyWitness:
    return whole_run[1]

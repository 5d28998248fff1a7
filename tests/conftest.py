"""What all tests share."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import pynvml
import pytest
from hypothesis import settings

from steppe.device.nvml import NvmlGpu, open_gpus
from steppe.emulator.build import build_library
from steppe.emulator.library import Emulator
from steppe.energy.counter import CounterHistory

pytest_plugins = [
    "tests.fixtures.emulated_node",
    "tests.fixtures.openai_server",
    "tests.fixtures.ray_actors",
    "tests.fixtures.synthetic_server",
]

# A slow or busy machine is no reason for a property to fail, and a run is the same every time;
# `--hypothesis-profile=explore` looks further.
settings.register_profile("steppe", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile("steppe")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--nvml-library",
        type=Path,
        default=Path("libnvidia-ml.so.1"),
        help="The NVML library that the GPU suite loads; the driver's own by default.",
    )


@pytest.fixture
def hears_hangups() -> Iterator[None]:
    """Let SIGHUP end this process as usual, although the tests may run under `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


class VirtualCard:
    """An emulated GPU, metered like a real one, whose time passes only while somebody waits."""

    def __init__(self, emulator: Emulator, gpu: NvmlGpu) -> None:
        self.emulator, self.gpu, self.at_s = emulator, gpu, 0.0
        self.history = CounterHistory(gpu.capabilities.max_w)
        self.sleep(0.5)

    def sleep(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.02)):
            self.emulator.tick(0.02)
            self.at_s += 0.02
            self.history.add(self.at_s, self.gpu.energy_j(), self.gpu.power_w())

    def now_s(self) -> float:
        return self.at_s

    def energy_j(self, at_s: float) -> float:
        while self.history.covered_until_s < at_s:
            self.sleep(0.02)
        return self.history.counter_at(at_s)

    def throttled(self) -> bool:
        return False


@pytest.fixture
def virtual_l4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[VirtualCard]:
    """An emulated L4 in virtual time."""
    library, state = build_library(), tmp_path / "gpus"
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library.parent))
    monkeypatch.setenv("STEPPE_EMULATED_GPUS", "l4x1")
    monkeypatch.setenv("STEPPE_EMULATED_STATE", str(state))
    monkeypatch.setenv("STEPPE_EMULATED_PRIVILEGE", "1")
    emulator = Emulator.attach(library, state, "l4x1")
    emulator.use_virtual_clock(True)
    yield VirtualCard(emulator, open_gpus()[0])
    with contextlib.suppress(pynvml.NVMLError):
        while True:
            pynvml.nvmlShutdown()

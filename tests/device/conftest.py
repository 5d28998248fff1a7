"""An emulated node in virtual time: two H100, and a P40 without counter and clock lock."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path

import pynvml
import pytest

from steppe.device.emulator.build import build_library
from steppe.device.emulator.library import Emulator, Snapshot
from steppe.device.lease_file import owned_lease_file
from steppe.device.limit_keeper import LimitKeeper
from steppe.device.nvml import NvmlGpu, open_gpus

GPUS = "h100x2,p40x1"


class Node:
    """Emulated GPUs, their truth, and a clock that only `wait` moves."""

    h100, spare, p40 = 0, 1, 2

    def __init__(self, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        library = build_library()
        self._monkeypatch = monkeypatch
        monkeypatch.setenv("LD_LIBRARY_PATH", str(library.parent))
        monkeypatch.setenv("STEPPE_EMULATED_GPUS", GPUS)
        monkeypatch.setenv("STEPPE_EMULATED_STATE", str(state))
        self.set_privilege(True)
        self.emulator = Emulator.attach(library, state, GPUS)
        self.emulator.use_virtual_clock(True)
        self.now_s = 0.0

    def open(self, index: int = h100) -> NvmlGpu:
        return open_gpus()[index]

    def set_privilege(self, on: bool) -> None:
        self._monkeypatch.setenv("STEPPE_EMULATED_PRIVILEGE", str(int(on)))

    def wait(self, seconds: float) -> None:
        self.emulator.tick(seconds)
        self.now_s += seconds

    def work(self, seconds: float, index: int = h100) -> None:
        """Keep a GPU fully busy, then go on so."""
        self.emulator.set_load(index, core=1.0, mem=0.3, valid_s=math.inf)
        self.wait(seconds)

    def truth(self, index: int = h100) -> Snapshot:
        return self.emulator.snapshot(index)


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    made = Node(tmp_path / "gpus", monkeypatch)
    yield made
    made.emulator.clear_faults()
    with contextlib.suppress(pynvml.NVMLError):
        while True:
            pynvml.nvmlShutdown()


@pytest.fixture
def keeper(node: Node, tmp_path: Path) -> Iterator[LimitKeeper]:
    with owned_lease_file(tmp_path / "lease.json") as file:
        yield LimitKeeper(open_gpus(), file)

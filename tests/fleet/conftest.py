from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pynvml
import pytest

from steppe.emulator.build import build_library
from steppe.emulator.library import Emulator


@pytest.fixture
def make_emulator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], Emulator]]:
    """Return a function that makes emulated GPUs whose time and privilege the test controls."""
    monkeypatch.setenv("STEPPE_EMULATED_PRIVILEGE", "1")

    def make(profile: str) -> Emulator:
        made = Emulator.attach(build_library(), tmp_path / "gpus", profile)
        made.use_virtual_clock(True)
        return made

    yield make
    with contextlib.suppress(pynvml.NVMLError):
        while True:
            pynvml.nvmlShutdown()

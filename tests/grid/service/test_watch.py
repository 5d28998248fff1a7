"""The look of the grid service at its site."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.grid_fleet import GridFleet

from steppe.grid.service.seam import GridView
from steppe.grid.service.watch import Watch


class Faulty:
    """A part that fails at its first look by an error that is not one of Steppe."""

    name = "faulty"
    shown: Mapping[str, Any] = {}

    def __init__(self) -> None:
        self.looks, self.saw = 0, asyncio.Event()

    async def start(self) -> None: ...

    async def see(self, _view: GridView) -> None:
        self.looks += 1
        if self.looks == 1:
            raise KeyError("a fault of this part")
        self.saw.set()

    async def stop(self) -> None: ...


async def test_after_a_fault_of_a_part_the_service_looks_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    part = Faulty()
    watch = Watch(GridFleet(tmp_path, []), [part], period_s=0.01, again_s=0.01)
    watch.start()
    await part.saw.wait()
    assert "a fault of this part" in caplog.text
    await watch.stop()


async def test_a_service_that_stops_does_not_look_again(tmp_path: Path) -> None:
    part = Faulty()
    watch = Watch(GridFleet(tmp_path, []), [part], period_s=0.01, again_s=60.0)
    watch.start()
    while "failed" not in watch.away:
        await asyncio.sleep(0.01)
    await watch.stop()
    assert watch._again is not None
    assert watch._again.cancelled()

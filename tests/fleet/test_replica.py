from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from steppe.engine.synthetic import SyntheticSettings
from steppe.fleet import replica as replica_module
from steppe.fleet.messages import SeamHook, Seat
from steppe.fleet.replica import Replica


@dataclass
class SlowEngine:
    """Takes a few turns of the event loop for everything."""

    stepping: bool = True
    port: int = 9001

    async def freeze(self) -> None:
        await _some_turns()
        self.stepping = False

    async def thaw(self) -> None:
        await _some_turns()
        self.stepping = True

    async def check(self) -> None: ...

    async def stop(self) -> None: ...


@dataclass
class Scene:
    replica: Replica
    seat: Seat
    engines: list[SlowEngine] = field(default_factory=list)


async def _some_turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    (tmp_path / "replica-1.block").touch()
    seat = Seat("replica-1", str(tmp_path / "replica-1.block"), SeamHook(), ())
    made = Scene(Replica(SyntheticSettings("tiny", 4), "127.0.0.1"), seat)

    async def start(*_: object) -> SlowEngine:
        await _some_turns()
        made.engines.append(SlowEngine())
        return made.engines[-1]

    monkeypatch.setattr(replica_module, "start_synthetic", start)
    return made


async def test_two_starts_at_once_make_one_engine(scene: Scene) -> None:
    first, second = await asyncio.gather(
        scene.replica.start(scene.seat), scene.replica.start(scene.seat)
    )
    assert len(scene.engines) == 1
    assert first.url == second.url == "http://127.0.0.1:9001"


async def test_a_freeze_that_comes_while_it_thaws_is_carried_out_after_it(scene: Scene) -> None:
    await scene.replica.start(scene.seat)
    await scene.replica.freeze()
    _, last = await asyncio.gather(scene.replica.thaw(), scene.replica.freeze())
    assert last.frozen
    assert not scene.engines[0].stepping


async def test_a_thaw_that_comes_while_it_freezes_is_carried_out_after_it(scene: Scene) -> None:
    await scene.replica.start(scene.seat)
    _, last = await asyncio.gather(scene.replica.freeze(), scene.replica.thaw())
    assert not last.frozen
    assert scene.engines[0].stepping


async def test_a_replica_says_that_it_is_frozen_once_nothing_steps(scene: Scene) -> None:
    await scene.replica.start(scene.seat)
    freezing = asyncio.ensure_future(scene.replica.freeze())
    await asyncio.sleep(0)
    assert not (await scene.replica.status()).frozen
    assert (await freezing).frozen

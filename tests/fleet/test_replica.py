from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from steppe.engine.control_block import ControlBlock
from steppe.engine.synthetic import SyntheticSettings
from steppe.errors import EngineError, NotSupportedError
from steppe.fleet import replica as replica_module
from steppe.fleet.messages import GpuAssignment, SeamHook
from steppe.fleet.replica import EXIT_ENGINE_DIED, EXIT_STOPPED, ReplicaActor


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
    replica: ReplicaActor
    assignment: GpuAssignment
    engines: list[SlowEngine] = field(default_factory=list)


async def _some_turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Scene:
    path = tmp_path / "replica-1.block"
    ControlBlock.create(path).close()
    assignment = GpuAssignment("replica-1", str(path), 11, SeamHook(), ())
    made = Scene(ReplicaActor(SyntheticSettings("tiny", 4), "127.0.0.1"), assignment)

    async def start(*_: object) -> SlowEngine:
        await _some_turns()
        made.engines.append(SlowEngine())
        return made.engines[-1]

    monkeypatch.setattr(replica_module, "start_synthetic", start)
    return made


async def test_two_starts_at_once_make_one_engine(scene: Scene) -> None:
    first, second = await asyncio.gather(
        scene.replica.start(scene.assignment), scene.replica.start(scene.assignment)
    )
    assert len(scene.engines) == 1
    assert first.url == second.url == "http://127.0.0.1:9001"


async def test_an_engine_gets_the_secret_of_its_run(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[object] = []

    async def start(*arguments: object) -> SlowEngine:
        given.extend(arguments)
        return SlowEngine()

    monkeypatch.setattr(replica_module, "start_synthetic", start)
    replica = ReplicaActor(SyntheticSettings("tiny", 4), "127.0.0.1", None, "secret")
    await replica.start(scene.assignment)
    assert given[2:] == ["127.0.0.1", "secret"]


async def test_the_control_block_names_the_process_of_the_replica(scene: Scene) -> None:
    await scene.replica.start(scene.assignment)
    block = ControlBlock(Path(scene.assignment.control_block))
    assert block.processes == (os.getpid(),)
    block.close()


async def test_a_freeze_that_comes_while_it_thaws_is_carried_out_after_it(scene: Scene) -> None:
    await scene.replica.start(scene.assignment)
    await scene.replica.freeze()
    _, last = await asyncio.gather(scene.replica.thaw(), scene.replica.freeze())
    assert last.frozen
    assert not scene.engines[0].stepping


async def test_a_thaw_that_comes_while_it_freezes_is_carried_out_after_it(scene: Scene) -> None:
    await scene.replica.start(scene.assignment)
    _, last = await asyncio.gather(scene.replica.freeze(), scene.replica.thaw())
    assert not last.frozen
    assert scene.engines[0].stepping


async def test_a_replica_is_frozen_once_its_engine_has_stopped_stepping(scene: Scene) -> None:
    await scene.replica.start(scene.assignment)
    freezing = asyncio.ensure_future(scene.replica.freeze())
    await asyncio.sleep(0)
    assert not (await scene.replica.status()).frozen
    assert (await freezing).frozen


async def test_the_status_has_the_control_block_even_while_the_engine_starts(
    scene: Scene,
) -> None:
    assert (await scene.replica.status()).block_id == 0
    starting = asyncio.ensure_future(scene.replica.start(scene.assignment))
    await asyncio.sleep(0)
    status = await scene.replica.status()
    assert (status.url, status.block_id) == ("", 11)
    assert (await starting).block_id == 11


class OffloadingSlowEngine(SlowEngine):
    """One that also moves its weights."""

    async def offload(self) -> None:
        await self.freeze()

    async def reload(self) -> None:
        await self.thaw()


async def test_an_engine_is_offloaded_and_reloaded_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = OffloadingSlowEngine()

    async def start(*_: object) -> SlowEngine:
        return engine

    monkeypatch.setattr(replica_module, "start_synthetic", start)
    await scene.replica.start(scene.assignment)
    first, second = await asyncio.gather(scene.replica.offload(), scene.replica.offload())
    assert first == second
    assert (first.frozen, first.is_offloaded, engine.stepping) == (True, True, False)
    back = await scene.replica.reload()
    assert (back.frozen, back.is_offloaded, engine.stepping) == (False, False, True)


async def test_an_engine_that_keeps_its_weights_on_the_gpu_is_not_offloaded(scene: Scene) -> None:
    await scene.replica.start(scene.assignment)
    with pytest.raises(NotSupportedError):
        await scene.replica.offload()
    assert not (await scene.replica.status()).frozen


async def test_an_engine_that_dies_while_it_freezes_ends_its_process(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave(code: int) -> None:
        raise SystemExit(code)

    async def never(_engine: SlowEngine) -> None:
        await asyncio.Event().wait()

    async def died(_engine: SlowEngine) -> None:
        raise EngineError("the engine core died")

    await scene.replica.start(scene.assignment)
    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setattr(replica_module, "CHECK_S", 0.01)
    monkeypatch.setattr(SlowEngine, "freeze", never)
    monkeypatch.setattr(SlowEngine, "check", died)
    with pytest.raises(SystemExit, match=str(EXIT_ENGINE_DIED)):
        await scene.replica.freeze()


async def test_a_replica_that_leaves_ends_its_engine_and_then_its_process(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[int] = []
    monkeypatch.setattr(os, "_exit", left.append)
    monkeypatch.setattr(replica_module, "LEAVE_S", 0.0)
    await scene.replica.start(scene.assignment)
    await scene.replica.leave()
    assert left == [], "its answer gets out first"
    await asyncio.sleep(0.01)
    assert left == [EXIT_STOPPED]
    assert (await scene.replica.status()).url == ""


async def test_an_engine_on_another_control_block_ends_with_its_process(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(os, "_exit", leave)
    await scene.replica.start(scene.assignment)
    assert (await scene.replica.start(scene.assignment)).url
    with pytest.raises(SystemExit, match=str(EXIT_ENGINE_DIED)):
        await scene.replica.start(replace(scene.assignment, block_id=12))

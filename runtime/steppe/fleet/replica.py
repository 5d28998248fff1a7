"""One replica: an actor that hosts an engine and its HTTP app."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import ray

from steppe.config import RunConfig
from steppe.device.nvml import open_gpus
from steppe.engine.control_block import ControlBlock
from steppe.engine.seam import Seam
from steppe.engine.synthetic import SyntheticSettings, start_synthetic
from steppe.engine.transformers_engine import start_transformers
from steppe.engine.transformers_settings import TransformersSettings
from steppe.engine.vllm_engine import EngineSettings, start_vllm
from steppe.errors import EngineError, NotSupportedError, UsageError
from steppe.fleet.engine_log import engine_log_path, redirect_output
from steppe.fleet.messages import GpuAssignment, ReplicaStatus
from steppe.models.store import get_model

EXIT_ENGINE_DIED, EXIT_STOPPED = 70, 71
CHECK_S = 1.0
"""Time between two looks at an engine that is being changed, s."""
LEAVE_S = 0.2
"""How long a process that has to leave stays, for its answer to get out, s."""

Settings = EngineSettings | TransformersSettings | SyntheticSettings


def settings_from_config(config: RunConfig) -> Settings:
    """Return the engine settings of a run with one model."""
    engine, model = config.engine, config.model
    served_name = model.client_name
    if engine.kind == "synthetic":
        most = engine.max_tokens_per_step
        return SyntheticSettings(served_name, engine.max_batch_limit, max_tokens_per_step=most)
    if engine.kind == "transformers":
        return TransformersSettings(
            model=model.name,
            served_name=served_name,
            max_model_len=model.max_model_len,
            max_batch_limit=engine.max_batch_limit,
            max_tokens_per_step=engine.max_tokens_per_step,
            kv_cache_bytes=engine.kv_cache_bytes,
        )
    return EngineSettings(
        model=model.name,
        served_name=served_name,
        max_model_len=model.max_model_len,
        max_batch_limit=engine.max_batch_limit,
        max_tokens_per_step=engine.max_tokens_per_step,
        kv_cache_bytes=engine.kv_cache_bytes,
        tensor_parallel=config.fleet.gpus_per_replica,
        args=engine.args,
        can_offload=any(sleep.kind == "offloaded" for sleep in config.fleet.sleep),
        kv_host_bytes=engine.kv_host_bytes,
    )


class Engine(Protocol):
    """What a replica needs from an engine."""

    @property
    def port(self) -> int:
        """Port of its HTTP app."""
        ...

    async def freeze(self) -> None:
        """Stop stepping; requests keep their place."""
        ...

    async def thaw(self) -> None:
        """Continue stepping."""
        ...

    async def check(self) -> None:
        """Return if it is alive; raise EngineError otherwise."""
        ...

    async def stop(self) -> None:
        """End it."""
        ...


@runtime_checkable
class OffloadingEngine(Protocol):
    """An engine that can move its weights to the memory of the host while it sleeps."""

    async def offload(self) -> None:
        """Move them there; called without requests only."""
        ...

    async def reload(self) -> None:
        """Bring them back, and continue stepping."""
        ...


class ReplicaActor:
    """Starts one engine on the GPUs that Ray assigned, freezes and thaws it.

    Starts, freezes and thaws happen one after the other, in the order of the calls. When its
    engine dies the actor ends its own process, so that Ray restarts it.
    """

    def __init__(
        self,
        settings: Settings,
        host: str,
        log_of: tuple[str, str] | None = None,
        secret: str = "",
    ) -> None:
        """Keep what to start; the engine comes with `start`.

        Args:
            settings: The engine.
            host: Address of its HTTP app.
            log_of: Run and replica whose engine log gets all output of this process; None to
                leave the output where it goes.
            secret: The secret of the run; the app answers only requests that carry it.
        """
        log = None if log_of is None else engine_log_path(*log_of)
        if log is not None:
            redirect_output(log)
        self._settings, self._host, self._secret = settings, host, secret
        self._engine: Engine | None = None
        self._frozen = self._is_offloaded = False
        self._block_id, self._start_s = 0, 0.0
        self._changing = asyncio.Lock()

    def gpu_indices(self) -> list[int]:
        """Return the NVML indices of the GPUs that Ray gave this actor.

        Raises:
            UsageError: CUDA_VISIBLE_DEVICES names something that is not a whole GPU of this host.
        """
        names = [str(name).strip() for name in ray.get_gpu_ids()]
        if all(name.isdecimal() for name in names):
            return [int(name) for name in names]
        return _indices(names, {gpu.uuid: gpu.index for gpu in open_gpus()})

    async def start(
        self, assignment: GpuAssignment, folder: str = "", settings: Settings | None = None
    ) -> ReplicaStatus:
        """Start the engine, once; it begins awake.

        Args:
            assignment: What its node has prepared for it.
            folder: The folder of the model on this node; empty to find or get it first.
            settings: The engine, if it is another one than that of `__init__`.

        An engine that runs on another control block cannot be controlled any more: it ends with
        the process.

        Raises:
            EngineError: It could not start.
        """
        async with self._changing:
            if self._engine is not None and assignment.block_id != self._block_id:
                os._exit(EXIT_ENGINE_DIED)
            if self._engine is None:
                self._settings = settings or self._settings
                self._block_id = assignment.block_id
                hook = assignment.hook
                _note_host(Path(assignment.control_block))
                seam = Seam(assignment.control_block, hook.hook, hook.arguments)
                began_s = time.monotonic()
                self._engine = await self._start_engine(seam, assignment.cores, folder)
                self._start_s = time.monotonic() - began_s
            return await self.status()

    async def status(self) -> ReplicaStatus:
        """Check the engine and return where it listens."""
        if self._engine is None:
            return ReplicaStatus("", False, self._block_id)
        try:
            await self._engine.check()
        except EngineError:
            os._exit(EXIT_ENGINE_DIED)
        url = f"http://{self._host}:{self._engine.port}"
        return ReplicaStatus(url, self._frozen, self._block_id, self._is_offloaded, self._start_s)

    async def freeze(self) -> ReplicaStatus:
        """Stop stepping; requests keep their place."""
        async with self._changing:
            if self._engine is not None and not self._frozen:
                await self._while_alive(self._engine.freeze())
                self._frozen = True
            return await self.status()

    async def thaw(self) -> ReplicaStatus:
        """Continue stepping."""
        async with self._changing:
            if self._engine is not None and self._frozen:
                await self._while_alive(self._engine.thaw())
                self._frozen = False
            return await self.status()

    async def offload(self) -> ReplicaStatus:
        """Freeze the engine, and move its weights to the memory of the host.

        Raises:
            NotSupportedError: This engine cannot.
        """
        async with self._changing:
            if not isinstance(self._engine, OffloadingEngine):
                raise NotSupportedError(f"asked to offload weights, found {self._settings}")
            if not self._is_offloaded:
                await self._while_alive(self._engine.offload())
                self._frozen = self._is_offloaded = True
            return await self.status()

    async def reload(self) -> ReplicaStatus:
        """Bring the weights of an offloaded engine back, and continue stepping."""
        async with self._changing:
            if isinstance(self._engine, OffloadingEngine) and self._is_offloaded:
                await self._while_alive(self._engine.reload())
                self._frozen = self._is_offloaded = False
            return await self.status()

    async def _while_alive(self, change: Coroutine[Any, Any, None]) -> None:
        """Wait for a change of the engine; a core that dies meanwhile may never answer."""
        task = asyncio.ensure_future(change)
        while not (await asyncio.wait([task], timeout=CHECK_S))[0]:
            await self.status()
        await task

    async def leave(self) -> None:
        """End the engine and this process, so that its GPUs have no context; Ray starts another."""
        await self.stop()
        asyncio.get_running_loop().call_later(LEAVE_S, os._exit, EXIT_STOPPED)

    async def stop(self) -> None:
        """End the engine."""
        if self._engine is not None:
            await self._engine.stop()
            self._engine = None

    async def _start_engine(self, seam: Seam, cores: tuple[int, ...], folder: str) -> Engine:
        match self._settings:
            case SyntheticSettings() as settings:
                return await start_synthetic(settings, seam, self._host, self._secret)
            case TransformersSettings() as settings:
                folder = folder or await _folder(settings.model)
                return await start_transformers(
                    settings.on(folder, cores), seam, self._host, self._secret
                )
            case settings:
                folder = folder or await _folder(settings.model)
                return await start_vllm(settings.on(folder, cores), seam, self._host, self._secret)


def _note_host(path: Path) -> None:
    """Note in a control block that this process hosts its engine."""
    block = ControlBlock(path)
    block.note_host(os.getpid())
    block.close()


def _indices(names: list[str], found: dict[str, int]) -> list[int]:
    """Look GPUs up by index or UUID, which may be cut short as CUDA allows."""
    indices: list[int] = []
    for name in names:
        match = [i for uuid, i in found.items() if uuid.startswith(name) or str(i) == name]
        if len(match) != 1:
            raise UsageError(
                f"CUDA_VISIBLE_DEVICES: asked for {name}, found whole GPUs {', '.join(found)}"
            )
        indices += match
    return indices


async def _folder(model: str) -> str:
    return str(await asyncio.to_thread(get_model, model, progress=_discard))


def _discard(line: str) -> None:
    """Discard a progress line: the output of an actor is not shown."""

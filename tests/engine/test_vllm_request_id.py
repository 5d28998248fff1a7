from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steppe.engine.vllm_request_id import name_responses, outer_request_id

gateway_ids = st.from_regex(r"[0-9a-f]{32}", fullmatch=True)
tails = st.from_regex(r"[0-9a-f]{8}", fullmatch=True)
samples = st.just("") | st.integers(0, 128).map(lambda index: f"{index}_")
ROUTES = (
    "chatcmpl-{}",
    "chatcmpl-{}_3",  # the fourth chat of a batch
    "chatcmpl-{}-0123456789abcdef-beam-2",
    "cmpl-{}-0",
    "cmpl-{}-7-0123456789abcdef-beam-0",
    "generate-tokens-{}",
    "decision-{}",
    "embd-{}-0",
    "embd-{}-prompt-1-chunk-12",
    "score-{}-1",
    "classify-{}-0",
    "pooling-{}-0",
    "generative-scoring-{}-0",
    "resp_{}_1",
    "a-route-of-a-later-release-{}-with:parts",
)


@settings(deadline=None)
@given(gateway_ids, tails, samples, st.sampled_from(ROUTES))
def test_the_gateways_id_is_found_in_the_engines_id_on_every_route(
    outer: str, tail: str, sample: str, route: str
) -> None:
    assert outer_request_id(f"{sample}{route.format(outer)}-{tail}") == outer


@pytest.mark.parametrize("engine_id", ["tokenize-abc-12345678", "chatcmpl-abc", "", "r4-0"])
def test_an_id_without_one_of_the_gateway_stays_as_it_is(engine_id: str) -> None:
    assert outer_request_id(engine_id) == engine_id


@given(st.from_regex(r"[0-9a-f]{33,64}", fullmatch=True))
def test_longer_runs_of_digits_are_no_id_of_the_gateway(digits: str) -> None:
    assert outer_request_id(f"chatcmpl-{digits}-1a2b3c4d") == f"chatcmpl-{digits}-1a2b3c4d"


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

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steppe.engine.vllm_request_id import outer_request_id

# What the gateway lets through, and hexadecimal tails that look like vLLM's own.
outer_ids = st.from_regex(r"[A-Za-z0-9._:-]{1,40}", fullmatch=True) | st.from_regex(
    r"(cmpl-|chatcmpl-|[0-9]_)?[a-z0-9]{1,8}(-[0-9]{1,2})?(-[0-9a-f]{8})?", fullmatch=True
)
tails = st.from_regex(r"[0-9a-f]{8}", fullmatch=True)
samples = st.just("") | st.integers(0, 128).map(lambda index: f"{index}_")


@settings(deadline=None)
@given(outer_ids, tails, samples)
def test_the_id_of_a_chat_is_found_again(outer: str, tail: str, sample: str) -> None:
    assert outer_request_id(f"{sample}chatcmpl-{outer}-{tail}") == outer


@settings(deadline=None)
@given(outer_ids, st.integers(0, 99), tails, samples)
def test_the_id_of_a_completion_is_found_again(
    outer: str, prompt: int, tail: str, sample: str
) -> None:
    assert outer_request_id(f"{sample}cmpl-{outer}-{prompt}-{tail}") == outer


@pytest.mark.parametrize("engine_id", ["embd-abc-0-12345678", "chatcmpl-abc", "", "r4-0"])
def test_an_id_of_another_shape_stays_as_it_is(engine_id: str) -> None:
    assert outer_request_id(engine_id) == engine_id

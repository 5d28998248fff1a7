from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.gateway.prompt_size import (
    MOST_PARTS,
    PRIOR_BYTES,
    PRIOR_TOKENS_PER_BYTE,
    UNKNOWN_SIZE,
    PromptCount,
    PromptSize,
    PromptTotals,
    prompt_size,
)
from steppe.gateway.stream import Usage

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda values: (
        st.lists(values, max_size=4)
        | st.dictionaries(st.sampled_from(["a", "prompt", "image_url"]), values, max_size=3)
    ),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("request_body", "size"),
    [
        ({"prompt": "four"}, PromptSize(4, 0)),
        ({"prompt": ["four", "Grüße"]}, PromptSize(4 + 7, 0)),
        ({"prompt": [1, 2, 3]}, PromptSize(0, 3)),
        ({"prompt": [[1, 2, 3], [4]]}, PromptSize(0, 4)),
        ({"input": "four", "instructions": "five!"}, PromptSize(9, 0)),
        ({"messages": [{"role": "user", "content": "four"}]}, PromptSize(8, 0)),
        ({"model": "a-long-name", "max_tokens": 9}, UNKNOWN_SIZE),
        ({"messages": None, "prompt": 7}, UNKNOWN_SIZE),
    ],
)
def test_the_size_of_a_prompt_is_that_of_its_texts_and_token_ids(
    request_body: dict[str, object], size: PromptSize
) -> None:
    assert prompt_size(request_body) == size


def test_images_and_sounds_do_not_count_as_text() -> None:
    parts = [
        {"type": "text", "text": "what is this"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 9999}},
        {"type": "input_audio", "input_audio": {"data": "A" * 9999, "format": "wav"}},
    ]
    size = prompt_size({"messages": [{"role": "user", "content": parts}]})
    assert size.text_bytes < 100


@given(JSON_VALUES)
def test_every_json_value_has_a_size(value: object) -> None:
    size = prompt_size({"prompt": value, "messages": [value]})
    assert size.text_bytes >= 0
    assert size.token_ids >= 0


def test_deep_json_has_a_size() -> None:
    deep = orjson.loads(b'{"prompt":' + b"[" * 900 + b'"x"' + b"]" * 900 + b"}")
    assert prompt_size(deep) == PromptSize(1, 0)


def test_a_prompt_of_very_many_parts_is_looked_at_only_in_part() -> None:
    assert prompt_size({"prompt": ["four"] * 2 * MOST_PARTS}).text_bytes <= 4 * MOST_PARTS
    assert prompt_size({"prompt": [7] * 2 * MOST_PARTS}).token_ids == 2 * MOST_PARTS


def test_the_first_prompts_are_estimated_with_four_bytes_a_token() -> None:
    totals = PromptTotals()
    assert totals.arrive(PromptSize(4000, 7)) == PromptCount(1007, 0)
    assert (totals.prompt_tokens, totals.cached_tokens) == (1007, 0)


def test_a_request_that_ended_counts_with_its_usage() -> None:
    totals, size = PromptTotals(), PromptSize(4000)
    totals.end(size, totals.arrive(size), Usage(800, 300, 5))
    assert (totals.prompt_tokens, totals.cached_tokens) == (800, 300)


def test_a_prompt_with_a_client_error_does_not_count() -> None:
    totals = PromptTotals()
    totals.drop(totals.arrive(PromptSize(4000)))
    assert (totals.prompt_tokens, totals.cached_tokens) == (0, 0)


@pytest.mark.parametrize("tokens_per_byte", [0.1, 0.9])
def test_tokens_per_byte_are_learned_from_requests_that_ended(tokens_per_byte: float) -> None:
    totals, size, tokens = PromptTotals(), PromptSize(10_000, 50), 10_000 * tokens_per_byte + 50
    for _ in range(400):
        totals.end(size, totals.arrive(size), Usage(round(tokens), None, 5))
    later = totals.arrive(size)
    assert later.prompt_tokens == pytest.approx(tokens, rel=0.02)
    assert later.cached_tokens == 0


def test_the_cached_share_is_learned_from_requests_that_ended() -> None:
    totals, size = PromptTotals(), PromptSize(4000)
    for cached_tokens in [None, 600] * 200:
        totals.end(size, totals.arrive(size), Usage(1000, cached_tokens, 5))
    assert totals.cached_tokens == 200 * 600
    later = totals.arrive(size)
    assert later.cached_tokens == pytest.approx(0.3 * later.prompt_tokens, rel=0.02)


def test_a_request_of_a_few_bytes_hardly_moves_the_estimate_of_long_ones() -> None:
    totals, short = PromptTotals(), PromptSize(4)
    totals.end(short, totals.arrive(short), Usage(35, None, 5))  # a chat template
    found = totals.arrive(PromptSize(int(PRIOR_BYTES))).prompt_tokens
    assert found == pytest.approx(PRIOR_BYTES * PRIOR_TOKENS_PER_BYTE, rel=0.03)


def test_prompts_of_token_ids_teach_nothing_about_texts() -> None:
    totals, ids = PromptTotals(), PromptSize(0, 500)
    for _ in range(400):
        totals.end(ids, totals.arrive(ids), Usage(500, None, 5))
    assert totals.arrive(PromptSize(4000)).prompt_tokens == 1000

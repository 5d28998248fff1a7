from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fixtures.beating_sites import view_of

from steppe.sites.service.expected import (
    MOST_OUTPUT_TOKENS,
    USUAL_OUTPUT_TOKENS,
    expected_uj,
    output_tokens,
    prompt_tokens,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
NAMES = st.sampled_from(["model", "messages", "prompt", "max_tokens", "n", "best_of", "input"])


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({}, USUAL_OUTPUT_TOKENS),
        ({"max_tokens": 7}, 7),
        ({"max_tokens": 7, "max_completion_tokens": 9}, 9),
        ({"max_output_tokens": 7, "n": 3}, 21),
        ({"max_tokens": 10**12}, MOST_OUTPUT_TOKENS),
        ({"max_tokens": True}, USUAL_OUTPUT_TOKENS),
        ({"max_tokens": -5}, 0),
        ({"max_tokens": 1, "n": 10**9}, 1024),
    ],
)
def test_output_tokens_are_the_maximum_of_the_client_up_to_a_bound(
    body: dict[str, Any], tokens: int
) -> None:
    assert output_tokens(body) == tokens


def test_a_prompt_counts_as_text_or_as_token_ids_and_pictures_do_not() -> None:
    assert prompt_tokens("a" * 9) == 3
    assert prompt_tokens([1, 2, 3]) == 3
    assert prompt_tokens([[1, 2], [3]]) == 3
    parts = [{"type": "text", "text": "a" * 400}, {"image_url": {"url": "data:" + "x" * 4000}}]
    assert prompt_tokens([{"role": "user", "content": parts}]) == 1 + 1 + 100
    deep: list[Any] = []
    for _ in range(900):
        deep = [deep]
    assert prompt_tokens(deep) == 0


def test_a_model_that_may_be_an_alias_counts_as_the_most_expensive_one() -> None:
    view = view_of("shanghai")
    body = {"model": "another", "max_tokens": 10}
    assert expected_uj(view, body, generates=True) == 3_100_000
    assert expected_uj(view, body, generates=False) == 0


@given(st.dictionaries(NAMES, JSON))
def test_no_json_object_breaks_it(body: dict[str, Any]) -> None:
    assert expected_uj(view_of("shanghai"), body, generates=True) >= 0

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.gateway.prompt_blocks import BLOCK_BYTES, MOST_BLOCKS, prompt_blocks

LONG = "The wind rises over the steppe. " * 100
SYSTEM = {"role": "system", "content": LONG}


def chat(*messages: dict[str, Any], **others: Any) -> tuple[int, ...]:
    return prompt_blocks({"model": "m", "messages": list(messages), **others})


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def shared(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """Return the number of leading blocks that are the same."""
    return next(
        (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
        min(len(one), len(other)),
    )


def test_a_conversation_that_goes_on_begins_with_its_earlier_blocks() -> None:
    first = chat(SYSTEM, user("Is there wind? " + LONG))
    answer = {"role": "assistant", "content": "There is."}
    second = chat(SYSTEM, user("Is there wind? " + LONG), answer, user("And now?"))
    assert len(first) > 10
    assert second[: len(first)] == first


def test_requests_with_the_same_system_prompt_share_its_blocks() -> None:
    one, other = chat(SYSTEM, user("Hello")), chat(SYSTEM, user("Good evening"))
    assert shared(one, other) >= len(LONG) // BLOCK_BYTES


def test_the_hash_of_a_block_covers_all_before_it() -> None:
    one = prompt_blocks({"prompt": "a" * BLOCK_BYTES + "c" * BLOCK_BYTES})
    other = prompt_blocks({"prompt": "b" * BLOCK_BYTES + "c" * BLOCK_BYTES})
    assert len(one) == len(other) == 2
    assert not set(one) & set(other)


@pytest.mark.parametrize("others", [{"model": "n"}, {"cache_salt": "s"}, {"tools": [{"a": 1}]}])
def test_other_models_salts_and_tools_share_no_block(others: dict[str, Any]) -> None:
    assert shared(chat(SYSTEM), chat(SYSTEM, **others)) == 0


@pytest.mark.parametrize(
    "request_",
    [
        {"prompt": LONG},
        {"prompt": list(range(1000))},
        {"input": LONG, "instructions": "Be brief."},
        {"system": [{"type": "text", "text": LONG}], "messages": [user("Hello")]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": LONG}]}]},
    ],
)
def test_prompts_of_every_api_have_blocks(request_: dict[str, Any]) -> None:
    blocks = prompt_blocks(request_)
    assert len(blocks) >= 6
    assert blocks == prompt_blocks(orjson.loads(orjson.dumps(request_)))


@pytest.mark.parametrize("request_", [{}, {"prompt": "short"}, {"messages": "x"}, {"prompt": None}])
def test_short_and_absent_prompts_have_no_blocks(request_: dict[str, Any]) -> None:
    assert prompt_blocks(request_) == ()


def test_of_a_very_long_prompt_only_the_beginning_counts() -> None:
    assert len(prompt_blocks({"prompt": "x" * (BLOCK_BYTES * MOST_BLOCKS * 3)})) == MOST_BLOCKS


def test_json_that_is_nested_too_deep_has_no_blocks() -> None:
    deep: Any = LONG
    for _ in range(600):
        deep = [deep]
    assert prompt_blocks({"messages": [{"role": "user", "content": deep}]}) == ()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["messages", "prompt", "input", "system"]), json_values))
def test_any_json_has_blocks_or_none(request_: dict[str, Any]) -> None:
    assert all(0 <= block < 1 << 64 for block in prompt_blocks(request_))

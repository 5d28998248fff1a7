from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.gateway.continuable import PlainStream, asking_for_ids, continuation, read_plain

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "a"}], "stream": True}
TEXT: dict[str, Any] = {"prompt": "a", "stream": True}
CHAT_PATH, TEXT_PATH = "/v1/chat/completions", "/v1/completions"


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"temperature": 0.7, "seed": 3, "stop": ["\n"], "min_tokens": 2, "top_p": 0.9},
        {"n": 1, "logprobs": None, "tools": [], "tool_choice": "none", "presence_penalty": 0.0},
        {"response_format": {"type": "text"}, "user": "me", "repetition_penalty": 1.2},
    ],
)
def test_a_plain_stream_can_go_on(more: dict[str, Any]) -> None:
    assert read_plain(CHAT_PATH, CHAT | {"logprobs": False} | more) == PlainStream(False, False)
    assert read_plain(TEXT_PATH, TEXT | more) == PlainStream(False, False)


@pytest.mark.parametrize(
    "more",
    [
        {"n": 2},
        {"logprobs": True},
        {"logprobs": 0},  # of completions: it is set
        {"prompt_logprobs": 0},
        {"tools": [{"type": "function"}]},
        {"response_format": {"type": "json_object"}},
        {"structured_outputs": {"regex": "a"}},
        {"use_beam_search": True},
        {"echo": True},
        {"frequency_penalty": 0.1},
        {"presence_penalty": -0.1},
        {"bad_words": ["a"]},
        {"vllm_xargs": {"steppe_output": [1]}},
        {"stream": False},
        {"stream": None},
        {"a_field_of_tomorrow": 1},
    ],
)
def test_anything_else_cannot(more: dict[str, Any]) -> None:
    assert read_plain(CHAT_PATH, CHAT | more) is None
    assert read_plain(TEXT_PATH, TEXT | more) is None


@pytest.mark.parametrize("prompt", [["a", "b"], ["a"], [[1, 2]], [], None, {"a": 1}])
def test_only_one_prompt_can_go_on(prompt: object) -> None:
    assert read_plain(TEXT_PATH, TEXT | {"prompt": prompt}) is None
    assert read_plain(TEXT_PATH, TEXT | {"prompt": [1, 2]}) is not None


@pytest.mark.parametrize(
    ("content", "can"),
    [
        ("a", True),
        (None, True),
        ([{"type": "text", "text": "a"}], True),
        ([{"type": "image_url", "image_url": {"url": "x"}}], False),
        ([{"type": "text", "text": "a"}, {"type": "input_audio"}], False),
    ],
)
def test_only_text_can_go_on(content: object, can: bool) -> None:
    body = CHAT | {"messages": [{"role": "user", "content": content}]}
    assert (read_plain(CHAT_PATH, body) is not None) == can


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/messages", "/v1/chat/completions/batch"])
def test_other_routes_cannot(path: str) -> None:
    assert read_plain(path, CHAT) is None


def test_what_the_client_asked_for_is_read() -> None:
    body = CHAT | {"stream_options": {"include_usage": True}, "return_token_ids": True}
    assert read_plain(CHAT_PATH, body) == PlainStream(wants_ids=True, wants_usage=True)


@given(
    st.dictionaries(st.sampled_from(["return_token_ids", "vllm_xargs", "a"]), st.none()),
    st.lists(st.integers(0, 99), min_size=1),
    st.lists(st.integers(0, 99)),
)
def test_a_body_keeps_its_fields_and_the_last_of_a_name_counts(
    more: dict[str, Any], prompt: list[int], output: list[int]
) -> None:
    body = (json.dumps(CHAT | more, indent=1) + " \n").encode()
    ids = [",".join(map(str, ids)).encode() for ids in (prompt, output)]
    asked = json.loads(asking_for_ids(body))
    assert asked == CHAT | more | {"return_token_ids": True}
    lists = {"steppe_prompt": prompt, "steppe_output": output}
    assert json.loads(continuation(body, *ids)) == asked | {"vllm_xargs": lists}

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from steppe.engine.openai_shape import (
    Answer,
    ChatPrompt,
    EngineRequest,
    Prompt,
    TextPrompt,
    TokenPrompt,
)

MESSAGES = [{"role": "user", "content": "a b"}, {"role": "user", "content": "c"}]

IN_PARTS = [
    {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}
]


@pytest.mark.parametrize(
    ("body", "prompt", "words"),
    [
        ({"messages": MESSAGES}, ChatPrompt(MESSAGES), "a b c"),
        ({"messages": IN_PARTS}, ChatPrompt([{"role": "user", "content": "a\nb"}]), "a\nb"),
        ({"prompt": "a b"}, TextPrompt("a b"), "a b"),
        ({"prompt": ["a b"]}, TextPrompt("a b"), "a b"),
        ({"prompt": [3, 7]}, TokenPrompt([3, 7]), "3 7"),
        ({"prompt": [[3, 7]]}, TokenPrompt([3, 7]), "3 7"),
    ],
)
def test_a_prompt_is_messages_a_text_or_token_ids(
    body: dict[str, Any], prompt: Prompt, words: str
) -> None:
    request = EngineRequest.read(json.dumps(body).encode())
    assert (request.prompt, request.prompt.words) == (prompt, words)
    assert request.chat == isinstance(prompt, ChatPrompt)
    assert (request.output_tokens, request.stream, request.temperature) == (None, False, None)


@pytest.mark.parametrize("prompt", [[], ["a", "b"], [[1], [2]], [1, "a"], [True], 7, {"a": 1}])
def test_several_prompts_and_none_are_refused(prompt: object) -> None:
    with pytest.raises(ValueError, match="asked for one prompt, found"):
        EngineRequest.read(json.dumps({"prompt": prompt}).encode())


@pytest.mark.parametrize("key", ["max_tokens", "max_completion_tokens"])
def test_the_number_of_tokens_has_two_names(key: str) -> None:
    body = {"messages": MESSAGES, key: 9, "ignore_eos": True, "temperature": 0}
    request = EngineRequest.read(json.dumps(body).encode())
    assert (request.output_tokens, request.ignore_eos, request.temperature) == (9, True, 0.0)


@pytest.mark.parametrize(
    ("key", "value", "default"),
    [
        ("n", 2, 1),
        ("stop", ["a"], []),
        ("stop", "a", None),
        ("logprobs", True, False),
        ("logprobs", 0, None),
        ("top_logprobs", 5, 0),
        ("prompt_logprobs", 0, None),
        ("stop_token_ids", [7], []),
        ("min_tokens", 4, 0),
        ("structured_outputs", {"regex": "[0-9]"}, None),
        ("presence_penalty", 0.5, 0.0),
        ("tools", [{"type": "function"}], []),
        ("response_format", {"type": "json_object"}, {"type": "text"}),
    ],
)
def test_an_unsupported_parameter_is_refused(key: str, value: object, default: object) -> None:
    EngineRequest.read(json.dumps({"messages": MESSAGES, key: default}).encode())
    with pytest.raises(ValueError, match=f"asked for {key} "):
        EngineRequest.read(json.dumps({"messages": MESSAGES, key: value}).encode())


@pytest.mark.parametrize("given", ["-5", "0", "2.5", "true", '"many"', "Infinity", "1e999"])
def test_an_invalid_number_of_tokens_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match=r"asked for at least 1 output token|unexpected|number"):
        EngineRequest.read(b'{"prompt": "a", "max_tokens": %s}' % given.encode())


@pytest.mark.parametrize(
    ("values", "asked"),
    [
        ({"stream": "false"}, "stream true or false, found 'false'"),
        ({"ignore_eos": 1}, "ignore_eos true or false, found 1"),
        ({"stream_options": {"include_usage": "no"}}, "include_usage true or false, found 'no'"),
        ({"temperature": True}, "temperature as a number, found True"),
        ({"temperature": "0"}, "temperature as a number, found '0'"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(values: dict[str, Any], asked: str) -> None:
    with pytest.raises(ValueError, match=f"^asked for {asked}$"):
        EngineRequest.read(json.dumps({"messages": MESSAGES, **values}).encode())


@pytest.mark.parametrize(
    "message",
    [
        "a",
        {"content": "a"},
        {"role": "user"},
        {"role": "user", "content": None},
        {"role": "user", "content": []},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a"}}]},
        {"role": "user", "content": [{"type": "text"}]},
    ],
)
def test_a_message_without_a_role_or_with_more_than_text_is_refused(message: object) -> None:
    with pytest.raises(ValueError, match=r"asked for (a message with a role|content of text)"):
        EngineRequest.read(json.dumps({"messages": [message]}).encode())


def test_a_chat_opens_with_its_role_and_a_stream_closes_with_its_usage_if_requested() -> None:
    chat = Answer("a", "m", chat=True, include_usage=True, prompt_tokens=3, created_s=7)
    (opening,), (closing,) = chat.opening(), chat.closing(2)
    assert opening["choices"] == [
        {"index": 0, "finish_reason": None, "delta": {"role": "assistant", "content": ""}}
    ]
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    assert (closing["choices"], closing["usage"], closing["created"]) == ([], usage, 7)
    text = replace(chat, chat=False, include_usage=False)
    assert (text.opening(), text.closing(2)) == ([], [])

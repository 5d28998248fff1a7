from __future__ import annotations

import json
from typing import Any

import pytest

from steppe.engine.openai_shape import Asked, ChatPrompt, Prompt, TextPrompt, TokenPrompt

MESSAGES = [{"role": "user", "content": "a b"}, {"role": "user", "content": "c"}]


@pytest.mark.parametrize(
    ("body", "prompt", "words"),
    [
        ({"messages": MESSAGES}, ChatPrompt(MESSAGES), "a b c"),
        ({"prompt": "a b"}, TextPrompt("a b"), "a b"),
        ({"prompt": ["a b"]}, TextPrompt("a b"), "a b"),
        ({"prompt": [3, 7]}, TokenPrompt([3, 7]), "3 7"),
        ({"prompt": [[3, 7]]}, TokenPrompt([3, 7]), "3 7"),
    ],
)
def test_a_prompt_is_messages_a_text_or_token_ids(
    body: dict[str, Any], prompt: Prompt, words: str
) -> None:
    asked = Asked.read(json.dumps(body).encode())
    assert (asked.prompt, asked.prompt.words) == (prompt, words)
    assert asked.chat == isinstance(prompt, ChatPrompt)
    assert (asked.output_tokens, asked.stream, asked.temperature) == (None, False, None)


@pytest.mark.parametrize("prompt", [[], ["a", "b"], [[1], [2]], [1, "a"], 7, {"a": 1}])
def test_several_prompts_and_none_are_refused(prompt: object) -> None:
    with pytest.raises(ValueError, match="asked for one prompt, found"):
        Asked.read(json.dumps({"prompt": prompt}).encode())


@pytest.mark.parametrize("key", ["max_tokens", "max_completion_tokens"])
def test_the_number_of_tokens_has_two_names(key: str) -> None:
    body = {"messages": MESSAGES, key: 9, "ignore_eos": True, "temperature": 0}
    asked = Asked.read(json.dumps(body).encode())
    assert (asked.output_tokens, asked.ignore_eos, asked.temperature) == (9, True, 0.0)

"""Which streams can go on at another replica, and the bodies of their requests.

A stream can go on if the token ids so far are all that its engine knows of it. That is so for one
plain answer as text. It is not so for several answers, log probabilities, tools, structured output,
images or audio, beam search, and what looks at the output so far: presence and frequency penalties
and bad words. A field that is not listed here is taken for one of those.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from steppe.engine.earlier import OUTPUT, PROMPT

_USAGE_FIELD = b'"stream_options":'

PATHS = frozenset({"/v1/chat/completions", "/v1/completions"})

# Fields that do not matter, for they shape the prompt (known as token ids by then), the name or the
# urgency of a request, or the choice of each token from its own distribution.
_FREE = frozenset(
    [
        "add_generation_prompt",
        "add_special_tokens",
        "allowed_token_ids",
        "cache_salt",
        "chat_template",
        "chat_template_kwargs",
        "continue_final_message",
        "documents",
        "ignore_eos",
        "include_stop_str_in_output",
        "length_penalty",
        "logit_bias",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "metadata",
        "min_p",
        "min_tokens",
        "model",
        "parallel_tool_calls",
        "priority",
        "prompt",
        "prompt_cache_key",
        "reasoning_effort",
        "repetition_penalty",
        "request_id",
        "return_token_ids",
        "safety_identifier",
        "seed",
        "service_tier",
        "session_id",
        "skip_special_tokens",
        "spaces_between_special_tokens",
        "stop",
        "stop_token_ids",
        "store",
        "stream",
        "stream_interval",
        "stream_options",
        "temperature",
        "top_k",
        "top_p",
        "truncate_prompt_tokens",
        "truncation_side",
        "user",
    ]
)
# Fields that matter, each with the values that leave it off; so does null.
_OFF: Mapping[str, tuple[object, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "prompt_logprobs": (),
    "logprob_token_ids": ([],),
    "echo": (False,),
    "suffix": ("",),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "bad_words": ([],),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "response_format": ({"type": "text"},),
    "structured_outputs": ({},),
    "use_beam_search": (False,),
    "include_reasoning": (True,),
    "watermarking": (False,),
    "thinking_token_budget": (-1,),
    "repetition_detection": ({},),
    "vllm_xargs": ({},),
}


@dataclass(frozen=True, slots=True)
class PlainStream:
    """What the client of a stream that can go on asked for.

    Attributes:
        wants_ids: Whether it asked for the token ids.
        wants_usage: Whether it asked for the usage at the end.
    """

    wants_ids: bool
    wants_usage: bool


def read_plain(path: str, body: Mapping[str, Any]) -> PlainStream | None:
    """Return what the client of a stream asked for; None if the stream cannot go on elsewhere.

    Args:
        path: Path of the request.
        body: Its JSON.
    """
    if path not in PATHS or body.get("stream") is not True:
        return None
    for name, value in body.items():
        if name not in _FREE and not _is_off(name, value):
            return None
    is_text = _is_one_prompt(body.get("prompt")) if "prompt" in body else _is_text(body)
    if not is_text:
        return None
    options = body.get("stream_options")
    wants_usage = isinstance(options, dict) and options.get("include_usage") is True
    return PlainStream(body.get("return_token_ids") is True, wants_usage)


def asking_for_ids(body: bytes) -> bytes:
    """Return the JSON body of a plain stream that also asks for its token ids."""
    return with_fields(body, b'"return_token_ids":true')


def asking_for_usage(body: bytes) -> bytes:
    """Return the JSON body of a stream of `PATHS` that also asks for its usage at the end."""
    options = orjson.loads(body).get("stream_options")
    wanted = {**(options if isinstance(options, dict) else {}), "include_usage": True}
    return body if wanted == options else with_fields(body, _USAGE_FIELD + orjson.dumps(wanted))


def continuation(body: bytes, prompt: bytes, output: bytes) -> bytes:
    """Return the body that lets a stream go on.

    Args:
        body: The client's JSON body, of a plain stream.
        prompt: Token ids of the prompt, separated by commas.
        output: Token ids of the output so far, separated by commas.
    """
    lists = b'{"%s":[%s],"%s":[%s]}' % (PROMPT.encode(), prompt, OUTPUT.encode(), output)
    return with_fields(body, b'"return_token_ids":true,"vllm_xargs":' + lists)


def with_fields(body: bytes, fields: bytes) -> bytes:
    """Append fields to a JSON object that is not empty; the last of a name counts."""
    return body.rstrip()[:-1] + b"," + fields + b"}"


def _is_off(name: str, value: object) -> bool:
    if value is None:
        return True
    is_bool = isinstance(value, bool)
    return name in _OFF and any(
        value == off and isinstance(off, bool) == is_bool for off in _OFF[name]
    )


def _is_one_prompt(prompt: object) -> bool:
    match prompt:
        case str():
            return True
        case [int(), *_]:
            return True
        case _:
            return False


def _is_text(body: Mapping[str, Any]) -> bool:
    """Return whether the messages of a chat are text alone."""
    messages = body.get("messages")
    if not isinstance(messages, list):
        return False
    contents = [message.get("content") for message in messages if isinstance(message, dict)]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    return len(contents) == len(messages) and all(
        isinstance(part, str) or (isinstance(part, dict) and part.get("type") == "text")
        for part in parts
    )

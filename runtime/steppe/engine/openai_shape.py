"""Requests to and answers of our own engines, in OpenAI's shapes."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import orjson

from steppe.engine.earlier import Earlier

_DEFAULTS: dict[str, tuple[object, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "stop": ("", []),
    "stop_token_ids": ([],),
    "min_tokens": (0,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "prompt_logprobs": (),
    "echo": (False,),
    "suffix": ("",),
    "logit_bias": ({},),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "repetition_penalty": (1,),
    "tools": ([],),
    "response_format": ({"type": "text"},),
    "structured_outputs": ({},),
}
"""Parameters that our engines do not support, and the values that leave them off; so does null."""


def _is_set(value: object, defaults: tuple[object, ...]) -> bool:
    """Return whether a value differs from the defaults; 0 is not False (`logprobs: 0` is set)."""
    is_bool = isinstance(value, bool)
    return value is not None and not any(
        value == other and isinstance(other, bool) == is_bool for other in defaults
    )


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """Messages of a chat, each with a role and a text."""

    messages: list[dict[str, Any]]

    @property
    def words(self) -> str:
        """The texts of all messages."""
        return " ".join(message["content"] for message in self.messages)


@dataclass(frozen=True, slots=True)
class TextPrompt:
    """A text to continue."""

    text: str

    @property
    def words(self) -> str:
        """The text."""
        return self.text


@dataclass(frozen=True, slots=True)
class TokenPrompt:
    """A text to continue, as token ids."""

    tokens: list[int]

    @property
    def words(self) -> str:
        """The ids, in place of a text."""
        return " ".join(map(str, self.tokens))


Prompt = ChatPrompt | TextPrompt | TokenPrompt


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """One request.

    Attributes:
        prompt: The messages to answer, or the text to continue.
        output_tokens: Most output tokens; None if the request does not set it.
        stream: Whether tokens are sent as they come.
        ignore_eos: Whether to continue after the end-of-text token.
        temperature: Sampling temperature; None if the request does not set it.
        model: Name of the model; None if the request does not set it.
        include_usage: Whether a stream ends with the usage.
        wants_ids: Whether a stream has the token ids.
        earlier: What another engine computed of it; None for a new one.
    """

    prompt: Prompt
    output_tokens: int | None
    stream: bool
    ignore_eos: bool = False
    temperature: float | None = None
    model: str | None = None
    include_usage: bool = False
    wants_ids: bool = False
    earlier: Earlier | None = None

    @property
    def chat(self) -> bool:
        """Whether it is a chat completion, and not a text completion."""
        return isinstance(self.prompt, ChatPrompt)

    @classmethod
    def read(cls, body: bytes) -> EngineRequest:
        """Read the JSON body of a chat completion or a text completion.

        Raises:
            ValueError: It is not a JSON object, a value has the wrong type, or a parameter is not
                supported by our engines.
        """
        values = _read_object("a JSON object", _read_json(body))
        for name, defaults in _DEFAULTS.items():
            value = values.get(name)
            if _is_set(value, defaults):
                raise ValueError(f"asked for {name} {value!r:.40}, found an engine without it")
        options = _read_object("stream_options as an object", values.get("stream_options") or {})
        extra = _read_object("vllm_xargs as an object", values.get("vllm_xargs") or {})
        return cls(
            prompt=_read_prompt(values),
            output_tokens=_read_output_tokens(values),
            stream=_read_bool(values, "stream"),
            ignore_eos=_read_bool(values, "ignore_eos"),
            temperature=_read_temperature(values),
            model=values.get("model"),
            include_usage=_read_bool(options, "include_usage"),
            wants_ids=_read_bool(values, "return_token_ids"),
            earlier=Earlier.read(extra),
        )


def _read_json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"asked for JSON, found {error}") from error


def _read_object(wanted: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"asked for {wanted}, found {value!r:.40}")
    return value


def _read_bool(values: dict[str, Any], name: str) -> bool:
    match values.get(name):
        case None:
            return False
        case bool() as flag:
            return flag
        case other:
            raise ValueError(f"asked for {name} true or false, found {other!r:.40}")


def _read_temperature(values: dict[str, Any]) -> float | None:
    match values.get("temperature"):
        case None:
            return None
        case int() | float() as number if not isinstance(number, bool):
            return float(number)
        case other:
            raise ValueError(f"asked for temperature as a number, found {other!r:.40}")


def _read_output_tokens(values: dict[str, Any]) -> int | None:
    named = (values.get(name) for name in ("max_completion_tokens", "max_tokens"))
    given = next((value for value in named if value is not None), None)
    match given:
        case None:
            return None
        case int() if given >= 1 and not isinstance(given, bool):
            return given
        case other:
            raise ValueError(f"asked for at least 1 output token, found {other!r:.40}")


def _read_prompt(values: dict[str, Any]) -> Prompt:
    match values.get("prompt"):
        case None | "":
            return ChatPrompt(_read_messages(values.get("messages")))
        case str() as text:
            return TextPrompt(text)
        case [str() as text]:
            return TextPrompt(text)
        case [[*tokens]] | [*tokens] if tokens and all(type(t) is int for t in tokens):
            return TokenPrompt(list(tokens))
        case other:
            raise ValueError(f"asked for one prompt, found {type(other).__name__} of {other!r:.40}")


def _read_messages(messages: Any) -> list[dict[str, Any]]:
    if not isinstance(messages, list):
        found = "neither" if messages is None else f"messages {messages!r:.40}"
        raise ValueError(f"asked for a list of messages or a prompt, found {found}")
    return [_read_message(message) for message in messages]


def _read_message(message: Any) -> dict[str, Any]:
    """Return a message whose content is one text; parts become lines of it, as in vLLM."""
    match message:
        case {"role": str(), "content": str()}:
            return dict(message)
        case {"role": str(), "content": [*parts]} if parts:
            return {**message, "content": "\n".join(map(_read_part, parts))}
        case other:
            raise ValueError(f"asked for a message with a role and a text, found {other!r:.60}")


def _read_part(part: Any) -> str:
    match part:
        case {"type": "text", "text": str(text)}:
            return text
        case other:
            raise ValueError(f"asked for content of text alone, found a part {other!r:.60}")


@dataclass(frozen=True, slots=True)
class OutputChunk:
    """A part of an answer.

    Attributes:
        text: Its text.
        tokens: Its output tokens.
        ids: Their token ids.
        finish: OpenAI's finish reason in the last chunk, `stop` or `length`; else None.
    """

    text: str
    tokens: int
    finish: str | None
    ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """The shape of one answer.

    Attributes:
        id: The id of the request, from X-Request-Id.
        model: Name that clients ask for.
        chat: Whether it is a chat completion, and not a text completion.
        include_usage: Whether a stream ends with the usage.
        prompt_tokens: Tokens of the prompt.
        created_s: Start of the answer, whole s since the Unix epoch.
        prompt_ids: Token ids of the prompt; None if a stream has no token ids.
    """

    id: str
    model: str
    chat: bool
    include_usage: bool
    prompt_tokens: int
    created_s: int
    prompt_ids: list[int] | None = None

    def opening(self) -> list[dict[str, object]]:
        """Return the chunks before the first text: in a chat, the role."""
        if not self.chat:
            return []
        delta = {"role": "assistant", "content": ""}
        choice: dict[str, object] = {"index": 0, "finish_reason": None, "delta": delta}
        opening = self._around(self._chunk_kind, [choice])
        return [{**opening, "prompt_token_ids": self.prompt_ids}]

    def chunk(self, part: OutputChunk, *, is_first: bool = False) -> dict[str, object]:
        """Return one streamed chunk."""
        text = {"delta": {"content": part.text}} if self.chat else {"text": part.text}
        choice: dict[str, object] = {"index": 0, "finish_reason": part.finish, **text}
        choice["token_ids"] = None if self.prompt_ids is None else part.ids
        if not self.chat:
            choice["prompt_token_ids"] = self.prompt_ids if is_first else None
        return self._around(self._chunk_kind, [choice])

    def closing(self, output_tokens: int) -> list[dict[str, object]]:
        """Return the chunks after the last text: the usage, if requested."""
        if not self.include_usage:
            return []
        return [{**self._around(self._chunk_kind, []), "usage": self._usage(output_tokens)}]

    def whole(self, text: str, output_tokens: int, finish: str | None) -> dict[str, object]:
        """Return the whole answer."""
        message = {"role": "assistant", "content": text}
        part: dict[str, object] = {"message": message} if self.chat else {"text": text}
        kind = "chat.completion" if self.chat else "text_completion"
        answer = self._around(kind, [{"index": 0, "finish_reason": finish, **part}])
        return {**answer, "usage": self._usage(output_tokens)}

    @property
    def _chunk_kind(self) -> str:
        return "chat.completion.chunk" if self.chat else "text_completion"

    def _around(self, kind: str, choices: list[dict[str, object]]) -> dict[str, object]:
        outer = f"{'chatcmpl' if self.chat else 'cmpl'}-{self.id}"
        return {
            "id": outer,
            "object": kind,
            "created": self.created_s,
            "model": self.model,
            "choices": choices,
        }

    def _usage(self, output_tokens: int) -> dict[str, int]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": output_tokens,
            "total_tokens": self.prompt_tokens + output_tokens,
        }


def error_body(message: str, status: int, code: str | None = None) -> dict[str, object]:
    """Return an error in OpenAI's shape.

    Args:
        message: What was asked for and what was found.
        status: The HTTP status; it decides the type.
        code: The reason, for programs; by default the phrase of the status, as `bad_request`.
    """
    error = {
        "message": message,
        "type": "invalid_request_error" if status < 500 else "server_error",
        "param": None,
        "code": code or HTTPStatus(status).phrase.lower().replace(" ", "_"),
    }
    return {"error": error}

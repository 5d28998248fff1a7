"""What an engine of ours is asked and what it answers, in OpenAI's shapes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

_UNASKED: dict[str, tuple[object, ...]] = {
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
"""What our engines do not do, and the values that do not ask for it; null never does."""


def _asks(value: object, unasked: tuple[object, ...]) -> bool:
    """Tell whether a value asks for something; 0 and 1 are no truth values (logprobs: 0 asks)."""
    is_truth = isinstance(value, bool)
    return value is not None and not any(
        value == other and isinstance(other, bool) == is_truth for other in unasked
    )


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """Messages of a chat, each with its role and its content, a text."""

    messages: list[dict[str, Any]]

    @property
    def words(self) -> str:
        """The contents, one after the other."""
        return " ".join(message["content"] for message in self.messages)


@dataclass(frozen=True, slots=True)
class TextPrompt:
    """A text to go on from."""

    text: str

    @property
    def words(self) -> str:
        """The text."""
        return self.text


@dataclass(frozen=True, slots=True)
class TokenPrompt:
    """A text to go on from, as token ids."""

    tokens: list[int]

    @property
    def words(self) -> str:
        """The ids, as a stand-in for a text."""
        return " ".join(map(str, self.tokens))


Prompt = ChatPrompt | TextPrompt | TokenPrompt


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """What one request asks for.

    Attributes:
        prompt: What to answer, or to go on from.
        output_tokens: Most tokens to make; None when the request does not say.
        stream: Whether they are sent one by one.
        ignore_eos: Whether to go on after the end of the text.
        temperature: Sampling temperature; None when the request does not say.
        model: Name of the model; None when the request does not say.
        include_usage: Whether a stream ends with the usage.
    """

    prompt: Prompt
    output_tokens: int | None
    stream: bool
    ignore_eos: bool = False
    temperature: float | None = None
    model: str | None = None
    include_usage: bool = False

    @property
    def chat(self) -> bool:
        """Whether it is a chat completion, and not a text completion."""
        return isinstance(self.prompt, ChatPrompt)

    @classmethod
    def read(cls, body: bytes) -> EngineRequest:
        """Read the JSON body of a chat completion or a text completion.

        Raises:
            ValueError: It is not JSON, a value is none of its kind, or it asks for what our engines
                do not do.
            KeyError: It has neither a prompt nor messages.
            TypeError: A part has another type than it should.
            AttributeError: The same, where an object should be.
        """
        values = orjson.loads(body)
        for name, unasked in _UNASKED.items():
            value = values.get(name)
            if _asks(value, unasked):
                raise ValueError(f"asked for {name} {value!r:.40}, found an engine without it")
        options = values.get("stream_options") or {}
        return cls(
            prompt=_read_prompt(values),
            output_tokens=_read_output_tokens(values),
            stream=_read_truth(values, "stream"),
            ignore_eos=_read_truth(values, "ignore_eos"),
            temperature=_read_temperature(values),
            model=values.get("model"),
            include_usage=_read_truth(options, "include_usage"),
        )


def _read_truth(values: dict[str, Any], name: str) -> bool:
    match values.get(name):
        case None:
            return False
        case bool() as truth:
            return truth
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
    wanted = next((value for value in named if value is not None), None)
    match wanted:
        case None:
            return None
        case int() if wanted >= 1 and not isinstance(wanted, bool):
            return wanted
        case other:
            raise ValueError(f"asked for at least 1 output token, found {other!r:.40}")


def _read_prompt(values: dict[str, Any]) -> Prompt:
    match values.get("prompt"):
        case None | "":
            return ChatPrompt([_read_message(message) for message in values["messages"]])
        case str() as text:
            return TextPrompt(text)
        case [str() as text]:
            return TextPrompt(text)
        case [[*tokens]] | [*tokens] if tokens and all(type(t) is int for t in tokens):
            return TokenPrompt(list(tokens))
        case other:
            raise ValueError(f"asked for one prompt, found {type(other).__name__} of {other!r:.40}")


def _read_message(message: Any) -> dict[str, Any]:
    """Return a message whose content is one text; its parts go below each other, as in vLLM."""
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
    """Some more of an answer.

    Attributes:
        text: What was added.
        tokens: Output tokens in it.
        finish: OpenAI's reason when it is the last one, `stop` or `length`.
    """

    text: str
    tokens: int
    finish: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """The shape of one answer.

    Attributes:
        id: The id that came in as X-Request-Id.
        model: Name that clients ask for.
        chat: Whether it is a chat completion, and not a text completion.
        include_usage: Whether a stream ends with the usage.
        prompt_tokens: Tokens of the prompt.
        created_s: When it was begun, whole s since the Unix epoch.
    """

    id: str
    model: str
    chat: bool
    include_usage: bool
    prompt_tokens: int
    created_s: int

    def opening(self) -> list[dict[str, object]]:
        """Return the chunks that go before the first piece: in a chat, who speaks."""
        if not self.chat:
            return []
        delta = {"role": "assistant", "content": ""}
        choice: dict[str, object] = {"index": 0, "finish_reason": None, "delta": delta}
        return [self._around(self._chunk_kind, [choice])]

    def chunk(self, piece: OutputChunk) -> dict[str, object]:
        """Return one streamed chunk."""
        part = {"delta": {"content": piece.text}} if self.chat else {"text": piece.text}
        choice: dict[str, object] = {"index": 0, "finish_reason": piece.finish, **part}
        return self._around(self._chunk_kind, [choice])

    def closing(self, output_tokens: int) -> list[dict[str, object]]:
        """Return the chunks that go after the last piece: the usage, if that was asked for."""
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


def refusal(message: str, code: int = 400) -> dict[str, object]:
    """Return the answer to a request that asks for what cannot be; the code is its status."""
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return {"error": error}


def failure(message: str) -> dict[str, object]:
    """Return the answer to a request that the engine cannot finish (status 500)."""
    error = {"message": message, "type": "internal_server_error", "param": None, "code": 500}
    return {"error": error}

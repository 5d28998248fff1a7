"""What a synthetic engine is asked and what it answers, in OpenAI's shapes."""

from __future__ import annotations

import json
from dataclasses import dataclass

_WORD = " synthetic"
_DEFAULT_OUTPUT_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Asked:
    """What one request asks for; a word of the prompt counts as a token.

    Attributes:
        prompt_tokens: Words of the prompt, at least one.
        output_tokens: Tokens to make up.
        stream: Whether they are sent one by one.
    """

    prompt_tokens: int
    output_tokens: int
    stream: bool

    @classmethod
    def read(cls, body: bytes) -> Asked:
        """Read the JSON body of a chat completion or a text completion.

        Raises:
            ValueError: It is not JSON, or a number is none.
            KeyError: It has neither a prompt nor messages.
            TypeError: A part has another type than it should.
            AttributeError: The same, where an object should be.
        """
        values = json.loads(body)
        text = values.get("prompt") or " ".join(str(m.get("content")) for m in values["messages"])
        wanted = values.get("max_tokens") or values.get("max_completion_tokens")
        return cls(
            prompt_tokens=max(1, len(str(text).split())),
            output_tokens=int(wanted or _DEFAULT_OUTPUT_TOKENS),
            stream=bool(values.get("stream")),
        )


@dataclass(frozen=True, slots=True)
class SyntheticAnswer:
    """One answer.

    Attributes:
        id: The id that came in as X-Request-Id.
        model: Name that clients ask for.
        chat: Whether it is a chat completion, and not a text completion.
        asked: What it answers.
    """

    id: str
    model: str
    chat: bool
    asked: Asked

    def chunk(self, tokens: int, finish: str | None) -> dict[str, object]:
        """Return one streamed chunk."""
        text = _WORD * tokens
        part = {"delta": {"content": text}} if self.chat else {"text": text}
        return self._around(self._chunk_kind, [{"index": 0, "finish_reason": finish, **part}])

    def last(self) -> dict[str, object]:
        """Return the chunk that carries the usage."""
        return {**self._around(self._chunk_kind, []), "usage": self._usage()}

    def whole(self) -> dict[str, object]:
        """Return the whole answer."""
        text = _WORD * self.asked.output_tokens
        message = {"role": "assistant", "content": text}
        part: dict[str, object] = {"message": message} if self.chat else {"text": text}
        kind = "chat.completion" if self.chat else "text_completion"
        answer = self._around(kind, [{"index": 0, "finish_reason": "length", **part}])
        return {**answer, "usage": self._usage()}

    @property
    def _chunk_kind(self) -> str:
        return "chat.completion.chunk" if self.chat else "text_completion"

    def _around(self, kind: str, choices: list[dict[str, object]]) -> dict[str, object]:
        outer = f"{'chatcmpl' if self.chat else 'cmpl'}-{self.id}"
        return {"id": outer, "object": kind, "model": self.model, "choices": choices}

    def _usage(self) -> dict[str, int]:
        prompt, output = self.asked.prompt_tokens, self.asked.output_tokens
        return {
            "prompt_tokens": prompt,
            "completion_tokens": output,
            "total_tokens": prompt + output,
        }


def refusal(message: str) -> dict[str, object]:
    """Return the answer to a request that asks for what cannot be."""
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": 400}
    return {"error": error}

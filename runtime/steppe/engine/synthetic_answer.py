"""What a synthetic engine answers, in OpenAI's shapes."""

from __future__ import annotations

from dataclasses import dataclass

_WORD = " synthetic"


@dataclass(frozen=True, slots=True)
class SyntheticAnswer:
    """The OpenAI shapes of one answer.

    Attributes:
        id: The id that came in as X-Request-Id.
        model: Name that clients ask for.
        chat: Whether it is a chat completion or a text completion.
    """

    id: str
    model: str
    chat: bool

    def chunk(self, tokens: int, finish: str | None) -> dict[str, object]:
        """Return one streamed chunk."""
        text = _WORD * tokens
        part = {"delta": {"content": text}} if self.chat else {"text": text}
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        return self._around(kind, [{"index": 0, "finish_reason": finish, **part}])

    def whole(self, prompt_tokens: int, output_tokens: int) -> dict[str, object]:
        """Return the whole answer."""
        text = _WORD * output_tokens
        message = {"role": "assistant", "content": text}
        part: dict[str, object] = {"message": message} if self.chat else {"text": text}
        kind = "chat.completion" if self.chat else "text_completion"
        answer = self._around(kind, [{"index": 0, "finish_reason": "length", **part}])
        return {**answer, "usage": _usage(prompt_tokens, output_tokens)}

    def last(self, prompt_tokens: int, output_tokens: int) -> dict[str, object]:
        """Return the chunk that carries the usage."""
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        return {**self._around(kind, []), "usage": _usage(prompt_tokens, output_tokens)}

    def _around(self, kind: str, choices: list[dict[str, object]]) -> dict[str, object]:
        outer = f"{'chatcmpl' if self.chat else 'cmpl'}-{self.id}"
        return {"id": outer, "object": kind, "model": self.model, "choices": choices}


def _usage(prompt_tokens: int, output_tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": prompt_tokens + output_tokens,
    }

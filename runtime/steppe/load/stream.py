"""The outcome of one request, and the parser of its event stream.

A chunk counts as tokens if it has a choice whose delta is more than the opening role; the number
of tokens is taken from `usage` alone. vLLM sends the role together with the first token, so the
first token has the same time here as in vLLM's own `bench serve`.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

_DATA = b"data:"
_DONE = b"[DONE]"
# An engine that aborts a request still ends its stream properly, although the text is cut.
_ABORTED = "abort"


@dataclass(frozen=True, slots=True)
class Completed:
    """The whole answer arrived.

    Attributes:
        first_s: Client time of the first token, s.
        last_s: Client time of the last token, s.
        gaps_s: Time between one chunk with tokens and the next, s; single precision.
        prompt_tokens: Tokens of the prompt, from `usage`.
        output_tokens: Tokens of the answer, from `usage`.
        finish: The server's finish reason.
    """

    first_s: float
    last_s: float
    gaps_s: array[float]
    prompt_tokens: int
    output_tokens: int
    finish: str


@dataclass(frozen=True, slots=True)
class RequestRefused:
    """The server refused the request before it began.

    Attributes:
        status: HTTP status, 429 or 503.
        retry_after_s: The `Retry-After`, s from now; None without one.
    """

    status: int
    retry_after_s: float | None


@dataclass(frozen=True, slots=True)
class Failed:
    """The request failed, or its answer broke off.

    Attributes:
        message: The reason, in one line.
        is_client_error: Whether the server answered with a 4xx; then no SLO judges the request.
    """

    message: str
    is_client_error: bool = False


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The client cancelled the request: a deadline passed or the user stopped the load.

    Attributes:
        end_s: Client time of the cancellation, s.
        first_s: Client time of the first token, s; None before it.
    """

    end_s: float
    first_s: float | None


Outcome = Completed | RequestRefused | Failed | Cancelled


class ChatStream:
    """Parses the server-sent events of one streamed chat completion, in pieces of any size.

    Attributes:
        first_s: Time of the first token, s; None before it.
    """

    def __init__(self, on_chunk: Callable[[int], None] = lambda _: None) -> None:
        """Begin; `on_chunk` is called with 1 for each chunk with tokens."""
        self._on_chunk = on_chunk
        self._rest = b""
        self.first_s: float | None = None
        self._last_s = 0.0
        self._gaps_s = array("f")  # single precision: a night of requests has hundreds of millions
        self._usage: object = None
        self._finish: object = None
        self._done = False
        self._error: str | None = None

    def feed(self, data: bytes, now_s: float) -> None:
        """Take the next bytes, which arrived at `now_s`."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.startswith(_DATA):
                self._event(line[len(_DATA) :].strip(), now_s)

    def end(self) -> Completed | Failed:
        """Return the outcome of the finished stream."""
        if self._error is not None:
            return Failed(self._error)
        if not self._done:
            return Failed("the stream broke off before [DONE]")
        if not isinstance(self._finish, str) or self._finish == _ABORTED:
            return Failed(f"asked for a finished answer, found finish reason {self._finish}")
        match self.first_s, self._usage:
            case float(first_s), {"prompt_tokens": int(prompt), "completion_tokens": int(output)}:
                if output > 0:
                    return Completed(
                        first_s, self._last_s, self._gaps_s, prompt, output, self._finish
                    )
        return Failed("asked for tokens and their usage, found an answer without them")

    def _event(self, data: bytes, now_s: float) -> None:
        if data == _DONE:
            self._done = True
            return
        try:
            self._read(orjson.loads(data), now_s)
        except (ValueError, TypeError, AttributeError):  # not JSON, or JSON of another protocol
            self._error = f"asked for the events of a chat completion, found {data[:60]!r}"

    def _read(self, event: dict[str, Any], now_s: float) -> None:
        if "error" in event:
            self._error = f"error in the stream: {_message(event['error'])}"
            return
        self._usage = event.get("usage") or self._usage
        for choice in event.get("choices") or ():
            self._finish = choice.get("finish_reason") or self._finish
            if _carries_tokens(choice.get("delta") or {}):
                self._token(now_s)

    def _token(self, now_s: float) -> None:
        if self.first_s is None:
            self.first_s = now_s
        else:
            self._gaps_s.append(now_s - self._last_s)
        self._last_s = now_s
        self._on_chunk(1)


def _carries_tokens(delta: dict[str, Any]) -> bool:
    if delta.get("content"):
        return True
    # A token may decode to no text (half a character), but then no role comes with it.
    return bool(delta) and "role" not in delta


def _message(error: object) -> str:
    return str(error.get("message", error)) if isinstance(error, dict) else str(error)

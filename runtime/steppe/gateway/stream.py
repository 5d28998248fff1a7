r"""Scans responses as they pass: first token, usage, finish reason, errors.

Streams are not parsed as JSON on the way. The patterns cannot match inside generated text, because
JSON escapes the quotes there (`\"usage\"`). They could match in objects that echo the client's own
JSON, such as the tools and the metadata of the responses API. So of named events (responses and
messages) only deltas are searched, which echo nothing. Whole responses, and the events with the
final state, are decoded once per request.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeGuard

import orjson

from steppe.gateway.openai_error import translate_events

_TEXT = re.compile(
    rb'"(?:content|reasoning|reasoning_content|text|delta|thinking|arguments|partial_json)"'
    rb'\s*:\s*"[^"]'
)
_FINISH = re.compile(rb'"finish_reason"\s*:\s*"([A-Za-z_]+)"')
_FINISHES = frozenset(
    {"stop", "length", "tool_calls", "content_filter", "repetition", "abort", "error"}
)
_BROKEN_FINISHES = frozenset({"abort", "error"})
_BROKEN_EVENT = re.compile(
    rb"^(?:event:[^\n]*\n)?data:[^\n]*"
    rb'(?:"finish_reason"\s*:\s*"(?:abort|error)"|"type"\s*:\s*"(?:server_error|overloaded)")',
    re.MULTILINE,
)
"""An event with which an engine fails, or with which the gateway of another site gives up."""
_SAME_FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
}
_USAGE = re.compile(rb'"usage"\s*:\s*(?=\{)')
_DATA = b"data:"
_NAMED = re.compile(rb"^event:[ \t]*([a-z_.]+)[ \t]*\r?\ndata:(.*)", re.MULTILINE)
_DELTAS = (b".delta", b"_delta")
_STATE_EVENTS = frozenset(
    {
        b"message_start",
        b"message_delta",
        b"response.completed",
        b"response.incomplete",
        b"response.failed",
    }
)
_ERROR = re.compile(
    rb'^(?:data:\s*\{\s*(?:"type"\s*:\s*)?"(?:error|response\.failed)"'
    rb"|event:\s*(?:error|response\.failed)\s*$)",
    re.MULTILINE,
)
_FIRST_DATA = re.compile(rb"^data:[ \t]*(\{.*\})[ \t]*\r?$", re.MULTILINE)
_ERROR_CODE = re.compile(rb'"code"\s*:\s*(\d{3})\b')
_DONE = re.compile(
    rb"^(?:data:\s*\[DONE\]|event:\s*(?:response\.(?:completed|incomplete|failed)|message_stop)\s*$)",
    re.MULTILINE,
)
_LONGEST_END_BYTES = len(b"\n\r\n")
MOST_TOKENS = 2**40
"""No request has more; a count beyond it, or below 0, is none."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a request, as the replica reports them.

    Attributes:
        prompt_tokens: Tokens of the prompt, cached ones included.
        cached_tokens: Prompt tokens found in the prefix cache; None if not reported.
        output_tokens: Tokens generated.
    """

    prompt_tokens: int
    cached_tokens: int | None
    output_tokens: int


@dataclass(frozen=True, slots=True)
class ResponseSummary:
    """Finish reason and usage of a response.

    Attributes:
        finish: The finish reason in the terms of the chat API; `other` for an unknown one, so that
            there are few; None without one.
        usage: None without one, as with `"usage": null`.
    """

    finish: str | None = None
    usage: Usage | None = None


def summarize(text: bytes) -> ResponseSummary:
    """Return the summary of a whole response, or of an event of the messages or responses API."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return ResponseSummary()
    match found:
        case {"response": dict(response)} | {"message": dict(response)}:  # inside an event
            return ResponseSummary(_finish_of(response), _usage_of(response))
        case _:
            return ResponseSummary(_finish_of(found), _usage_of(found))


def find_error_status(first: bytes) -> int | None:
    """Return the status of the error event that a stream begins with; None if it does not.

    vLLM sends status 200 before the engine has started, so a dead engine shows only here.
    """
    if not _ERROR.match(first):
        return None
    code = _ERROR_CODE.search(first)
    return int(code.group(1)) if code else 500


def find_client_error(first: bytes) -> tuple[int, bytes] | None:
    """Return the 4xx status and the body of the error event that a stream begins with, if any.

    vLLM sends status 200 before it has looked at all parameters of a streamed request.
    """
    status = find_error_status(first)
    data = _FIRST_DATA.search(first)
    if status is None or not 400 <= status < 500 or data is None:
        return None
    return status, data.group(1)


def before_failure(lines: bytes) -> bytes | None:
    """Return the events before the one with which an engine fails a request; None without one.

    Args:
        lines: Whole events, with errors in OpenAI's shape.
    """
    failed = _BROKEN_EVENT.search(lines)
    return None if failed is None else lines[: failed.start()]


class StreamScanner:
    """Scans a server-sent event stream as it passes, at any chunk boundaries.

    It passes whole events on and holds a partial one back, so that a stream that breaks can still
    end with a readable event. A client cannot use a partial event, so this delays nothing. Error
    events of the replica are translated to OpenAI's shape.

    Attributes:
        first_text_s: When the first event passed that carries generated text, reasoning or tool
            call arguments; else, the first with a finish reason. vLLM's role-only first event
            carries none, so it does not count.
        text_events: Events from that one on, without the `[DONE]`; 0 where lines end in CR LF.
        finish: The last finish reason that passed.
        is_done: Whether `[DONE]` passed, or the last event of the messages or the responses API.
        has_error: Whether an error event passed, from the replica or the gateway.
    """

    def __init__(self, on_first_text: Callable[[], None] = lambda: None) -> None:
        """Start without a byte; `on_first_text` is called when `first_text_s` is known."""
        self.first_text_s: float | None = None
        self.text_events = 0
        self._on_first_text = on_first_text
        self.finish: str | None = None
        self.is_done = False
        self.has_error = False
        self._usage_data = b""
        self._partial = bytearray()

    def feed(self, chunk: bytes, now_s: float) -> bytes:
        """Take the next bytes from the replica; return those that may go to the client."""
        start = max(0, len(self._partial) + 1 - _LONGEST_END_BYTES)
        self._partial += chunk
        end = _after_last_event(self._partial, start)
        if not end:
            return b""
        whole = bytes(self._partial[:end])
        del self._partial[:end]
        return self._scan(whole, now_s)

    def end(self, now_s: float) -> bytes:
        """Return the bytes held back, after the replica has ended the stream properly."""
        rest = bytes(self._partial)
        self._partial.clear()
        return self._scan(rest, now_s) if rest else b""

    def break_off(self, event: bytes) -> bytes:
        """Return the bytes that end a broken stream with `event`; a partial event is dropped."""
        self._partial.clear()
        self.has_error = True
        return event

    def go_on(self) -> None:
        """Continue with another replica: drop a partial event, and forget how this one broke."""
        self._partial.clear()
        self.has_error = self.is_done = False
        if self.finish in _BROKEN_FINISHES:
            self.finish = None

    @property
    def is_broken(self) -> bool:
        """Whether the engine has failed or aborted the request in the events so far."""
        return self.has_error or self.finish in _BROKEN_FINISHES

    @property
    def outcome(self) -> str:
        """The finish reason; `error` after an error event, and if no end passed."""
        if self.has_error:
            return "error"
        return self.finish or ("stop" if self.is_done else "error")

    @property
    def usage(self) -> Usage | None:
        """The last usage that passed; decoded at each call."""
        return summarize(self._usage_data).usage

    def _scan(self, lines: bytes, now_s: float) -> bytes:
        """Scan whole events; return them, with error events translated."""
        is_named = b"event:" in lines  # a cheap test before the patterns that go line by line
        plain = _NAMED.sub(self._read_named, lines) if is_named else lines
        reasons = _FINISH.findall(plain)
        if reasons:
            self.finish = _chat_reason(reasons[-1].decode())
        start = 0
        if self.first_text_s is None:
            text = _TEXT.search(plain)
            if text or self.finish:
                start = text.start() if text else 0
                self.first_text_s = now_s
                self._on_first_text()
        if self.first_text_s is not None:
            self.text_events += plain.count(b"\n\n", start)
        if b'"usage"' in plain:
            self._keep_usage(plain)
        if (is_named or b"[DONE]" in lines) and _DONE.search(lines):
            self.is_done = True
            self.text_events -= 1
        if (is_named or b'"error"' in lines) and _ERROR.search(lines):
            self.has_error = True
            return translate_events(lines)
        return lines

    def _read_named(self, event: re.Match[bytes]) -> bytes:
        """Read the state of a named event; return the part of it to search for text."""
        name, data = event.groups()
        if name in _STATE_EVENTS:
            summary = summarize(data)
            self.finish = summary.finish or self.finish
            if summary.usage is not None:
                self._usage_data = data
            return b""
        return data if name.endswith(_DELTAS) else b""

    def _keep_usage(self, lines: bytes) -> None:
        starts = [match.start() for match in _USAGE.finditer(lines)]
        if starts:
            start = lines.rfind(b"\n", 0, starts[-1]) + 1
            line = lines[start : lines.find(b"\n", starts[-1]) + 1 or None]
            self._usage_data = line.removeprefix(_DATA)


def _after_last_event(text: bytearray, start: int) -> int:
    """Return the end of the last event that ends after `start`; 0 if none does."""
    if text.endswith(b"\n\n"):  # the usual case
        return len(text)
    plain, crlf = text.rfind(b"\n\n", start), text.rfind(b"\n\r\n", start)
    return max(plain + 2 if plain >= 0 else 0, crlf + 3 if crlf >= 0 else 0)


def _finish_of(response: object) -> str | None:
    match response:
        case {"choices": [*_, {"finish_reason": str(reason)}]}:
            return _chat_reason(reason)
        case {"stop_reason": str(reason)} | {"delta": {"stop_reason": str(reason)}}:
            return _chat_reason(reason)
        case {"incomplete_details": {"reason": str(reason)}}:
            return _chat_reason(reason)
        case {"status": "completed"}:
            return "stop"
        case _:
            return None


def _chat_reason(reason: str) -> str:
    return reason if reason in _FINISHES else _SAME_FINISH.get(reason, "other")


def _usage_of(response: object) -> Usage | None:
    match response:
        case {"usage": {"prompt_tokens": prompt, **rest}} if _is_count(prompt):
            cached = _count(rest.get("prompt_tokens_details"), "cached_tokens")
            return Usage(prompt, cached, _count(rest, "completion_tokens") or 0)
        case {"usage": {"input_tokens": prompt, **rest}} if _is_count(prompt):
            read = _count(rest, "cache_read_input_tokens")  # messages: not in `input_tokens`
            prompt += (read or 0) + (_count(rest, "cache_creation_input_tokens") or 0)
            cached = _count(rest.get("input_tokens_details"), "cached_tokens")
            cached = cached if read is None else read
            return Usage(prompt, cached, _count(rest, "output_tokens") or 0)
        case _:
            return None


def _count(counts: object, name: str) -> int | None:
    found = counts.get(name) if isinstance(counts, dict) else None
    return found if _is_count(found) else None


def _is_count(found: object) -> TypeGuard[int]:
    return type(found) is int and 0 <= found <= MOST_TOKENS

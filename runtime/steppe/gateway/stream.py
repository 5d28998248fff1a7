r"""What a response tells while it passes: first token, usage, how it ended.

Streams are not parsed as JSON on the way. The patterns cannot match inside generated text, because
JSON escapes the quotes there (`\"usage\"`). They could match in objects that echo the client's own
JSON, such as the tools and the metadata of the responses API. So of named events (responses and
messages) they see deltas alone, which echo nothing. What echoes is decoded, once a request: the
whole answers and the events that tell the end.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import orjson

_TEXT = re.compile(
    rb'"(?:content|reasoning|reasoning_content|text|delta|thinking|arguments|partial_json)"'
    rb'\s*:\s*"[^"]'
)
_FINISH = re.compile(rb'"finish_reason"\s*:\s*"([A-Za-z_]+)"')
_FINISHES = frozenset(
    {"stop", "length", "tool_calls", "content_filter", "repetition", "abort", "error"}
)
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
_TELLING = frozenset(
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
_ERROR_CODE = re.compile(rb'"code"\s*:\s*(\d{3})\b')
_DONE = re.compile(
    rb"^(?:data:\s*\[DONE\]|event:\s*(?:response\.(?:completed|incomplete|failed)|message_stop)\s*$)",
    re.MULTILINE,
)
_LONGEST_END_BYTES = len(b"\n\r\n")


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that the replica says a request used.

    Attributes:
        prompt_tokens: Tokens of the prompt, cached ones included.
        cached_tokens: Prompt tokens found in the prefix cache; nothing when not told.
        output_tokens: Tokens generated.
    """

    prompt_tokens: int
    cached_tokens: int | None
    output_tokens: int


@dataclass(frozen=True, slots=True)
class ResponseSummary:
    """What an answer tells of itself.

    Attributes:
        finish: Why it ended, in the words of the chat API; `other` for a word that is not known,
            so that there are few of them; nothing when not told.
        usage: Nothing when not told, as by `"usage": null`.
    """

    finish: str | None = None
    usage: Usage | None = None


def read_answer(text: bytes) -> ResponseSummary:
    """Return what a whole answer tells, or an event of the messages or the responses API."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return ResponseSummary()
    match found:
        case {"response": dict(answer)} | {"message": dict(answer)}:  # the event wraps it
            return ResponseSummary(_finish_of(answer), _usage_of(answer))
        case _:
            return ResponseSummary(_finish_of(found), _usage_of(found))


def find_error_status(first: bytes) -> int | None:
    """Return the status in an error event that a stream begins with; nothing when it does not.

    vLLM answers 200 before an engine has said anything, so a dead engine shows only here.
    """
    if not _ERROR.match(first):
        return None
    code = _ERROR_CODE.search(first)
    return int(code.group(1)) if code else 500


class StreamScanner:
    """Reads a server-sent event stream as it passes, at any chunk boundaries.

    It lets whole events through and holds an unfinished one back, so that a stream that breaks
    can still end with an event that a client can read. An unfinished event is of no use to a
    client, so nothing arrives later for it.

    Attributes:
        first_text_s: When the first event passed that carries generated text, reasoning or tool
            call arguments; else, the first with a finish reason. vLLM's role-only first event
            carries none, so it does not count.
        finish: The last finish reason that passed.
        is_done: Whether `[DONE]` passed, or the last event of the messages or the responses API.
        has_error: Whether an error event passed, the replica's or ours.
    """

    def __init__(self, began: Callable[[], None] = lambda: None) -> None:
        """Begin without a byte; `began` is called when `first_text_s` is known."""
        self.first_text_s: float | None = None
        self._began = began
        self.finish: str | None = None
        self.is_done = False
        self.has_error = False
        self._tells_usage = b""
        self._held = bytearray()

    def feed(self, chunk: bytes, now_s: float) -> bytes:
        """Take the next bytes from the replica; return those that may go to the client."""
        searched = max(0, len(self._held) + 1 - _LONGEST_END_BYTES)
        self._held += chunk
        cut = _after_last_event(self._held, searched)
        if not cut:
            return b""
        whole = bytes(self._held[:cut])
        del self._held[:cut]
        self._scan(whole, now_s)
        return whole

    def end(self, now_s: float) -> bytes:
        """Return what was held back, now that the replica has ended the stream well."""
        rest = bytes(self._held)
        self._held.clear()
        if rest:
            self._scan(rest, now_s)
        return rest

    def break_off(self, event: bytes) -> bytes:
        """Return the bytes that end a broken stream with `event`; what was held back is lost."""
        self._held.clear()
        self.has_error = True
        return event

    @property
    def outcome(self) -> str:
        """The finish reason; `error` after an error event, and when no end of any kind passed."""
        if self.has_error:
            return "error"
        return self.finish or ("stop" if self.is_done else "error")

    @property
    def usage(self) -> Usage | None:
        """The last usage that passed; decoded when asked."""
        return read_answer(self._tells_usage).usage

    def _scan(self, lines: bytes, now_s: float) -> None:
        is_named = b"event:" in lines  # lines are looked at one by one only where it may help
        plain = _NAMED.sub(self._read_named, lines) if is_named else lines
        reasons = _FINISH.findall(plain)
        if reasons:
            self.finish = _in_words_of_chat(reasons[-1].decode())
        if self.first_text_s is None and (self.finish or _TEXT.search(plain)):
            self.first_text_s = now_s
            self._began()
        if b'"usage"' in plain:
            self._keep_usage(plain)
        if (is_named or b'"error"' in lines) and _ERROR.search(lines):
            self.has_error = True
        if (is_named or b"[DONE]" in lines) and _DONE.search(lines):
            self.is_done = True

    def _read_named(self, event: re.Match[bytes]) -> bytes:
        """Take what a named event tells; return what of it may be searched for text."""
        name, data = event.groups()
        if name in _TELLING:
            told = read_answer(data)
            self.finish = told.finish or self.finish
            if told.usage is not None:
                self._tells_usage = data
            return b""
        return data if name.endswith(_DELTAS) else b""

    def _keep_usage(self, lines: bytes) -> None:
        starts = [match.start() for match in _USAGE.finditer(lines)]
        if starts:
            start = lines.rfind(b"\n", 0, starts[-1]) + 1
            line = lines[start : lines.find(b"\n", starts[-1]) + 1 or None]
            self._tells_usage = line.removeprefix(_DATA)


def _after_last_event(text: bytearray, start: int) -> int:
    """Return where the last event ends that ends after `start`; 0 when none does."""
    if text.endswith(b"\n\n"):  # nearly always
        return len(text)
    plain, crlf = text.rfind(b"\n\n", start), text.rfind(b"\n\r\n", start)
    return max(plain + 2 if plain >= 0 else 0, crlf + 3 if crlf >= 0 else 0)


def _finish_of(answer: object) -> str | None:
    match answer:
        case {"choices": [*_, {"finish_reason": str(reason)}]}:
            return _in_words_of_chat(reason)
        case {"stop_reason": str(reason)} | {"delta": {"stop_reason": str(reason)}}:
            return _in_words_of_chat(reason)
        case {"incomplete_details": {"reason": str(reason)}}:
            return _in_words_of_chat(reason)
        case {"status": "completed"}:
            return "stop"
        case _:
            return None


def _in_words_of_chat(reason: str) -> str:
    return reason if reason in _FINISHES else _SAME_FINISH.get(reason, "other")


def _usage_of(answer: object) -> Usage | None:
    match answer:
        case {"usage": {"prompt_tokens": int(prompt), **rest}}:
            cached = _count(rest.get("prompt_tokens_details"), "cached_tokens")
            return Usage(prompt, cached, _count(rest, "completion_tokens") or 0)
        case {"usage": {"input_tokens": int(prompt), **rest}}:
            read = _count(rest, "cache_read_input_tokens")  # messages: not in `input_tokens`
            prompt += (read or 0) + (_count(rest, "cache_creation_input_tokens") or 0)
            cached = _count(rest.get("input_tokens_details"), "cached_tokens")
            cached = cached if read is None else read
            return Usage(prompt, cached, _count(rest, "output_tokens") or 0)
        case _:
            return None


def _count(counts: object, name: str) -> int | None:
    found = counts.get(name) if isinstance(counts, dict) else None
    return found if isinstance(found, int) else None

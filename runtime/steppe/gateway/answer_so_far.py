r"""What a client has of a streamed answer, so that another replica can go on where it ended.

Events are searched, not parsed, as in `stream`: JSON escapes the quotes inside generated text, and
plain streams echo nothing of the client's. vLLM writes `null` where it was not asked for token ids,
so a client that did not ask for them gets the very bytes that it would get without them.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from steppe.gateway.continuable import PlainStream
from steppe.gateway.stream import Usage

_IDS = re.compile(rb'"(prompt_)?token_ids":(\s?)\[([0-9, ]*)\]')
_STRING = rb'"([^"\\]*(?:\\.[^"\\]*)*)"'
_TEXT = re.compile(rb'"(content|reasoning|text)":\s?' + _STRING)
_USUAL = re.compile(
    rb'"choices":\[\{"index":0,"(?:delta":\{")?(content|reasoning|text)":'
    + _STRING
    + rb'[^\[]*"token_ids":(\[([0-9,]+)\])[^\[]*\n\n'
)
"""One event with one text and its tokens, as vLLM writes nearly all of them."""
_HEAD = re.compile(rb'^data:\s*(\{.*?)"choices"')
_NAME = re.compile(rb'"id":\s?"[^"]*"')
_CREATED = re.compile(rb'"created":\s?\d+')
_NO_CHOICE = re.compile(rb'"choices":\s?\[\]')
_EMPTY = re.compile(rb'data:[^\n]*"delta":\{\},[^\n]*"finish_reason":null[^\n]*\n\n')
_DATA, _END, _DONE = b"data:", b"\n\n", b"data: [DONE]\n\n"
_TEXTS = ("content", "reasoning", "text")


class AnswerSoFar:
    """Token ids and text lengths of an answer, read as its events pass.

    Attributes:
        prompt: Token ids of the prompt, separated by commas; empty before the first event.
        texts: Characters that the client has, by the name of their field.
        has_begun: Whether an event has passed.
        is_known: Whether all token ids are known: none passed without its id.
        has_closed: Whether the event without a choice has passed, which has the usage.
    """

    def __init__(self, plain: PlainStream) -> None:
        """Begin without an event of a stream whose client asked for `plain`."""
        self._plain = plain
        self.prompt = b""
        self._output: list[bytes] = []
        self.output_tokens = 0
        self.texts: dict[str, int] = {}
        self.is_known, self.has_begun, self.has_closed = True, False, False
        self._head, self._saw_ids = b"", False

    @property
    def output(self) -> bytes:
        """Token ids of the output, separated by commas."""
        return b",".join(self._output)

    @property
    def usage(self) -> Usage:
        """The tokens so far; the cached ones are not known."""
        return Usage(_count(self.prompt), None, self.output_tokens)

    @property
    def names(self) -> list[tuple[re.Pattern[bytes], bytes]]:
        """The fields `id` and `created` of the first event, each with its pattern."""
        found = [(field, field.search(self._head)) for field in (_NAME, _CREATED)]
        return [(field, match.group()) for field, match in found if match]

    def feed(self, lines: bytes) -> bytes:
        """Take whole events; return them as the client asked for them."""
        if not self.has_begun:
            self._begin(lines)
        usual = _USUAL.match(lines, lines.find(b'"choices"')) if b'"usage"' not in lines else None
        if usual is not None and usual.end() == len(lines):
            return self._take_usual(usual)
        self._saw_ids = False
        passed = _IDS.sub(self._take_ids, lines)
        found = [(name, text) for name, text in _TEXT.findall(lines) if text]
        if found and not self._saw_ids:
            self.is_known = False
        for name, text in found:
            self._take_text(name, text)
        if b'"usage"' in lines and _NO_CHOICE.search(lines):
            self.has_closed = True
        if self._plain.wants_ids:
            return lines
        return _EMPTY.sub(b"", passed) if b'"delta":{}' in passed else passed

    def _take_usual(self, event: re.Match[bytes]) -> bytes:
        name, text, _, ids = event.groups()
        if text:
            self._take_text(name, text)
        self._output.append(ids)
        self.output_tokens += _count(ids)
        if self._plain.wants_ids:
            return event.string
        begin, end = event.span(3)
        return event.string[:begin] + b"null" + event.string[end:]

    def _take_text(self, name: bytes, text: bytes) -> None:
        key = name.decode()
        self.texts[key] = self.texts.get(key, 0) + _length(text)

    def closing(self) -> bytes:
        """Return the events after the last text: the usage, if it is still missing, and the end."""
        if self.has_closed or not self._plain.wants_usage:
            return _DONE
        prompt, output = _count(self.prompt), self.output_tokens
        counts = {"prompt_tokens": prompt, "total_tokens": prompt + output}
        usage = orjson.dumps({**counts, "completion_tokens": output})
        return b"data: " + self._head + b'"choices":[],"usage":' + usage + b"}\n\n" + _DONE

    def _begin(self, lines: bytes) -> None:
        head = _HEAD.match(lines)
        self.has_begun = bool(lines)
        self._head = head.group(1) if head else b""

    def _take_ids(self, found: re.Match[bytes]) -> bytes:
        is_prompt, space, ids = found.groups()
        if is_prompt:
            self.prompt = self.prompt or ids
            return b'"prompt_token_ids":' + space + b"null"
        self._saw_ids = True
        if ids:
            self._output.append(ids)
            self.output_tokens += _count(ids)
        return b'"token_ids":' + space + b"null"


class Rejoin:
    """Turns the events of a continued stream into those that its client does not have.

    The continued stream begins anew: with the role, and with all the text so far.
    """

    def __init__(self, so_far: AnswerSoFar) -> None:
        """Begin after what the client has."""
        self._has_begun, self._names = so_far.has_begun, so_far.names
        self._texts = dict(so_far.texts)
        self._ids = so_far.output_tokens
        self._is_at_start = True

    @property
    def has_joined(self) -> bool:
        """Whether all that the client has was left out."""
        return not (self._is_at_start or self._ids or any(self._texts.values()))

    def feed(self, lines: bytes) -> bytes:
        """Take whole events; return the new ones, with the id and time of the first stream."""
        if not self.has_joined:
            events = [event + _END for event in lines.split(_END) if event]
            lines = b"".join(map(self._rest_of, events))
        for field, first in self._names if lines else ():
            lines = field.sub(lambda _, first=first: first, lines)  # type: ignore[misc]
        return lines

    def _rest_of(self, event: bytes) -> bytes:
        """Return what is new in one event; nothing if it has no news."""
        text = event[len(_DATA) :].strip()
        if self.has_joined or not event.startswith(_DATA) or text == b"[DONE]":
            return event
        found = orjson.loads(text)
        match found:
            case {"choices": [dict(choice)]}:
                is_opening = not choice.get("token_ids") and "role" in choice.get("delta", {})
                if is_opening:
                    return b"" if self._has_begun else event
                self._is_at_start = False
                if not self._cut(choice):
                    return b""
            case _:
                return event
        return b"data: " + orjson.dumps(found) + _END

    def _cut(self, choice: dict[str, Any]) -> bool:
        """Cut what the client has off a choice; return whether anything is left."""
        ids = choice.get("token_ids") or []
        known = min(self._ids, len(ids))
        self._ids -= known
        choice["token_ids"] = ids[known:]
        if self._has_begun and "prompt_token_ids" in choice:
            choice["prompt_token_ids"] = None
        text = choice.get("delta", choice)
        is_parsed = "reasoning" in self._texts or "reasoning" in text
        for name in _TEXTS:
            whole = text.get(name)
            if isinstance(whole, str):
                skipped = min(self._texts.get(name, 0), len(whole))
                self._texts[name] = self._texts.get(name, 0) - skipped
                text[name] = whole[skipped:]
                if is_parsed and not text[name]:  # a parser sends no empty text
                    del text[name]
        is_new = any(text.get(name) for name in _TEXTS)
        return bool(is_new or choice["token_ids"] or choice.get("finish_reason"))


def _count(ids: bytes) -> int:
    return ids.count(b",") + 1 if ids else 0


def _length(text: bytes) -> int:
    """Return the number of characters of a JSON string, without its quotes."""
    if b"\\" not in text:
        return len(text.decode())
    return len(orjson.loads(b'"' + text + b'"'))

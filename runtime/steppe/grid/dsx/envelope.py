"""The envelope of a DSX Flex message: a CloudEvent 1.0.2 in structured mode, as JSON.

The dictionary is built here: the SDK of CloudEvents takes `specversion` 1.0 only, and DSX Flex says
1.0.2. The content, `data`, is a signed text (`jws`); the attributes beside it are not signed.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from steppe.errors import SteppeError

SPEC_VERSION = "1.0.2"
CONTENT_TYPE = "application/json"
_LATEST_S = 253_370_764_800.0
"""The year 9999, which every time zone can write, s since the Unix epoch."""
LARGEST_BYTES = 131_072
"""Largest message that is read, bytes."""

UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
SOURCE = re.compile(r"//grid/v1/(isv|dsx-flex-agent|infra)/([^/+#\s]{1,128})")
_TRACE = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_TIME = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)",
)


class MessageError(SteppeError):
    """A message is refused; the text says in one line what was asked and what was found."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message with its signed content.

    Attributes:
        id: UUID of version 4, one for each message.
        source: `//grid/v1/<role>/<identifier>` of its sender.
        type: Such as `grid.loadtarget.set.v1`.
        subject: Such as `loadtarget`.
        time: When it was made, RFC 3339, as sent.
        traceparent: W3C trace context.
        data: JWS in compact form.
        correlation_id: UUID of version 4 that joins an answer to its cause.
        tracestate: W3C trace state.
    """

    id: str
    source: str
    type: str
    subject: str
    time: str
    traceparent: str
    data: str
    correlation_id: str | None = None
    tracestate: str | None = None

    @property
    def time_s(self) -> float:
        """When it was made, s since the Unix epoch."""
        return seconds_of("time", self.time)

    def to_bytes(self) -> bytes:
        """Return the payload of an MQTT message."""
        fields = {
            "specversion": SPEC_VERSION,
            "id": self.id,
            "source": self.source,
            "type": self.type,
            "time": self.time,
            "datacontenttype": CONTENT_TYPE,
            "subject": self.subject,
            "traceparent": self.traceparent,
            "tracestate": self.tracestate,
            "correlationid": self.correlation_id,
            "data": self.data,
        }
        return orjson.dumps({key: each for key, each in fields.items() if each is not None})


def parse_envelope(payload: bytes) -> Envelope:
    """Return the message in the payload of an MQTT message.

    Raises:
        MessageError: It is too large, is no JSON object, or breaks a rule of DSX Flex 1.7.
    """
    if len(payload) > LARGEST_BYTES:
        raise MessageError(
            f"message: asked for {LARGEST_BYTES} bytes at most, found {len(payload)}"
        )
    fields = json_object("message", payload)
    _check_constant(fields, "specversion", SPEC_VERSION)
    _check_constant(fields, "datacontenttype", CONTENT_TYPE)
    envelope = Envelope(
        id=_matching(fields, "id", UUID4, "a UUID of version 4"),
        source=_matching(fields, "source", SOURCE, "//grid/v1/<role>/<identifier>"),
        type=_text(fields, "type"),
        subject=_text(fields, "subject"),
        time=_text(fields, "time"),
        traceparent=_matching(fields, "traceparent", _TRACE, "a W3C trace context"),
        data=_text(fields, "data", LARGEST_BYTES),
        correlation_id=_optional_uuid(fields),
        tracestate=_text(fields, "tracestate", 512) if "tracestate" in fields else None,
    )
    seconds_of("time", envelope.time)
    return envelope


def json_object(what: str, payload: bytes) -> dict[str, Any]:
    """Return a JSON object; `NaN` and infinities are no JSON.

    Raises:
        MessageError: It is none.
    """
    try:
        found = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise MessageError(f"{what}: asked for JSON, found none: {error}") from None
    if not isinstance(found, dict):
        raise MessageError(f"{what}: asked for a JSON object, found {type(found).__name__}")
    return found


def seconds_of(what: str, text: object) -> float:
    """Return a time of RFC 3339 as s since the Unix epoch.

    Raises:
        MessageError: It is no such time, or not one from 1970 to 9998.
    """
    if isinstance(text, str) and _TIME.fullmatch(text):
        with contextlib.suppress(ValueError):  # a 30th of February
            at_s = datetime.fromisoformat(text.upper()).timestamp()
            if 0 <= at_s < _LATEST_S:
                return at_s
    raise MessageError(f"{what}: asked for a time as 2026-12-01T12:00:00Z, found {shown(text)}")


def time_of(at_s: float) -> str:
    """Return a time of RFC 3339 in UTC, to the millisecond."""
    text = datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def next_trace(parent: str | None) -> str:
    """Return a trace context: a new span of the trace of `parent`, or of a new trace."""
    found = _TRACE.fullmatch(parent) if parent else None
    trace, flags = (found[2], found[4]) if found else (secrets.token_hex(16), "01")
    return f"00-{trace}-{secrets.token_hex(8)}-{flags}"


def shown(value: object) -> str:
    """Return the start of a value that others chose, so that it fits into one line."""
    return repr(value)[:60]


def _check_constant(fields: dict[str, Any], name: str, wanted: str) -> None:
    if fields.get(name) != wanted:
        raise MessageError(f"{name}: asked for {wanted}, found {shown(fields.get(name))}")


def _text(fields: dict[str, Any], name: str, longest: int = 128) -> str:
    found = fields.get(name)
    if isinstance(found, str) and 0 < len(found) <= longest and found.isprintable():
        return found
    raise MessageError(f"{name}: asked for 1 to {longest} characters, found {shown(found)}")


def _matching(fields: dict[str, Any], name: str, pattern: re.Pattern[str], wanted: str) -> str:
    found = fields.get(name)
    if isinstance(found, str) and pattern.fullmatch(found):
        return found
    raise MessageError(f"{name}: asked for {wanted}, found {shown(found)}")


def _optional_uuid(fields: dict[str, Any]) -> str | None:
    if fields.get("correlationid") is None:
        return None
    return _matching(fields, "correlationid", UUID4, "a UUID of version 4")

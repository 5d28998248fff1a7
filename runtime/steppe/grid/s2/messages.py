"""The messages of S2, by s2-python: what is sent passes its classes, and so does what is read.

A message that is read is checked against the generated class of its schema as well, in the strict
mode of JSON: the classes of the package let some required fields be absent, and take a true for 1.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import orjson
from pydantic import BaseModel, ValidationError
from s2python.s2_parser import TYPE_TO_MESSAGE_CLASS, S2Parser
from s2python.s2_validation_error import S2ValidationError
from s2python.version import S2_VERSION

from steppe.errors import SteppeError

VERSIONS = (S2_VERSION, "1.0.0", "0.0.1-beta")
"""Versions of the protocol that are spoken here, the best first."""
MOST_BYTES = 1 << 20
"""Longest message that is read, bytes."""
NO_MESSAGE = str(UUID(int=0))
"""Names a message without an id that can be read."""
_GENERATED = "s2python.generated.gen_s2"


class BadMessageError(SteppeError):
    """A message is refused.

    Attributes:
        status: Value of the ReceptionStatus that answers it.
        subject: Id of the message.
    """

    def __init__(self, line: str, status: str, subject: str = NO_MESSAGE) -> None:
        """Keep the line for people, the status and the id."""
        super().__init__(line)
        self.status, self.subject = status, subject


def message(kind: str, **fields: Any) -> str:
    """Return a message with a new id, as JSON; a field that is None is left out.

    Args:
        kind: Its type, such as `PEBC.PowerConstraints`.
        fields: Its fields, as JSON has them.
    """
    raw = {name: value for name, value in fields.items() if value is not None}
    if kind != "ReceptionStatus":
        raw = {"message_id": str(uuid4()), **raw}
    return str(S2Parser.parse_as_any_message({"message_type": kind, **raw}).to_json())


def reception(subject: str, status: str, why: str = "") -> str:
    """Return the answer to a message."""
    label = why[:500] or None
    return message(
        "ReceptionStatus", subject_message_id=subject, status=status, diagnostic_label=label
    )


def parse(text: str | bytes) -> Any:
    """Return a message as its class of s2-python.

    Raises:
        BadMessageError: It is no JSON, no message of S2, or breaks the schema of its type.
    """
    if len(text) > MOST_BYTES:
        raise BadMessageError(
            f"asked for {MOST_BYTES} bytes at most, found {len(text)}", "INVALID_DATA"
        )
    try:
        raw = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadMessageError(f"asked for JSON, found none: {error}", "INVALID_DATA") from None
    if not isinstance(raw, dict):
        raise BadMessageError("asked for a JSON object, found another value", "INVALID_MESSAGE")
    subject, kind = _id_of(raw), raw.get("message_type")
    known = TYPE_TO_MESSAGE_CLASS.get(kind) if isinstance(kind, str) else None
    if known is None:
        line = f"message_type: asked for a message of S2, found {str(kind)[:60]!r}"
        raise BadMessageError(line, "INVALID_MESSAGE", subject)
    try:
        _schema(known).model_validate_json(text, strict=True)
        return known.from_dict(raw)
    except (ValidationError, S2ValidationError, ValueError) as error:
        line = f"{kind}: {_first_fault(error)}"
        raise BadMessageError(line, "INVALID_MESSAGE", subject) from None


def when(at_s: float) -> str:
    """Return a time as the messages have it."""
    return datetime.fromtimestamp(at_s, UTC).isoformat()


def _schema(known: type) -> type[BaseModel]:
    """Return the class that was generated from the schema."""
    found = next(base for base in known.__mro__ if base.__module__ == _GENERATED)
    assert issubclass(found, BaseModel)
    return found


def _id_of(raw: dict[str, Any]) -> str:
    try:
        return str(UUID(str(raw.get("message_id"))))
    except ValueError:
        return NO_MESSAGE


def _first_fault(error: Exception) -> str:
    cause = error.__cause__ if isinstance(error, S2ValidationError) else error
    if not isinstance(cause, ValidationError):
        return str(cause or error)[:200]
    fault = cause.errors()[0]
    place = ".".join(str(each) for each in fault["loc"]) or "the message"
    return f"{place}: {fault['msg']}"[:200]

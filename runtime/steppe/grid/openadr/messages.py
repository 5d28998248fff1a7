"""The messages of OpenADR 3.1 that a VEN reads, checked as far as their meaning allows.

Unknown fields are let through, as the standard lets a server add its own; the fields that are read
have the types and lengths of `openadr3.yaml` 3.1.0.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
)

MOST_INTERVALS = 5000
"""Most intervals of one event that are read."""
_MOST_ITEMS = 100

Id = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]+$", max_length=128)]


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("it has characters that do not print")
    return text


Name = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_printable)]
Value = StrictBool | StrictInt | StrictFloat | StrictStr | dict[str, Any]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Period(_Message):
    """`intervalPeriod`: a start, a length and how far the start may be moved."""

    start: str | None = None
    duration: str | None = None
    randomizeStart: str | None = None  # noqa: N815 (the name on the wire)


class Payload(_Message):
    """`valuesMap`: values and their type."""

    type: Name
    values: tuple[Value, ...] = Field(max_length=_MOST_ITEMS)


class Interval(_Message):
    """One interval of an event."""

    id: StrictInt
    intervalPeriod: Period | None = None  # noqa: N815
    payloads: tuple[Payload, ...] = Field(max_length=_MOST_ITEMS)


class PayloadDescriptor(_Message):
    """Units and currency of a payload type."""

    payloadType: Name  # noqa: N815
    units: str | None = None
    currency: str | None = None


class ReportDescriptor(_Message):
    """A report that an event asks for."""

    payloadType: Name  # noqa: N815
    readingType: str | None = None  # noqa: N815
    startInterval: StrictInt = -1  # noqa: N815
    numIntervals: StrictInt = -1  # noqa: N815
    historical: StrictBool = True
    frequency: StrictInt = -1
    repeat: StrictInt = 1


class Event(_Message):
    """An event of the server."""

    id: Id
    createdDateTime: str  # noqa: N815
    modificationDateTime: str  # noqa: N815
    objectType: Literal["EVENT"]  # noqa: N815
    programID: Id  # noqa: N815
    eventName: str | None = None  # noqa: N815
    duration: str | None = None
    priority: Annotated[StrictInt, Field(ge=0, le=2**31)] | None = None
    targets: tuple[Name, ...] | None = Field(default=None, max_length=_MOST_ITEMS)
    reportDescriptors: tuple[ReportDescriptor, ...] | None = Field(  # noqa: N815
        default=None, max_length=_MOST_ITEMS
    )
    payloadDescriptors: tuple[PayloadDescriptor, ...] | None = Field(  # noqa: N815
        default=None, max_length=_MOST_ITEMS
    )
    intervalPeriod: Period | None = None  # noqa: N815
    intervals: tuple[Interval, ...] = Field(default=(), max_length=MOST_INTERVALS)


class Program(_Message):
    """A program that events belong to."""

    id: Id
    programName: Name  # noqa: N815
    payloadDescriptors: tuple[PayloadDescriptor, ...] | None = None  # noqa: N815


class Ven(_Message):
    """This client, as the server keeps it."""

    id: Id
    venName: Name  # noqa: N815
    targets: tuple[Name, ...] | None = None


class Resource(_Message):
    """A resource of this client, as the server keeps it."""

    id: Id
    resourceName: Name  # noqa: N815
    venID: Id  # noqa: N815
    targets: tuple[Name, ...] | None = None


class Subscription(_Message):
    """A subscription, as the server keeps it."""

    id: Id
    clientName: Name  # noqa: N815


class AuthServer(_Message):
    """Where tokens are had."""

    tokenURL: Annotated[str, Field(min_length=2, max_length=8000)]  # noqa: N815


class AccessToken(_Message):
    """An access token and how long it holds, s."""

    access_token: Annotated[str, Field(min_length=1, max_length=4096)]
    token_type: Annotated[str, Field(pattern="^[Bb]earer$")]
    expires_in: Annotated[StrictInt, Field(ge=0)] | None = None
    scope: str | None = None


class Notification(_Message):
    """What the server posts to a subscriber: an operation on an object."""

    objectType: Literal["PROGRAM", "EVENT", "REPORT", "SUBSCRIPTION", "VEN", "RESOURCE"]  # noqa: N815
    operation: Literal["READ", "CREATE", "UPDATE", "DELETE"]
    object: dict[str, Any]

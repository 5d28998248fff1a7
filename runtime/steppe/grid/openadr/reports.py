"""The reports that a site sends: what it used, would have used and can shed. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from steppe.grid.openadr.messages import Event
from steppe.grid.openadr.times import text_of, text_of_duration

Given = Literal[
    "USAGE",
    "DEMAND",
    "BASELINE",
    "LOAD_SHED_DELTA_AVAILABLE",
    "UP_REGULATION_AVAILABLE",
    "DOWN_REGULATION_AVAILABLE",
    "OPERATING_STATE",
]
UNITS: dict[str, str | None] = {
    "USAGE": "KWH",
    "DEMAND": "KW",
    "BASELINE": "KW",
    "LOAD_SHED_DELTA_AVAILABLE": "KW",
    "UP_REGULATION_AVAILABLE": "KW",
    "DOWN_REGULATION_AVAILABLE": "KW",
    "OPERATING_STATE": None,
}
"""Payload types that can be reported, and the unit of each."""
_DIVISORS = {"KWH": 3.6e6, "KW": 1e3}
AGGREGATED = "AGGREGATED_REPORT"
"""Name of the resource in a report of the whole site."""


@dataclass(frozen=True, slots=True)
class Span:
    """A value for a while.

    Attributes:
        starts_s: Start, s since the Unix epoch.
        lasts_s: Length, s.
        value: J for USAGE, W for the other numbers, a word of the standard for OPERATING_STATE.
    """

    starts_s: float
    lasts_s: float
    value: float | str


def report_of(
    event_id: str,
    client: str,
    type_: Given,
    spans: Sequence[Span],
    *,
    resource: str = AGGREGATED,
    reading: str = "DIRECT_READ",
    name: str | None = None,
) -> dict[str, Any]:
    """Return the body of a report.

    Args:
        event_id: Event that it answers.
        client: Name of this client.
        type_: What is reported.
        spans: The values, in the order of time.
        resource: Resource that it is about.
        reading: `DIRECT_READ` for a meter, `FORECAST` for what is expected, `ESTIMATED` else.
        name: A name for people; the type and the first start if None.

    Raises:
        ValueError: There is no value, or a span has no length.
    """
    if not spans or any(span.lasts_s <= 0 for span in spans):
        raise ValueError(f"a report of {type_} needs values, each for more than 0 s")
    unit = UNITS[type_]
    descriptor: dict[str, Any] = {
        "objectType": "REPORT_PAYLOAD_DESCRIPTOR",
        "payloadType": type_,
        "readingType": reading,
    }
    if unit is not None:
        descriptor["units"] = unit
    whole_s = spans[-1].starts_s + spans[-1].lasts_s - spans[0].starts_s
    return {
        "eventID": event_id,
        "clientName": client,
        "reportName": name or f"{type_} {text_of(spans[0].starts_s)}",
        "payloadDescriptors": [descriptor],
        "resources": [
            {
                "resourceName": resource,
                "intervalPeriod": _period(spans[0].starts_s, whole_s),
                "intervals": [
                    _interval(number, span, type_, unit) for number, span in enumerate(spans)
                ],
            }
        ],
    }


def _interval(number: int, span: Span, type_: str, unit: str | None) -> dict[str, Any]:
    value = span.value
    if unit is not None:
        value = round(float(value) / _DIVISORS[unit], 9)
    return {
        "id": number,
        "intervalPeriod": _period(span.starts_s, span.lasts_s),
        "payloads": [{"type": type_, "values": [value]}],
    }


def _period(starts_s: float, lasts_s: float) -> dict[str, str]:
    return {"start": text_of(starts_s), "duration": text_of_duration(lasts_s)}


def asked(event: Event) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the payload types that an event asks reports of: those given here, and the others."""
    types = dict.fromkeys(each.payloadType for each in event.reportDescriptors or ())
    given = tuple(each for each in types if each in UNITS)
    return given, tuple(each for each in types if each not in UNITS)

from __future__ import annotations

from typing import Any

import pytest
from tests.fixtures.openadr_events import NOON_S, event_of

from steppe.grid.openadr.due import due_reports
from steppe.grid.openadr.intervals import timeline
from steppe.grid.openadr.messages import ReportDescriptor

HOUR_S = 3600.0


def due(
    after_h: float, until_h: float, *, event: dict[str, Any] | None = None, **asked: Any
) -> Any:
    """Return when reports are due, h after the start of four hours, and from and to which hour."""
    payload = {"payloads": [{"type": "SIMPLE", "values": [1]}]}
    fields: dict[str, Any] = {
        "intervalPeriod": {"start": "2026-12-01T12:00:00Z", "duration": "PT1H"},
        "intervals": [{"id": number, **payload} for number in range(4)],
        **(event or {}),
    }
    times = timeline(event_of("SIMPLE", 1, **fields), 0.0)
    descriptor = ReportDescriptor.model_validate({"payloadType": "USAGE", **asked})
    found = due_reports(descriptor, times, NOON_S + after_h * HOUR_S, NOON_S + until_h * HOUR_S)
    return [
        (
            (each.at_s - NOON_S) / HOUR_S,
            (each.spans[0][0] - NOON_S) / HOUR_S,
            (each.spans[-1][1] - NOON_S) / HOUR_S,
        )
        for each in found
    ]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, [(4, 0, 4)]),
        ({"numIntervals": 2}, [(4, 2, 4)]),
        ({"startInterval": 2}, [(2, 0, 2)]),
        ({"startInterval": 0, "numIntervals": 1, "frequency": 1, "repeat": -1},
         [(1, 0, 1), (2, 1, 2), (3, 2, 3), (4, 3, 4)]),
        ({"startInterval": 1, "numIntervals": 1, "frequency": 1, "repeat": 2},
         [(1, 0, 1), (2, 1, 2)]),
        ({"startInterval": 2, "numIntervals": 2, "repeat": -1}, [(2, 0, 2), (4, 2, 4)]),
        ({"startInterval": 0, "historical": False}, [(0, 0, 4)]),
        ({"startInterval": 1, "historical": False, "numIntervals": 2}, [(1, 1, 3)]),
        ({"startInterval": 0, "historical": False, "numIntervals": 48, "frequency": 1,
          "repeat": -1}, [(0, 0, 4), (1, 1, 4), (2, 2, 4), (3, 3, 4)]),
        ({"historical": False}, []),
        ({"startInterval": 9}, []),
        ({"frequency": 0, "startInterval": 1}, []),
    ],
)  # fmt: skip
def test_reports_are_due_as_their_descriptor_says(
    asked: dict[str, Any], found: list[tuple[float, float, float]]
) -> None:
    assert due(-1, 100, **asked) == found


def test_each_report_is_due_once() -> None:
    asked: dict[str, Any] = {"startInterval": 0, "numIntervals": 1, "frequency": 1, "repeat": -1}
    assert due(1, 2, **asked) == [(2, 1, 2)]
    assert due(2, 2.9, **asked) == []


def test_an_event_without_an_end_is_reported_for_ever() -> None:
    event: dict[str, Any] = {"duration": "P9999Y"}
    rolling: dict[str, Any] = {
        "historical": False,
        "numIntervals": 48,
        "frequency": 1,
        "repeat": -1,
    }
    assert due(100, 102, event=event, **rolling) == [(101, 101, 149), (102, 102, 150)]
    past: dict[str, Any] = {"numIntervals": 1, "frequency": 1, "repeat": -1}
    assert due(9999, 10000, event=event, **past) == [(10000, 9999, 10000)]
    assert due(9999, 10000, event=event, **{**past, "repeat": 5}) == []


def test_an_event_that_repeats_for_a_while_ends() -> None:
    event: dict[str, Any] = {"duration": "PT10H"}
    assert due(-1, 100, event=event) == [(10, 0, 10)]
    asked: dict[str, Any] = {"startInterval": 0, "numIntervals": 1, "frequency": 4, "repeat": -1}
    assert due(-1, 100, event=event, **asked) == [(4, 3, 4), (8, 7, 8)]

from __future__ import annotations

import pytest
from tests.fixtures.openadr_events import NOON_S, event_of
from tests.fixtures.openadr_schema import OpenAdrSchema

from steppe.grid.openadr.reports import Given, Span, asked, report_of


@pytest.mark.parametrize(
    ("type_", "value", "sent", "units"),
    [
        ("USAGE", 7.2e6, 2.0, "KWH"),
        ("DEMAND", 1500.0, 1.5, "KW"),
        ("BASELINE", 2000.0, 2.0, "KW"),
        ("LOAD_SHED_DELTA_AVAILABLE", 500.0, 0.5, "KW"),
        ("OPERATING_STATE", "NORMAL", "NORMAL", None),
    ],
)
def test_a_report_has_the_units_of_the_standard(
    schema: OpenAdrSchema, type_: Given, value: float | str, sent: float | str, units: str | None
) -> None:
    spans = [Span(NOON_S, 900.0, value), Span(NOON_S + 900, 900.0, value)]
    report = report_of("event-1", "site", type_, spans)
    schema.check("reportRequest", report)
    resource = report["resources"][0]
    assert resource["intervalPeriod"] == {"start": "2026-12-01T12:00:00Z", "duration": "PT1800S"}
    assert resource["intervals"][1] == {
        "id": 1,
        "intervalPeriod": {"start": "2026-12-01T12:15:00Z", "duration": "PT900S"},
        "payloads": [{"type": type_, "values": [sent]}],
    }
    assert report["payloadDescriptors"][0].get("units") == units


def test_a_report_without_values_is_refused() -> None:
    with pytest.raises(ValueError, match="a report of USAGE needs values"):
        report_of("event-1", "site", "USAGE", [])


def test_the_reports_that_an_event_asks_are_told_from_those_that_are_not_given() -> None:
    descriptors = [{"payloadType": each} for each in ("USAGE", "STORAGE_CHARGE_LEVEL", "USAGE")]
    event = event_of("SIMPLE", 1, reportDescriptors=descriptors)
    assert asked(event) == (("USAGE",), ("STORAGE_CHARGE_LEVEL",))

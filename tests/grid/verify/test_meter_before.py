"""The mean draw before an event as its baseline, for a site without enough days."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.grid.verify.made_report import LOAD, TIMES, made_report

from steppe.errors import UsageError
from steppe.grid.verify.audit import faults_of, kept_of
from steppe.grid.verify.load import Load
from steppe.grid.verify.meter_before import MeterBefore, meter_before
from steppe.grid.verify.page import page_html
from steppe.grid.verify.times import EventTimes, Span

EVENT = EventTimes(6000, 7200, 9000, 600, 600)
WHY = "10-in-10: asked for 10 like days in the 45 days before the event, found 2"


def steps(*watts: int | None) -> Load:
    """Return a load by 600 s from the time 0."""
    return Load(0, 600, watts)


def test_it_is_the_mean_of_the_window_before_the_event_could_be_foreseen() -> None:
    load = steps(*[100] * 8, 200, 400, *[9000] * 10)
    found = meter_before(EVENT, load, 1200, 50.0)
    assert found.watts(6600, 9600) == (300,) * 5
    assert found.load.end_s <= EVENT.foreseeable_s


def test_what_is_drawn_after_the_notice_changes_nothing() -> None:
    load = steps(*[100] * 10, *[700] * 10)
    raised = steps(*[100] * 10, *[900] * 10)
    first, second = (meter_before(EVENT, each, 1200, 50.0) for each in (load, raised))
    assert first.entry == second.entry


def test_the_time_of_another_event_does_not_count() -> None:
    load = steps(*[100] * 8, 20, 100, *[0] * 10)
    found = meter_before(EVENT, load, 1200, 50.0, events=[Span(4900, 5300)])
    assert found.watts(7200, 7800) == (100,)


def test_without_a_reading_it_is_what_was_stated() -> None:
    found = meter_before(EVENT, steps(*[None] * 10), 1200, 51.7)
    assert found.watts(7200, 8400) == (52, 52)
    assert found.placebo_pairs() == []


def test_a_window_is_at_least_an_interval() -> None:
    assert meter_before(EVENT, steps(*[100] * 10), 10, 0.0).window_s == 600


def test_its_error_is_known_from_earlier_times() -> None:
    event = replace(EVENT, foreseeable_s=60_000, start_s=61_200, end_s=63_000)
    found = meter_before(event, steps(*[100, 110] * 50), 1200, 0.0)
    assert {base_w for base, _ in found.placebo_pairs() for base_w in base} == {105}
    assert len(found.placebo_pairs()) == 14


def test_a_report_says_what_it_is_in_place_of() -> None:
    baseline = meter_before(TIMES, LOAD, 3600, 900_000.0, in_place_of=WHY)
    report = made_report(baseline=baseline)
    assert report.baseline.name == "meter before"
    assert report.baseline.in_place_of == WHY
    assert report.error is not None
    assert f"in place of {WHY}" in page_html(report)
    assert faults_of(report, baseline.entry) == ()


def test_its_inputs_are_read_again() -> None:
    baseline = meter_before(TIMES, LOAD, 3600, 900_000.0, in_place_of=WHY)
    assert kept_of(baseline.entry) == baseline
    with pytest.raises(UsageError, match="asked for the fields of its method"):
        kept_of(baseline.entry.replace(b'"stated_w"', b'"states_w"'))


def test_a_changed_input_does_not_fit_the_report() -> None:
    baseline = meter_before(TIMES, LOAD, 3600, 900_000.0)
    report = made_report(baseline=baseline)
    other = replace(baseline, load=replace(baseline.load, watts=(1,) * len(baseline.load.watts)))
    assert isinstance(other, MeterBefore)
    assert any("inputs of the baseline" in fault for fault in faults_of(report, other.entry))

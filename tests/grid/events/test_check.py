"""Which events are refused, and with what line."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from steppe.errors import UsageError
from steppe.grid.events.check import EventTerms, check_event
from steppe.grid.events.event import GridEvent, Share, Watts

NOW_S = 1_800_000_000.0
TERMS = EventTerms(most_held=3)
GOOD = GridEvent(
    id="e1",
    program="p",
    priority=1,
    issued_s=NOW_S - 10,
    starts_s=NOW_S + 40,
    ramp_down_s=40.0,
    hold_until_s=NOW_S + 300,
    ramp_up_s=60.0,
    target=Watts(700.0),
    kind="limit",
    source="openadr",
)

BAD: list[tuple[GridEvent, str]] = [
    (replace(GOOD, id=""), "asked for 1 to 128 characters that print, found ''"),
    (replace(GOOD, id="a\nb"), r"found 'a\\nb'"),
    (replace(GOOD, program="x" * 200), "asked for 1 to 128 characters"),
    (replace(GOOD, starts_s=NOW_S - 900, hold_until_s=NOW_S - 800), "an end .* 740 s ago"),
    (replace(GOOD, starts_s=NOW_S + 1e6, hold_until_s=NOW_S + 1e6 + 60), "1000000 s ahead"),
    (replace(GOOD, issued_s=NOW_S + 1e6), "1000000 s ahead"),
    (replace(GOOD, ramp_down_s=-1.0), "times and spans from 0"),
    (replace(GOOD, starts_s=math.nan), "times and spans from 0"),
    (replace(GOOD, ramp_up_s=math.inf), "times and spans from 0"),
    (replace(GOOD, priority=-1), "a priority from 0 to 1000, found -1"),
    (replace(GOOD, ramp_down_s=1000.0), "a hold after the ramp down, found one that ends 740 s"),
    (replace(GOOD, hold_until_s=NOW_S + 9e5), "a duration above 0 and up to 172800 s"),
    (replace(GOOD, target=None), "a target for kind limit, found none"),
    (replace(GOOD, kind="price"), "a price without a target"),
    (replace(GOOD, target=Watts(-1.0)), r"a target from 0 to 1e\+12 W, found -1 W"),
    (replace(GOOD, target=Watts(math.nan)), "found nan W"),
    (replace(GOOD, target=Watts(1e15)), r"found 1e\+15 W"),
    (replace(GOOD, target=Share(30.0)), "a target from 0 to 1 of the baseline, found 30"),
]


@pytest.mark.parametrize(("bad", "line"), BAD)
def test_a_bad_event_is_refused_with_one_line(bad: GridEvent, line: str) -> None:
    with pytest.raises(UsageError, match=line) as caught:
        check_event(bad, NOW_S, [], TERMS)
    assert "\n" not in str(caught.value)


def test_a_good_event_is_new() -> None:
    assert check_event(GOOD, NOW_S, [], TERMS) is None


def test_an_event_that_has_begun_is_good_until_its_end() -> None:
    begun = replace(GOOD, starts_s=NOW_S - 100)
    assert check_event(begun, NOW_S, [], TERMS) is None


def test_a_repetition_and_a_newer_version_replace_the_event() -> None:
    newer = replace(GOOD, issued_s=NOW_S, target=Watts(600.0))
    assert check_event(GOOD, NOW_S, [GOOD], TERMS) == GOOD
    assert check_event(newer, NOW_S, [GOOD], TERMS) == GOOD


def test_an_older_version_is_refused() -> None:
    older = replace(GOOD, issued_s=GOOD.issued_s - 5, target=Watts(900.0))
    with pytest.raises(UsageError, match="event e1: asked for a version newer than that of"):
        check_event(older, NOW_S, [GOOD], TERMS)


def test_another_event_with_the_same_id_and_issue_is_refused() -> None:
    other = replace(GOOD, starts_s=NOW_S + 60, target=Watts(900.0))
    with pytest.raises(UsageError, match="asked for one event per id and issue"):
        check_event(other, NOW_S, [GOOD], TERMS)


def test_the_same_id_of_another_source_is_another_event() -> None:
    assert check_event(replace(GOOD, source="dsx"), NOW_S, [GOOD], TERMS) is None


def test_one_source_has_a_bounded_number_of_events() -> None:
    held = [replace(GOOD, id=name) for name in ("a", "b", "c")]
    with pytest.raises(UsageError, match="asked for at most 3 events at once, found one more"):
        check_event(GOOD, NOW_S, held, TERMS)
    assert check_event(replace(GOOD, source="dsx"), NOW_S, held, TERMS) is None

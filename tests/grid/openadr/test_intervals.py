from __future__ import annotations

import math
from typing import Any

import pytest
from tests.fixtures.openadr_events import NOON_S, event_of

from steppe.grid.openadr.intervals import RefusedEventError, ends_s, share_of, slots, starts_s
from steppe.grid.openadr.messages import Event
from steppe.grid.openadr.times import text_of

DAY_S = 86400.0


def spans(event: Event, now_s: float = NOON_S, ahead_s: float = DAY_S) -> list[tuple[float, float]]:
    found = slots(event, now_s, now_s + ahead_s, share=0.0)
    return [(slot.starts_s - NOON_S, slot.ends_s - NOON_S) for slot in found]


def test_an_interval_follows_the_one_before() -> None:
    assert spans(event_of("PRICE", 1, 2)) == [(0, 1800), (1800, 3600)]


def test_an_interval_that_is_over_is_left_out() -> None:
    assert spans(event_of("PRICE", 1, 2), NOON_S + 1800) == [(1800, 3600)]


def test_an_interval_may_have_a_start_and_a_length_of_its_own() -> None:
    payloads = [{"type": "PRICE", "values": [1]}]
    own = {"start": text_of(NOON_S + 7200), "duration": "PT5M"}
    event = event_of(
        "PRICE",
        intervalPeriod={"start": text_of(NOON_S), "duration": "PT1H"},
        intervals=[
            {"id": 0, "payloads": payloads},
            {"id": 1, "payloads": payloads, "intervalPeriod": own},
            {"id": 2, "payloads": payloads},
        ],
    )
    assert spans(event) == [(0, 3600), (7200, 7500), (7500, 11100)]


def test_a_start_on_the_first_day_of_the_calendar_is_the_moment_of_writing() -> None:
    event = event_of("PRICE", 1, intervalPeriod={"start": "0001-01-01", "duration": "PT1H"})
    assert spans(event) == [(-600, 3000)]


def test_a_longer_event_repeats_its_intervals() -> None:
    event = event_of("PRICE", 1, 2, duration="PT2H")
    assert spans(event) == [(0, 1800), (1800, 3600), (3600, 5400), (5400, 7200)]


def test_a_shorter_event_ends_its_intervals() -> None:
    assert spans(event_of("PRICE", 1, 2, duration="PT45M")) == [(0, 1800), (1800, 2700)]


def test_an_endless_event_repeats_for_ever_and_is_unfolded_to_the_horizon() -> None:
    event = event_of("PRICE", 1, 2, duration="P9999Y")
    much_later_s = NOON_S + 1000 * DAY_S
    assert ends_s(event, 0.0) == math.inf
    assert len(slots(event, much_later_s, much_later_s + 7200, share=0.0)) == 4


def test_an_endless_interval_is_cut_into_days() -> None:
    event = event_of("PRICE", 1, intervalPeriod={"start": text_of(NOON_S), "duration": "P9999Y"})
    found = slots(event, NOON_S + 5 * DAY_S + 10, NOON_S + 6 * DAY_S + 10, share=0.0)
    assert [slot.name for slot in found] == ["0@5", "0@6"]
    assert all(slot.ends_s - slot.starts_s == DAY_S for slot in found)


def test_a_random_start_moves_all_intervals_alike() -> None:
    period = {"start": text_of(NOON_S), "duration": "PT10M", "randomizeStart": "PT5M"}
    event = event_of("PRICE", 1, 2, intervalPeriod=period)
    found = slots(event, NOON_S, NOON_S + DAY_S, share=0.5)
    assert [slot.starts_s - NOON_S for slot in found] == [150, 750]
    assert starts_s(event, 0.5) == NOON_S + 150


def test_the_random_start_of_a_site_is_the_same_after_a_restart_and_differs_between_sites() -> None:
    drawn = [share_of(f"site {number}", "event-1") for number in range(200)]
    assert drawn[0] == share_of("site 0", "event-1")
    assert len(set(drawn)) == 200
    assert 0.4 < sum(drawn) / 200 < 0.6


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"intervals": []}, "no intervals"),
        ({"intervalPeriod": None}, "no duration"),
        ({"intervalPeriod": {"start": "soon", "duration": "PT1H"}}, "is no time"),
        ({"intervalPeriod": {"start": text_of(NOON_S), "duration": "PT0S"}}, "no length"),
        ({"intervalPeriod": {"duration": "-PT1H"}}, "is no duration"),
        ({"duration": "always"}, "is no duration"),
        ({"intervalPeriod": {"duration": "PT1H", "randomizeStart": "P2D"}}, "longer than a day"),
    ],
)
def test_times_that_cannot_be_meant_are_refused(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(RefusedEventError, match=f"event event-1: .*{why}"):
        slots(event_of("PRICE", 1, **fields), NOON_S, NOON_S + DAY_S, share=0.0)


def test_intervals_that_overlap_are_refused() -> None:
    payloads = [{"type": "PRICE", "values": [1]}]
    own = {"start": text_of(NOON_S + 60), "duration": "PT1H"}
    intervals = [
        {"id": 0, "payloads": payloads},
        {"id": 1, "payloads": payloads, "intervalPeriod": own},
    ]
    with pytest.raises(RefusedEventError, match="intervals 0 and 1 overlap"):
        slots(event_of("PRICE", 1, intervals=intervals), NOON_S, NOON_S + DAY_S, share=0.0)


def test_two_intervals_with_one_id_are_refused() -> None:
    interval = {"id": 7, "payloads": [{"type": "PRICE", "values": [1]}]}
    event = event_of("PRICE", intervals=[interval, interval])
    with pytest.raises(RefusedEventError, match="the same id"):
        slots(event, NOON_S, NOON_S + DAY_S, share=0.0)


def test_a_loop_of_too_many_intervals_is_refused() -> None:
    period = {"start": text_of(NOON_S), "duration": "PT0.1S"}
    event = event_of("PRICE", 1, intervalPeriod=period, duration="P9999Y")
    with pytest.raises(RefusedEventError, match="more than 20000 intervals"):
        slots(event, NOON_S, NOON_S + DAY_S, share=0.0)


def test_a_loop_of_many_intervals_that_ends_soon_is_followed() -> None:
    period = {"start": text_of(NOON_S), "duration": "PT1S"}
    event = event_of("PRICE", 1, intervalPeriod=period, duration="PT1H")
    assert len(slots(event, NOON_S, NOON_S + 2 * DAY_S, share=0.0)) == 3600

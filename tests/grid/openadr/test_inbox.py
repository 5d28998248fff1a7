from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fixtures.openadr_events import NOON_S, event_of

from steppe.grid.openadr.inbox import MOST_EVENTS, Inbox, Standing
from steppe.grid.openadr.intervals import RefusedEventError
from steppe.grid.openadr.messages import Event, PayloadDescriptor, Program
from steppe.grid.openadr.times import text_of
from steppe.grid.openadr.translation import AgreedTerms

TERMS = AgreedTerms(subscription_w=500e3, most_w=10e6, lost_s=100.0)
EARLY_S = NOON_S - 300.0
BASELINE_W = 450e3


@pytest.fixture
def inbox() -> Inbox:
    found = Inbox(TERMS, "site")
    found.link_heard(0.0)
    return found


def limit_w(inbox: Inbox, now_s: float = NOON_S + 10.0, mono_s: float = 0.0) -> float:
    return inbox.standing(now_s, mono_s).limit_w(now_s, BASELINE_W)


def limit(kw: float, name: str = "event-1", **fields: object) -> Event:
    return event_of("IMPORT_CAPACITY_LIMIT", kw, **fields).model_copy(update={"id": name})  # type: ignore[arg-type]


def test_a_limit_holds_from_its_start_to_its_end_and_the_subscription_around_it(
    inbox: Inbox,
) -> None:
    assert inbox.take(limit(300), EARLY_S)
    assert limit_w(inbox, NOON_S - 1) == 500e3
    assert limit_w(inbox, NOON_S) == 300e3
    assert limit_w(inbox, NOON_S + 3600) == 500e3


def test_a_limit_above_the_subscription_holds_while_the_link_is_there(inbox: Inbox) -> None:
    inbox.take(limit(900), EARLY_S)
    assert limit_w(inbox, mono_s=99.0) == 900e3
    assert limit_w(inbox, mono_s=101.0) == 500e3


def test_a_lost_link_lifts_no_limit_that_is_lower(inbox: Inbox) -> None:
    inbox.take(limit(300), EARLY_S)
    assert inbox.standing(NOON_S, 101.0).is_lost
    assert limit_w(inbox, mono_s=101.0) == 300e3


def test_a_link_that_is_back_needs_no_new_event(inbox: Inbox) -> None:
    inbox.take(limit(900), EARLY_S)
    assert limit_w(inbox, mono_s=101.0) == 500e3
    inbox.link_heard(101.0)
    assert limit_w(inbox, mono_s=101.0) == 900e3


def test_a_site_that_has_heard_nothing_has_its_subscription() -> None:
    standing = Inbox(TERMS, "site").standing(NOON_S, 0.0)
    assert (standing.is_lost, standing.limit_w(NOON_S, BASELINE_W)) == (True, 500e3)


def test_a_lower_subscription_of_the_server_replaces_ours_and_a_higher_one_does_not(
    inbox: Inbox,
) -> None:
    inbox.take(event_of("IMPORT_CAPACITY_SUBSCRIPTION", 350), EARLY_S)
    assert limit_w(inbox) == 350e3
    assert limit_w(inbox, mono_s=1e6) == 350e3
    higher = event_of("IMPORT_CAPACITY_SUBSCRIPTION", 800, issued_s=NOON_S - 500)
    inbox.take(higher, EARLY_S)
    assert limit_w(inbox) == 500e3


def test_within_a_program_the_higher_priority_holds(inbox: Inbox) -> None:
    inbox.take(limit(200, "low", priority=5), EARLY_S)
    inbox.take(limit(400, "high", priority=1), EARLY_S)
    assert limit_w(inbox) == 400e3


def test_of_two_programs_the_lower_limit_holds(inbox: Inbox) -> None:
    inbox.take(limit(200, "one", priority=5), EARLY_S)
    inbox.take(limit(400, "two", priority=1, programID="program-2"), EARLY_S)
    assert limit_w(inbox) == 200e3


def test_an_emergency_is_replaced_by_no_priority(inbox: Inbox) -> None:
    inbox.take(limit(400, "limit", priority=0), EARLY_S)
    alert = event_of("ALERT_GRID_EMERGENCY", "now", priority=9).model_copy(update={"id": "alert"})
    inbox.take(alert, EARLY_S)
    assert limit_w(inbox) == 0.5 * BASELINE_W


def test_an_event_that_is_sent_twice_is_followed_once(inbox: Inbox) -> None:
    assert inbox.take(limit(300), EARLY_S)
    assert not inbox.take(limit(300), EARLY_S)
    assert (len(inbox.events), inbox.refusals) == (1, [])


def test_a_newer_version_replaces_the_event(inbox: Inbox) -> None:
    inbox.take(limit(300), EARLY_S)
    inbox.take(limit(200, issued_s=NOON_S - 400), EARLY_S)
    assert limit_w(inbox) == 200e3


def refused(inbox: Inbox, event: Event, why: str, now_s: float = EARLY_S) -> None:
    """Check that an event is refused, with a reason, and changes nothing."""
    before = inbox.standing(now_s, 0.0)
    with pytest.raises(RefusedEventError, match=why):
        inbox.take(event, now_s)
    assert inbox.standing(now_s, 0.0) == before
    assert any(why in each for each in inbox.refusals)


def test_an_older_version_is_refused(inbox: Inbox) -> None:
    inbox.take(limit(300, issued_s=NOON_S - 400), EARLY_S)
    refused(inbox, limit(900), "it is older than the one followed")


def test_a_change_under_the_same_version_is_refused(inbox: Inbox) -> None:
    inbox.take(limit(300), EARLY_S)
    refused(inbox, limit(900), "it changed without a new modificationDateTime")


def test_an_event_from_the_future_is_refused(inbox: Inbox) -> None:
    refused(inbox, limit(900, issued_s=EARLY_S + 60), "it was written 60 s in the future")


def test_an_event_that_is_over_is_refused(inbox: Inbox) -> None:
    refused(inbox, limit(300), "it ended 60 s ago", now_s=NOON_S + 3660)


def test_an_event_that_is_years_away_is_refused(inbox: Inbox) -> None:
    period = {"start": text_of(NOON_S + 500 * 86400), "duration": "PT1H"}
    refused(inbox, limit(300, intervalPeriod=period), "more than 400 days ahead")


def test_an_event_that_was_changed_before_it_was_created_is_refused(inbox: Inbox) -> None:
    refused(inbox, limit(300, issued_s=NOON_S - 9000), "changed before it was created")


def test_an_event_that_overlaps_another_of_its_priority_is_refused(inbox: Inbox) -> None:
    inbox.take(limit(300), EARLY_S)
    later = {"start": text_of(NOON_S + 3599), "duration": "PT1H"}
    refused(inbox, limit(900, "event-2", intervalPeriod=later), "overlaps that of event event-1")
    next_ = {"start": text_of(NOON_S + 3600), "duration": "PT1H"}
    assert inbox.take(limit(900, "event-2", intervalPeriod=next_), EARLY_S)


def test_an_absurd_change_leaves_the_event_as_it_was(inbox: Inbox) -> None:
    inbox.take(limit(300), EARLY_S)
    refused(inbox, limit(1e9, issued_s=NOON_S - 400), "IMPORT_CAPACITY_LIMIT 1e")
    assert limit_w(inbox) == 300e3


def test_an_event_for_other_targets_is_refused(inbox: Inbox) -> None:
    inbox.learn([], {"feeder-7"})
    refused(inbox, limit(300, targets=["feeder-8"]), "its targets feeder-8 are not ours")
    assert inbox.take(limit(300, targets=["feeder-8", "feeder-7"]), EARLY_S)


def test_an_event_of_another_program_is_refused(inbox: Inbox) -> None:
    inbox.learn([], (), frozenset({"program-2"}))
    refused(inbox, limit(300), "program program-1 is not ours")


def test_more_events_than_can_be_meant_are_refused(inbox: Inbox) -> None:
    for number in range(MOST_EVENTS):
        inbox.take(limit(300, f"event-{number}", programID=f"program-{number}"), EARLY_S)
    refused(inbox, limit(300, "more", programID="more"), "500 events are followed already")


def test_new_units_of_a_program_do_not_change_an_event_that_is_followed(inbox: Inbox) -> None:
    inbox.take(limit(300), EARLY_S)
    units = PayloadDescriptor(payloadType="IMPORT_CAPACITY_LIMIT", units="KWH")
    inbox.learn([Program(id="program-1", programName="x", payloadDescriptors=(units,))], ())
    assert limit_w(inbox) == 300e3


def test_a_deleted_event_is_followed_no_more_and_cannot_be_sent_again(inbox: Inbox) -> None:
    inbox.take(limit(300), EARLY_S)
    assert inbox.drop(limit(300), EARLY_S)
    assert limit_w(inbox) == 500e3
    refused(inbox, limit(300), "it was deleted and is sent again")


def test_the_deletion_of_an_older_version_is_refused(inbox: Inbox) -> None:
    inbox.take(limit(300, issued_s=NOON_S - 400), EARLY_S)
    with pytest.raises(RefusedEventError, match="of an older version"):
        inbox.drop(limit(300), EARLY_S)
    assert limit_w(inbox) == 300e3


def test_what_a_poll_does_not_find_is_followed_no_more(inbox: Inbox) -> None:
    inbox.take(limit(300), EARLY_S)
    assert inbox.polled([], inbox.poll_begins(), EARLY_S) == ()
    assert inbox.events == ()


def test_what_was_sent_during_a_poll_is_kept(inbox: Inbox) -> None:
    began = inbox.poll_begins()
    inbox.take(limit(300), EARLY_S)
    inbox.polled([], began, EARLY_S)
    assert len(inbox.events) == 1


def test_what_was_deleted_during_a_poll_does_not_come_back_with_it(inbox: Inbox) -> None:
    inbox.take(limit(300), EARLY_S)
    began = inbox.poll_begins()
    inbox.drop(limit(300), EARLY_S)
    assert inbox.polled([limit(300)], began, EARLY_S)
    assert inbox.events == ()
    assert inbox.polled([limit(300)], inbox.poll_begins(), EARLY_S) == ()
    assert len(inbox.events) == 1


def test_a_poll_refuses_what_is_wrong_once_and_keeps_the_rest(inbox: Inbox) -> None:
    events = [limit(300, "good"), limit(1e9, "bad", programID="program-2")]
    assert len(inbox.polled(events, inbox.poll_begins(), EARLY_S)) == 1
    assert inbox.polled(events, inbox.poll_begins(), EARLY_S) == ()
    assert [event.id for event in inbox.events] == ["good"]


def test_a_poll_in_which_an_event_cannot_be_read_keeps_what_was_followed(inbox: Inbox) -> None:
    inbox.take(limit(300), EARLY_S)
    unread = {"event-1": "event event-1: priority: no number"}
    assert inbox.polled([], inbox.poll_begins(), EARLY_S, unread) == tuple(unread.values())
    assert limit_w(inbox) == 300e3


TEXTS = st.sampled_from(
    ["0001-01-01", "P9999Y", "PT1H", "PT999999999999S", "P1M", "P999999Y", "PT0S", "-PT1H", "",
     "2026-12-01T12:00:00Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+08:00", "\x1b[2J"]
)  # fmt: skip
VALUES: st.SearchStrategy[object] = st.one_of(
    st.integers(-(10**30), 10**30), st.floats(), st.booleans(), st.text(max_size=3), st.just({})
)


@settings(deadline=None, max_examples=40)
@given(
    type_=st.sampled_from(["IMPORT_CAPACITY_LIMIT", "SIMPLE", "PRICE", "GHG", "SOMETHING"]),
    values=st.lists(VALUES, max_size=3),
    period=st.fixed_dictionaries(
        {}, optional={"start": TEXTS, "duration": TEXTS, "randomizeStart": TEXTS}
    ),
    duration=st.none() | TEXTS,
)
def test_whatever_is_sent_is_followed_or_refused_and_there_is_always_a_limit(
    type_: str, values: list[object], period: dict[str, str], duration: str | None
) -> None:
    inbox = Inbox(TERMS, "site")
    inbox.link_heard(0.0)
    with contextlib.suppress(RefusedEventError):
        inbox.take(event_of(type_, *values, intervalPeriod=period, duration=duration), EARLY_S)
    for now_s in (EARLY_S, NOON_S, NOON_S + 1e6, NOON_S - 1e9):
        found = inbox.standing(now_s, 0.0).limit_w(now_s, BASELINE_W)
        assert 0 <= found <= TERMS.most_w
        assert all(line.isprintable() for line in inbox.refusals)


@settings(deadline=None, max_examples=50)
@given(
    watts=st.lists(st.integers(0, 900), max_size=6),
    now_s=st.floats(NOON_S - 600, NOON_S + 4000),
    is_lost=st.booleans(),
)
def test_the_limit_is_never_above_what_was_agreed_or_sent(
    watts: list[int], now_s: float, is_lost: bool
) -> None:
    inbox = Inbox(TERMS, "site")
    inbox.link_heard(0.0)
    for number, kw in enumerate(watts):
        inbox.take(limit(kw, f"event-{number}", programID=f"program-{number}"), EARLY_S)
    standing: Standing = inbox.standing(now_s, 1e6 if is_lost else 0.0)
    found = standing.limit_w(now_s, BASELINE_W)
    active = [kw * 1e3 for kw in watts if NOON_S <= now_s < NOON_S + 3600]
    assert found <= min(active, default=500e3)
    assert found <= 500e3 or not is_lost

from __future__ import annotations

from steppe.sites.pins import HYSTERESIS, IDLE_S, REST_S, Pin, Pins, breaks

PIN = Pin("a", 1000, 0.0, 0.0)


def test_a_conversation_is_pinned_until_it_has_been_idle_for_too_long() -> None:
    pins = Pins()
    pins.keep("talk", "b", 500, 10.0)
    assert pins.find("talk", 10.0 + IDLE_S) == Pin("b", 500, 10.0, 10.0)
    assert pins.find("talk", 10.1 + IDLE_S) is None
    assert pins.find(None, 10.0) is None


def test_a_pin_remembers_since_when_the_conversation_is_there() -> None:
    pins = Pins()
    pins.keep("talk", "b", 500, 10.0)
    pins.keep("talk", "b", 700, 20.0)
    assert pins.find("talk", 20.0) == Pin("b", 700, 20.0, 10.0)
    pins.keep("talk", "a", 900, 30.0)
    assert pins.find("talk", 30.0) == Pin("a", 900, 30.0, 30.0)
    pins.drop("talk")
    assert pins.find("talk", 30.0) is None


def test_the_longest_idle_conversations_are_forgotten_first() -> None:
    pins = Pins(most=2)
    for second, name in enumerate(["one", "two", "one", "three"]):
        pins.keep(name, "a", 0, float(second))
    assert len(pins) == 2
    assert pins.find("two", 3.0) is None
    assert pins.find("one", 3.0) is not None


def test_idle_conversations_are_forgotten_although_there_is_room() -> None:
    pins = Pins()
    for second in range(100):
        pins.keep(f"talk {second}", "a", 0, float(second))
    pins.keep("late", "a", 0, IDLE_S + 50.5)
    assert len(pins) == 50, "those of the last 50 s that count, and the late one"


def test_a_move_must_gain_much_more_than_it_loses() -> None:
    assert not breaks(PIN, HYSTERESIS * 40.0, 40.0, 100.0)
    assert breaks(PIN, HYSTERESIS * 40.0 + 1.0, 40.0, 100.0)
    assert not breaks(PIN, 0.0, 0.0, 100.0), "no gain"


def test_a_conversation_that_has_just_moved_stays() -> None:
    assert not breaks(PIN, 1e6, 0.0, REST_S - 1.0)
    assert breaks(PIN, 1e6, 0.0, REST_S)

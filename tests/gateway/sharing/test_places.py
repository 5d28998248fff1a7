from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.gateway.sharing.coordinator import SILENT_S, Coordinator
from steppe.gateway.sharing.messages import GatewayReport, ModelTotals, ReplicaPlaces
from steppe.gateway.sharing.places import divide


def report(
    gateway: str, held: int, outstanding: int = 0, waiting: int = 0, deferrable: int = 0
) -> GatewayReport:
    totals = ModelTotals(waiting, deferrable, outstanding)
    places = ReplicaPlaces("m", 10, outstanding, held)
    return GatewayReport(gateway, {"r": places}, {"m": totals})


def places(own: GatewayReport, *others: GatewayReport) -> int:
    return divide(own, others)["r"]


def test_a_gateway_alone_gets_all_places() -> None:
    assert places(report("a", 0)) == 10


def test_idle_gateways_hold_even_parts() -> None:
    assert places(report("a", 0), report("b", 5)) == 5


def test_what_others_hold_is_not_given_twice() -> None:
    assert places(report("a", 2, waiting=50), report("b", 8)) == 2


def test_an_idle_gateway_gives_up_what_another_one_waits_for() -> None:
    assert places(report("b", 8), report("a", 2, outstanding=2, waiting=50)) == 0


def test_a_gateway_keeps_the_places_that_its_requests_fill() -> None:
    assert places(report("a", 6, outstanding=6), report("b", 4, waiting=9)) == 6


def test_requests_that_may_wait_get_nothing_while_others_wait_elsewhere() -> None:
    later, urgent = report("a", 5, waiting=90, deferrable=90), report("b", 5, waiting=9)
    assert places(later, urgent) < places(urgent, replace(later, replicas={}))
    assert places(urgent, replace(later, replicas={})) >= 9


@dataclass
class Door:
    """A gateway that fills every place that it may."""

    name: str
    held: int = 0
    outstanding: int = 0
    waiting: int = 0
    share: dict[str, int] = field(default_factory=dict)

    def exchange(self, coordinator: Coordinator, limit: int) -> None:
        there = ReplicaPlaces("m", limit, self.outstanding, self.held)
        totals = {"m": ModelTotals(self.waiting, 0, self.outstanding)}
        answer = coordinator.exchange(GatewayReport(self.name, {"r": there}, totals))
        self.held = min(limit, answer.places["r"])
        self.fill()

    def fill(self) -> None:
        begun = min(self.waiting, max(0, self.held - self.outstanding))
        self.outstanding, self.waiting = self.outstanding + begun, self.waiting - begun


STEPS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 4), st.integers(0, 4)), max_size=60
)


@given(STEPS, st.integers(1, 12))
def test_together_they_never_fill_more_places_than_there_are(
    steps: list[tuple[str, int, int]], limit: int
) -> None:
    coordinator = Coordinator(lambda: 0.0)
    doors = {name: Door(name) for name in "abc"}
    for name, arrive, end in steps:
        door = doors[name]
        door.outstanding -= min(end, door.outstanding)
        door.waiting += arrive
        door.fill()
        door.exchange(coordinator, limit)
        assert sum(each.outstanding for each in doors.values()) <= limit


@given(STEPS, st.integers(1, 12))
def test_no_place_stays_empty_while_a_request_waits(
    steps: list[tuple[str, int, int]], limit: int
) -> None:
    coordinator = Coordinator(lambda: 0.0)
    doors = {name: Door(name) for name in "abc"}
    for name, arrive, _ in steps:
        doors[name].waiting += arrive
        doors[name].exchange(coordinator, limit)
    for _ in range(10):  # six are enough
        for door in doors.values():
            door.exchange(coordinator, limit)
    waiting = sum(each.waiting for each in doors.values())
    assert not waiting or sum(each.outstanding for each in doors.values()) == limit


@pytest.mark.parametrize(("silent_s", "left"), [(SILENT_S - 0.1, 0), (SILENT_S, 10)])
def test_a_gateway_that_is_silent_gives_its_places_back(silent_s: float, left: int) -> None:
    now_s = [0.0]
    coordinator = Coordinator(lambda: now_s[0])
    dead, alive = Door("a", waiting=8), Door("b")
    dead.exchange(coordinator, 10)
    now_s[0] = silent_s
    alive.waiting = 20
    alive.exchange(coordinator, 10)
    assert alive.outstanding == left


def test_a_gateway_learns_what_the_others_have() -> None:
    coordinator = Coordinator(lambda: 0.0)
    coordinator.exchange(report("a", 0, outstanding=3, waiting=2))
    coordinator.exchange(report("b", 0, outstanding=1))
    answer = coordinator.exchange(report("c", 0))
    assert answer.gateways == ("a", "b", "c")
    assert answer.others["m"] == ModelTotals(2, 0, 4)

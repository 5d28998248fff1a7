from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from steppe.control.reconcile import Action, Drain, Retune, Sleep, Start, Wake
from steppe.control.state import Observation, ReplicaObservation, ReplicaState
from steppe.frontier.pareto import Frontier
from steppe.roofline.point import OperatingPoint


def modelled_frontier() -> Frontier:
    """Return points of a made-up 72 W GPU: steps of 40 ms and more, draw with the clock cubed."""
    points = []
    for clock in range(600, 2041, 90):
        share = clock / 2040
        for batch in (1, 2, 4, 8, 16):
            step_s = 0.04 + 0.002 * batch / share
            busy = 0.3 + 0.7 * batch / 16
            draw_w = 22 + 8 * share + 42 * busy * share**3
            points.append(OperatingPoint(clock, batch, batch / step_s, draw_w))
    return Frontier.of(points, asleep_w=16.0, idle_w=20.0, source="modelled")


@dataclass
class FakeFleet:
    """Replicas that obey at once; whoever is awake has requests and keeps them."""

    observation: Observation
    actions: list[Action] = field(default_factory=list)
    battery_w: float | None = None

    @classmethod
    def of(cls, states: Sequence[ReplicaState], budget_w: float, waiting: int = 9) -> FakeFleet:
        replicas = tuple(
            ReplicaObservation(
                f"replica-{i}",
                state,
                0.0,
                600,
                1,
                outstanding=0 if state == ReplicaState.ASLEEP else 1 + i % 3,
            )
            for i, state in enumerate(states)
        )
        return cls(Observation(0.0, budget_w, None, 100.0, waiting, replicas))

    def observe(self, now_s: float) -> Observation:
        self.observation = replace(self.observation, now_s=now_s)
        return self.observation

    def apply(self, actions: list[Action]) -> None:
        self.actions = actions
        for action in actions:
            replicas = (self._after(r, action) for r in self.observation.replicas)
            self.observation = replace(self.observation, replicas=tuple(replicas))

    def _after(self, replica: ReplicaObservation, action: Action) -> ReplicaObservation:
        if replica.id != action.replica:
            return replica
        match action:
            case Start():
                return replace(replica, state=ReplicaState.STARTING, since_s=self.observation.now_s)
            case Sleep():
                return self._moved(replica, ReplicaState.ASLEEP, 600, 1)
            case Drain(_, clock, batch):
                return self._moved(replica, ReplicaState.DRAINING, clock, batch)
            case Wake(_, clock, batch) | Retune(_, clock, batch):
                return self._moved(replica, ReplicaState.AWAKE, clock, batch)

    def _moved(
        self, replica: ReplicaObservation, state: ReplicaState, clock_mhz: int, batch_limit: int
    ) -> ReplicaObservation:
        since_s = replica.since_s if state == replica.state else self.observation.now_s
        moved = replace(replica, state=state, since_s=since_s)
        if state == ReplicaState.AWAKE:
            moved = replace(moved, outstanding=max(1, replica.outstanding))
        return replace(moved, clock_mhz=clock_mhz, batch_limit=batch_limit)


@pytest.fixture(scope="session")
def frontier() -> Frontier:
    return modelled_frontier()


@pytest.fixture(scope="session")
def fleets() -> type[FakeFleet]:
    return FakeFleet

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from steppe.control.state import Observation, ReplicaObservation, ReplicaState
from steppe.frontier.pareto import Frontier
from steppe.roofline.point import OperatingPoint

replicas = st.builds(
    ReplicaObservation,
    st.text("ab"),
    st.sampled_from(ReplicaState),
    st.just(0.0),
    st.just(900),
    st.just(8),
    st.integers(0, 5),
)


@given(st.lists(replicas).map(tuple), st.booleans())
def test_another_budget_changes_nothing_else_of_an_observation(
    seen_replicas: tuple[ReplicaObservation, ...], is_counted: bool
) -> None:
    observation = Observation(1.0, 700.0, 650.0, 9.0, 2, seen_replicas)
    if is_counted:
        assert observation.counts.awake <= len(seen_replicas)
    other = observation.with_budget(500.0)
    assert (observation.gpu_budget_w, other) == (700.0, replace(observation, gpu_budget_w=500.0))
    fresh = replace(other)
    assert (other.counts, other.frozen) == (fresh.counts, fresh.frozen)
    assert other.outstanding == sum(replica.outstanding for replica in seen_replicas)


def test_counts_are_those_of_the_replicas_of_the_observation() -> None:
    asleep = ReplicaObservation("a", ReplicaState.ASLEEP, 0.0, 900, 8, 3)
    observation = Observation(1.0, 700.0, None, 0.0, 0, (asleep,))
    assert (observation.frozen, observation.counts.asleep) == (3, 1)
    woken = replace(observation, replicas=(replace(asleep, state=ReplicaState.AWAKE),))
    assert (woken.frozen, woken.counts.asleep, woken.counts.awake) == (0, 0, 1)


def test_equal_frontiers_have_equal_hashes() -> None:
    points = [OperatingPoint(600 + 300 * i, 8, 100.0 + 50 * i, 200.0 + 90 * i) for i in range(3)]
    one, other = (Frontier.of(points, 70.0, 80.0, "modelled") for _ in range(2))
    assert (one, hash(one)) == (other, hash(other))
    assert hash(one) != hash(replace(one, asleep_w=71.0))

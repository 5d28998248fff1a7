from __future__ import annotations

from math import ceil

from hypothesis import given
from hypothesis import strategies as st

from steppe.control.affinity import Decisions, Numbering, PrefixAffinity
from steppe.control.placing import ReplicaSlots
from steppe.control.prefix_index import PrefixIndex

LONG = (1, 2, 3, 4)


def affinity_of(replicas: int, load_bound: float = 1.5) -> PrefixAffinity:
    return PrefixAffinity(PrefixIndex(replicas, 100), load_bound)


def test_a_conversation_stays_at_its_replica() -> None:
    slots, affinity = ReplicaSlots([8, 8, 8]), affinity_of(3)
    first = affinity.acquire(slots, LONG[:2])
    others = [affinity.acquire(slots, (n,)) for n in (10, 20)]
    assert first is not None
    assert first not in others
    assert affinity.acquire(slots, LONG) == first
    assert affinity.decisions == Decisions(nearest=1, unknown=3)


def test_an_overloaded_replica_is_passed_over_for_the_next_longest_part() -> None:
    slots, affinity = ReplicaSlots([8, 8, 8]), affinity_of(3, load_bound=1.0)
    affinity.index.record(0, LONG)
    affinity.index.record(1, LONG[:2])
    slots.take(0)
    slots.take(0)
    assert affinity.acquire(slots, LONG) == 1
    slots.take(1)
    assert affinity.acquire(slots, LONG) == 2
    assert affinity.decisions == Decisions(nearer=1, overloaded=1)


def test_among_equals_the_least_loaded_is_chosen_and_ties_rotate() -> None:
    slots, affinity = ReplicaSlots([8] * 4), affinity_of(4)
    for replica in (1, 3):
        affinity.index.record(replica, (1,))
    chosen = [affinity.acquire(slots, (1,)) for _ in range(4)]
    assert chosen == [1, 3, 1, 3]


def test_a_request_without_a_known_prefix_goes_to_the_least_loaded() -> None:
    slots, affinity = ReplicaSlots([8, 8]), affinity_of(2)
    assert [affinity.acquire(slots, ()) for _ in range(4)] == [0, 1, 0, 1]
    assert affinity.decisions == Decisions()


def test_a_full_fleet_takes_no_request_and_learns_nothing() -> None:
    slots, affinity = ReplicaSlots([1]), affinity_of(1)
    assert affinity.acquire(slots, (1,)) == 0
    assert affinity.acquire(slots, (2,)) is None
    assert affinity.index.levels((2,)) == []


def test_a_replica_that_is_not_awake_gets_no_request_for_its_cache() -> None:
    slots, affinity = ReplicaSlots([8, 0]), affinity_of(2)
    affinity.index.record(1, LONG)
    assert affinity.acquire(slots, LONG) == 0
    assert affinity.index.worth(1) > 0


def test_numbers_of_the_index_may_differ_from_those_of_the_slots() -> None:
    slots, affinity = ReplicaSlots([8, 8]), affinity_of(6)
    affinity.index.record(5, LONG)
    assert affinity.acquire(slots, LONG, numbering=Numbering((2, 5))) == 1
    assert affinity.acquire(slots, (9,), numbering=Numbering((2, 5))) == 0
    assert affinity.index.levels((9,))[0].replicas == 1 << 2


@given(
    limits=st.lists(st.integers(1, 12), min_size=1, max_size=6),
    speeds=st.lists(st.floats(0.5, 9.0), min_size=6, max_size=6),
    load_bound=st.floats(1.0, 4.0),
    requests=st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 3), st.booleans()), min_size=1, max_size=60
    ),
)
def test_the_cache_never_overloads_a_replica_beyond_the_bound(
    limits: list[int],
    speeds: list[float],
    load_bound: float,
    requests: list[tuple[int, int, bool]],
) -> None:
    slots, affinity = ReplicaSlots(limits), affinity_of(len(limits), load_bound)
    slots.set_speeds(speeds[: len(limits)])
    taken: list[tuple[int, int]] = []
    for conversation, places, ends in requests:
        if ends and taken:
            replica, held = taken.pop()
            slots.begin(replica, 0.0, held, streams=False)
            slots.release(replica, held)
        before = list(slots.outstanding)
        near = affinity.decisions.nearest + affinity.decisions.nearer
        chosen = affinity.acquire(slots, (conversation,), places)
        if chosen is None:
            continue
        taken.append((chosen, slots.outstanding[chosen] - before[chosen]))
        assert slots.outstanding[chosen] <= limits[chosen]
        if affinity.decisions.nearest + affinity.decisions.nearer > near:
            fair = (sum(before) + places) * speeds[chosen]
            most = ceil(load_bound * fair / min(speeds[: len(limits)]))
            assert before[chosen] + places <= most
            roomy = [
                i
                for i, limit in enumerate(limits)
                if before[i] < limit and (not before[i] or before[i] + places <= limit)
            ]
            of_roomy = sum(before[i] for i in roomy) + places
            share = speeds[chosen] / sum(speeds[i] for i in roomy)
            assert before[chosen] + places <= ceil(load_bound * of_roomy * share + 1e-9)


def test_a_request_should_wait_for_a_busy_replica_only_if_that_saves_enough_blocks() -> None:
    slots = ReplicaSlots([8, 8, 8])
    affinity = PrefixAffinity(PrefixIndex(3, 100), 1.0, least_saved=2)
    affinity.index.record(0, LONG)
    affinity.index.record(1, LONG[:2])
    assert not affinity.should_wait(slots, LONG)  # it has room
    slots.take(0)
    slots.take(0)
    assert affinity.should_wait(slots, LONG)
    assert not affinity.should_wait(slots, LONG[:3])  # another one holds all but one block
    assert not affinity.should_wait(slots, (9, 10))  # none holds it
    slots.limit(0, 0)  # it sleeps now
    assert not affinity.should_wait(slots, LONG)


def test_of_two_slots_with_one_number_the_first_counts() -> None:
    numbering = Numbering((3, 0, 3))
    assert numbering.slots(0b1001) == [1, 0]
    assert numbering.slots(0b0110) == [], "others have no slot"

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from steppe.control.prefix_index import HeldPrefix, PrefixIndex, numbers_of

chains = st.lists(st.integers(0, 8), min_size=1, max_size=6, unique=True).map(tuple)
events = st.lists(st.tuples(st.integers(0, 3), chains), max_size=40)


def test_the_replica_with_the_longest_part_comes_first() -> None:
    index = PrefixIndex(3, 100)
    index.record(0, (1, 2, 3))
    index.record(1, (1, 2, 9))
    index.record(2, (7,))
    assert index.levels((1, 2, 3, 4)) == [HeldPrefix(3, 0b001), HeldPrefix(2, 0b011)]
    assert index.levels((5,)) == []


def test_a_block_in_the_middle_that_nobody_holds_ends_the_match() -> None:
    index = PrefixIndex(1, 100)
    index.record(0, (1, 2))
    index.record(0, (4,))
    assert index.levels((1, 3, 4)) == [HeldPrefix(1, 0b1)]


def test_the_end_of_the_oldest_prompt_is_forgotten_first() -> None:
    index = PrefixIndex(1, 4)
    index.record(0, (1, 2, 3))
    index.record(0, (7, 8))
    assert index.levels((1, 2, 3)) == [HeldPrefix(2, 0b1)]
    assert index.levels((7, 8)) == [HeldPrefix(2, 0b1)]


def test_a_prompt_that_comes_again_is_not_forgotten() -> None:
    index = PrefixIndex(1, 4)
    for prompt in ((1, 2), (3, 4), (1, 2), (5, 6)):
        index.record(0, prompt)
    assert index.levels((1, 2)) == [HeldPrefix(2, 0b1)]
    assert index.levels((3, 4)) == []


def test_a_replica_that_lost_its_cache_is_no_longer_found() -> None:
    index = PrefixIndex(2, 100)
    index.record(0, (1, 2))
    index.record(1, (1,))
    index.credit(index.levels((1, 2)))
    index.forget(0)
    assert index.levels((1, 2)) == [HeldPrefix(1, 0b10)]
    assert index.worth(0) == 0


@given(events=events, most=st.integers(1, 10), lost=st.integers(0, 3))
def test_no_replica_is_remembered_with_more_blocks_than_allowed(
    events: list[tuple[int, tuple[int, ...]]], most: int, lost: int
) -> None:
    index = PrefixIndex(4, most)
    for replica, prompt in events:
        index.record(replica, prompt)
        assert index.blocks(replica) <= most
        kept = min(len(prompt), most)
        assert any(level.replicas >> replica & 1 for level in index.levels(prompt[:kept]))
    index.forget(lost)
    assert index.blocks(lost) == 0
    held = sum(level.replicas >> lost & 1 for n in range(9) for level in index.levels((n,)))
    assert held == 0


def test_the_cache_that_could_serve_recent_prompts_is_worth_more() -> None:
    index = PrefixIndex(3, 100)
    index.record(0, (1, 2, 3))
    index.record(1, (4,))
    for prompt in ((1, 2, 3), (1, 2, 3), (4,)):
        index.credit(index.levels(prompt))
    assert index.worth(0) > index.worth(1) > index.worth(2) == 0
    for _ in range(5000):
        index.credit(index.levels((4,)))
    assert index.worth(1) > index.worth(0)


def test_worth_stays_finite_over_many_requests() -> None:
    index = PrefixIndex(1, 100)
    index.record(0, (1,))
    levels = index.levels((1,))
    for _ in range(300_000):
        index.credit(levels)
    assert 499 < index.worth(0) < 501


def test_an_index_grows_with_the_fleet() -> None:
    index = PrefixIndex(0, 10)
    index.grow_to(2)
    index.record(1, (1,))
    index.grow_to(1)
    assert index.levels((1,)) == [HeldPrefix(1, 0b10)]


@given(st.sets(st.integers(0, 2000), max_size=60))
def test_the_numbers_of_replicas_are_read_back_from_their_bits(numbers: set[int]) -> None:
    assert numbers_of(sum(1 << number for number in numbers)) == sorted(numbers)

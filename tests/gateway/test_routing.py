from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from steppe.gateway.routing import Route, RoutingTable


def _table(*limits: int) -> RoutingTable:
    table = RoutingTable()
    table.replace(tuple(Route(f"r{i}", f"http://r{i}", limit) for i, limit in enumerate(limits)))
    return table


def _route(replica: str, limit: int = 0) -> Route:
    return Route(replica, f"http://{replica}", limit)


def _acquire(table: RoutingTable, count: int) -> list[str | None]:
    routes = [table.acquire() for _ in range(count)]
    return [None if route is None else route.replica for route in routes]


def _leave(table: RoutingTable, replica: str) -> None:
    """Give back the slot of a request without its first token."""
    table.begin(_route(replica))
    table.release(_route(replica))


def test_an_empty_table_has_no_route() -> None:
    assert RoutingTable().acquire() is None


def test_ties_rotate() -> None:
    assert _acquire(_table(4, 4, 4), 6) == ["r0", "r1", "r2"] * 2


def test_ties_rotate_when_requests_come_one_at_a_time() -> None:
    table = _table(4, 4)
    names = []
    for _ in range(4):
        route = table.acquire()
        assert route is not None
        names.append(route.replica)
        _leave(table, route.replica)
    assert names == ["r0", "r1", "r0", "r1"]


def test_the_replica_with_the_least_outstanding_for_its_limit_is_next() -> None:
    assert _acquire(_table(2, 8), 5).count("r1") == 4


def test_a_replica_that_just_woke_does_not_get_all_new_requests() -> None:
    table = _table(64, 64)
    for replica in _acquire(table, 40):
        assert replica is not None
        table.begin(_route(replica))
    table.replace((*table.routes, Route("r2", "http://r2", 64)))
    got = Counter(_acquire(table, 9))  # 20 decode at each of the others
    assert got == {"r2": 4, "r0": 3, "r1": 2}


def test_a_full_fleet_has_no_route_until_a_slot_is_released() -> None:
    table = _table(1, 1)
    _acquire(table, 2)
    assert table.acquire() is None
    _leave(table, "r1")
    assert _acquire(table, 1) == ["r1"]


def test_a_lower_limit_holds_requests_back_until_the_excess_has_left() -> None:
    table = _table(3)
    _acquire(table, 3)
    table.replace((Route("r0", "http://r0", 1),))
    _leave(table, "r0")
    _leave(table, "r0")
    assert table.acquire() is None
    _leave(table, "r0")
    assert _acquire(table, 1) == ["r0"]


def test_a_replica_that_left_the_table_gets_no_requests_but_stays_counted() -> None:
    table = _table(4, 4)
    _acquire(table, 2)
    table.replace((Route("r1", "http://r1", 4),))
    assert _acquire(table, 2) == ["r1", "r1"]
    assert table.all_outstanding() == {"r0": 1, "r1": 3}


def test_a_replica_that_restarted_elsewhere_has_all_its_slots() -> None:
    table = _table(2)
    _acquire(table, 2)
    moved = Route("r0", "http://elsewhere", 2)
    table.suspect(_route("r0"))
    table.replace((moved,))
    assert table.has_moved(_route("r0"))
    assert not table.has_moved(moved)
    table.suspect(_route("r0"))  # a late report about the old address
    assert _acquire(table, 3) == ["r0", "r0", None]
    assert table.all_outstanding() == {"r0": 4}
    _leave(table, "r0")
    assert table.acquire() is None
    assert table.outstanding("r0") == 3


def test_a_suspect_gets_no_requests_until_the_next_table() -> None:
    table = _table(4, 4)
    table.suspect(_route("r0"))
    assert _acquire(table, 2) == ["r1", "r1"]
    assert [route.replica for route in table.candidates()] == ["r1"]
    table.replace(table.routes)
    assert _acquire(table, 1) == ["r0"]


Move = tuple[str, list[int]]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("acquire"), st.just([0])),
            st.tuples(st.just("release"), st.lists(st.integers(0, 50), min_size=1, max_size=1)),
            st.tuples(st.just("replace"), st.lists(st.integers(0, 4), max_size=4)),
        ),
        max_size=80,
    )
)
def test_no_replica_ever_gets_more_than_its_limit_or_anything_outside_the_table(
    moves: list[Move],
) -> None:
    table, held, limits = RoutingTable(), list[str](), dict[str, int]()
    for move, numbers in moves:
        if move == "replace":
            limits = {f"r{i}": limit for i, limit in enumerate(numbers)}
            table.replace(tuple(_route(name, limit) for name, limit in limits.items()))
        elif move == "release" and held:
            _leave(table, held.pop(numbers[0] % len(held)))
        elif move == "acquire":
            route = table.acquire()
            if route is None:
                assert all(held.count(name) >= limit for name, limit in limits.items())
            else:
                held.append(route.replica)
                assert held.count(route.replica) <= limits[route.replica]
        for name in set(held) | set(limits):
            assert table.outstanding(name) == held.count(name)

"""The arithmetic of the benchmark of scale."""

from __future__ import annotations

import itertools
import pickle

import pytest
from tests.fixtures.fleet_messages import tick_record

from scale_figures import rank, spread
from scale_fleet import all_served_s, part_of
from scale_gateway import measure as measure_table
from scale_simulator import Cost, arrivals, config_of, row_of
from scale_stand_ins import Machines, StandIn, Work, engine_id
from steppe.engine.control_block import request_key
from steppe.fleet.messages import SetLimits
from steppe.frontier.pareto import Frontier
from steppe.report.records import ReplicaTick, TickRecord
from steppe.roofline.point import OperatingPoint


@pytest.mark.parametrize(
    ("share", "count", "index"),
    [(0.5, 1, 0), (0.5, 4, 1), (0.5, 5, 2), (0.99, 100, 98), (0.99, 10, 9), (1.0, 7, 6)],
)
def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed(
    share: float, count: int, index: int
) -> None:
    assert rank(share, count) == index


def test_the_spread_of_values_does_not_depend_on_their_order() -> None:
    found = spread([3.0, 1.0, 2.0, 10.0])
    assert found == {"n": 4.0, "p50": 2.0, "p99": 10.0, "most": 10.0}
    assert spread([10.0, 2.0, 3.0, 1.0]) == found


def test_nothing_measured_has_no_spread() -> None:
    with pytest.raises(ValueError, match="found none"):
        spread([])


def test_the_cost_of_an_hour_is_that_of_a_shorter_run_in_proportion() -> None:
    cost = Cost(
        ticks_s=[0.1, 0.3], cpu_s=2.0, made_s=1.0, peak_bytes=300, base_bytes=100, requests=7
    )
    row = row_of(100, 60.0, cost)
    assert row["cpu_s_per_simulated_hour"] == 120.0
    assert row["share_of_ticks"] == pytest.approx(0.2)
    assert row["bytes_per_replica"] == 2.0


def test_requests_come_in_order_and_in_proportion_to_the_replicas() -> None:
    found = list(arrivals(replicas=50, duration_s=60.0))
    times_s = [arrival.at_s for arrival in found]
    assert times_s == sorted(times_s)
    assert times_s[-1] <= 60.0
    assert len(found) == pytest.approx(0.43 * 50 * 60, rel=0.1)
    assert list(itertools.islice(arrivals(50, 60.0), 3)) == found[:3], "the same each time"


def test_the_supply_of_the_benchmark_grows_with_its_replicas() -> None:
    small, large = (config_of(n, 60.0).power.supply for n in (10, 20))
    assert [2 * getattr(s, "rated_w", getattr(s, "watts", 0)) for s in small] == [
        getattr(s, "rated_w", getattr(s, "watts", 0)) for s in large
    ]


POINT = OperatingPoint(1200, 8, 100.0, 60.0)
FRONTIER = Frontier.of((POINT,), asleep_w=10.0, idle_w=15.0, source="modelled")


@pytest.fixture
def machines() -> Machines:
    return Machines({"node-1": ["a", "b"]}, FRONTIER, Work(running=4, rate_rps=0.5))


def test_a_stand_in_reports_what_the_operating_point_draws_and_charges_all_of_it(
    machines: Machines,
) -> None:
    machines.apply(
        "node-1", [SetLimits("a", 1200, 8, "awake"), SetLimits("b", None, 1, "asleep")], 0.0
    )
    machines.freeze("b")
    (window,) = machines.report("node-1", 0)
    awake, asleep = window.replicas
    assert (awake.draw_w, asleep.draw_w) == (60.0, 10.0)
    assert (len(awake.requests_uj), len(asleep.requests_uj)) == (4, 0)
    for report in window.replicas:
        charged_uj = sum(report.requests_uj.values()) + report.idle_uj
        assert charged_uj == round(1e6 * report.energy_j)


def test_a_stand_in_keeps_windows_until_they_are_read_and_booked(machines: Machines) -> None:
    for after in (0, 1, 2):
        (*_, last) = machines.report("node-1", after)
        assert last.number == after + 1
    assert [window.number for window in machines.settle("node-1", 0)] == [1, 2, 3]
    assert [window.number for window in machines.settle("node-1", 2)] == [3]
    assert [window.number for window in machines.settle("node-1", 0)] == [3]


def test_requests_of_stand_ins_end_at_their_rate() -> None:
    work = Work(running=16, rate_rps=0.43)
    ended = sum(work.number(slot, 1000.0) - work.number(slot, 0.0) for slot in range(16))
    assert ended == pytest.approx(430, rel=0.05)
    keys = {request_key(engine_id("a", slot, work.number(slot, 5.0))) for slot in range(16)}
    assert len(keys) == 16


def test_the_handle_of_a_stand_in_can_be_sent_to_another_process() -> None:
    found = pickle.loads(pickle.dumps(StandIn("machines", "node-1")))
    assert found == StandIn("machines", "node-1")


def test_a_fleet_has_served_once_each_replica_was_in_a_state_that_serves() -> None:
    def tick(t_s: float, *states: str) -> TickRecord:
        replicas = tuple(
            ReplicaTick(f"replica-{n}", state, 0, 1, 0.0, 0.0) for n, state in enumerate(states)
        )
        return tick_record(t_s, replicas=replicas)

    ticks = [
        tick(1.0, "starting", "awake"),
        tick(2.0, "awake", "gone"),
        tick(3.0, "awake", "awake"),
    ]
    assert all_served_s(ticks, 2) == 2.0
    assert all_served_s(ticks[:1], 2) is None


@pytest.mark.parametrize(
    ("title", "part"),
    [
        ("ray::ReplicaActor.start", "replica"),
        ("ray::NodeActor", "node actor"),
        ("/x/raylet/raylet --session", "raylet"),
        ("python -m steppe.cli serve", "driver"),
        ("ray::IDLE", "other Ray workers"),
        ("bash", None),
    ],
)
def test_processes_are_told_apart_by_their_titles(title: str, part: str | None) -> None:
    assert part_of(title) == part


def test_the_table_of_a_gateway_is_measured_at_any_size() -> None:
    row = measure_table(3, repeats=5)
    assert row["choice_by_prefix_s"]["n"] == 5
    assert row["table_bytes_per_replica"] > 0

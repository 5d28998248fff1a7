from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import ray
from tests.fixtures.fake_fleet import FakeFleet
from tests.fixtures.fleet_messages import node_report, replica_report
from tests.fixtures.ray_actors import FakeActor

from steppe.config import RunConfig, SiteSection
from steppe.control.aliases import AliasCounts
from steppe.control.batch_policy import PlanBatch
from steppe.control.measurements import ClockWork, LatencyCounts
from steppe.control.placing import QUEUE_PER_REPLICA
from steppe.control.reconcile import Deepen, Drain, Move, Retune, Sleep, Start, Wake
from steppe.control.sleep_ladder import SleepDepth
from steppe.control.state import Observation, ReplicaState
from steppe.control.variants import ChooseVariants
from steppe.energy.node_rest import NodeRest
from steppe.fleet.controller.gateway_calls import GatewayCalls
from steppe.fleet.controller.live_fleet import LiveFleet
from steppe.fleet.controller.live_measurements import NodeRests
from steppe.fleet.controller.live_pools import LivePools
from steppe.fleet.controller.node_power import REFUSED_S
from steppe.fleet.controller.replica_handle import IDLE_MARGIN, ReplicaHandle
from steppe.fleet.messages import Placement, ReplicaReport, ReplicaStatus, SetLimits
from steppe.frontier.pareto import Frontier
from steppe.gateway.server import GatewayStatus, Route
from steppe.gateway.status import ModelStatus, all_counts
from steppe.power.budget import Budget, budget_from_config
from steppe.report.records import GpuEvent
from steppe.roofline.point import OperatingPoint

AWAKE, ASLEEP, GONE = ReplicaState.AWAKE, ReplicaState.ASLEEP, ReplicaState.GONE
DRAINING = ReplicaState.DRAINING


@dataclass
class FakeBudget:
    budget_w: float = 100.0
    settled: list[tuple[float, float]] = field(default_factory=list)
    rest: tuple[float, str] = (0.0, "")

    def set_node_rest(self, rest_w: float, source: str) -> None:
        self.rest = rest_w, source

    def settle(self, now_s: float, draw_w: float) -> None:
        self.settled.append((now_s, draw_w))

    def at(self, now_s: float) -> Budget:
        return Budget(self.budget_w, 0.0, self.budget_w, self.budget_w, "constant", stale=False)


@dataclass
class Scene:
    """A live fleet of one node and two awake replicas; every result can be changed."""

    fleet: LiveFleet
    gateway: FakeActor
    node: FakeActor
    budget: FakeBudget
    replicas: dict[str, FakeActor]

    def handle(self, number: int = 1) -> ReplicaHandle:
        return self.fleet.handles[f"replica-{number}"]

    def report(self, number: int, *replicas: ReplicaReport) -> None:
        """Let the node answer the next calls with one more report."""
        old = self.node.answers.get("report") or []
        self.node.answers["report"] = [*old, node_report(number, *replicas)]


def report_of(replica: str, **changes: Any) -> ReplicaReport:
    return replica_report(replica, **{"running": 3, "output_tokens": 10} | changes)


def status_of(**changes: Any) -> GatewayStatus:
    return replace(GatewayStatus(2, {"replica-1": 5}, 9, 2, 0, 0, 2), **changes)


CONFIG = RunConfig.model_validate(
    {
        "model": {"name": "none", "served_name": "llama"},
        "device": {"kind": "emulated"},
        "power": {"supply": [{"kind": "constant", "watts": 100}]},
    }
)
FRONTIER = Frontier.of([OperatingPoint(600, 4, 100.0, 50.0)], 10.0, 15.0, "modelled")


@pytest.fixture
def scene(fake_ray: None) -> Scene:
    gateway, node, budget = FakeActor({"status": status_of()}), FakeActor(), FakeBudget()
    node.answers["report"] = []
    power: Any = budget
    fleet: Any = LiveFleet(GatewayCalls({"gateway": gateway}), power, 0.4, LivePools(CONFIG, power))
    fleet.pools.models = {"": "llama"}
    fleet.nodes.actors["node-1"] = node
    replicas = {}
    for number in (1, 2):
        name, url = f"replica-{number}", f"http://127.0.0.1:900{number}"
        replicas[name] = FakeActor({"status": ReplicaStatus(url, False)})
        handle = ReplicaHandle(
            Placement(name, replicas[name], "node-1", node, [number], (), model="llama")
        )
        handle.adopt(ReplicaStatus(url, False), 0.0)
        fleet.handles[name] = handle
    return Scene(fleet, gateway, node, budget, replicas)


def test_an_observation_combines_nodes_gateway_and_budget(scene: Scene) -> None:
    scene.report(1, report_of("replica-1"), report_of("replica-2", draw_w=25.0, clock_mhz=600))
    seen = scene.fleet.observe(1.0)
    assert (seen.now_s, seen.gpu_budget_w, seen.draw_w) == (1.0, 100.0, 65.0)
    assert seen.waiting == 2
    assert [(r.id, r.state, r.clock_mhz, r.outstanding) for r in seen.replicas] == [
        ("replica-1", AWAKE, 900, 5),
        ("replica-2", AWAKE, 600, 0),
    ]
    assert scene.budget.settled == [(1.0, 65.0)]
    assert scene.fleet.snapshot is not None
    assert scene.fleet.snapshot.running == 6


def test_the_budget_gets_what_the_nodes_draw_beside_their_gpus(scene: Scene) -> None:
    section = {"url": "http://p", "query": "watts", "stale_s": 30.0}
    site = SiteSection.model_validate({"node_rest_w": 1500.0, "node_meter": section})
    scene.fleet.rests = NodeRests(site)
    scene.fleet.nodes.actors["node-2"] = silent = FakeActor()
    silent.answers["report"] = []
    scene.fleet.observe(1.0)
    assert scene.budget.rest == (3000.0, "stated")
    measured = NodeRest(1000.0, 50.0, "measured")
    for node in (scene.node, silent):
        node.answers["report"] = [replace(node_report(1), rest=measured)]
    scene.fleet.observe(2.0)
    assert scene.budget.rest == (2100.0, "measured")
    scene.node.answers["report"] = [replace(node_report(2), rest=measured)]
    scene.fleet.observe(33.0)
    assert scene.budget.rest == (1050.0 + 1500.0, "stale")


def paused(scene: Scene) -> None:
    for number, actor in enumerate(scene.replicas.values(), start=1):
        actor.answers["status"] = ReplicaStatus(f"http://127.0.0.1:900{number}", True)
        scene.handle(number).enter(ASLEEP, 0.0)


def test_a_replica_is_stopped_at_the_lowest_clock_and_its_draw_is_that_of_its_depth(
    scene: Scene,
) -> None:
    paused(scene)
    scene.report(1, report_of("replica-1", draw_w=20.0), report_of("replica-2", draw_w=20.0))
    scene.fleet.observe(1.0)
    scene.fleet.apply([Deepen("replica-2", SleepDepth.STOPPED)])
    assert "leave" in scene.replicas["replica-2"].names()
    ((limits,), _) = scene.node.args("apply")[-1]
    assert (limits.clock_mhz, limits.phase) == (None, ASLEEP)
    scene.report(2, report_of("replica-1", draw_w=20.0), report_of("replica-2", draw_w=9.0))
    first, second = scene.fleet.observe(2.0).replicas
    assert (first.depth, first.deep_w) == (SleepDepth.PAUSED, 0.0)
    assert (second.depth, second.deep_w) == (SleepDepth.STOPPED, 9.0)
    assert not scene.fleet.lend("replica-2", 1.0)


def test_a_node_is_to_be_off_once_all_its_replicas_are(scene: Scene) -> None:
    paused(scene)
    scene.report(1, report_of("replica-1"), report_of("replica-2"))
    scene.fleet.observe(1.0)
    scene.fleet.apply([Deepen("replica-1", SleepDepth.OFF)])
    scene.fleet.observe(2.0)
    assert scene.fleet.nodes_off == frozenset()
    scene.fleet.apply([Deepen("replica-2", SleepDepth.OFF)])
    assert scene.fleet.nodes_off == frozenset(), "a process has not ended yet"
    scene.fleet.observe(3.0)
    assert scene.fleet.nodes_off == {"node-1"}
    scene.fleet.node_is_off("node-1", 0.5)
    assert scene.fleet.observe(4.0).draw_w is None
    assert [r.deep_w for r in scene.fleet.observe(5.0).replicas] == [0.5, 0.5]
    scene.fleet.apply([Start("replica-1")])
    assert scene.fleet.nodes_off == frozenset()
    assert [r.depth for r in scene.fleet.observe(6.0).replicas][1] is SleepDepth.STOPPED


def test_a_node_that_must_stay_on_has_its_replicas_stopped(scene: Scene) -> None:
    paused(scene)
    scene.fleet.power.always_on = {"node-1"}
    scene.fleet.observe(1.0)
    scene.fleet.apply([Deepen(f"replica-{n}", SleepDepth.OFF) for n in (1, 2)])
    scene.fleet.observe(2.0)
    assert scene.fleet.nodes_off == frozenset()
    assert scene.handle().depth is SleepDepth.STOPPED


def test_a_node_whose_command_has_failed_stays_on_for_a_while(scene: Scene) -> None:
    paused(scene)
    scene.fleet.observe(1.0)
    both = [Deepen(f"replica-{n}", SleepDepth.OFF) for n in (1, 2)]
    scene.fleet.apply([*both])
    scene.fleet.observe(2.0)
    scene.fleet.power.refuse("node-1", scene.fleet.handles.values(), 2.0)
    for now_s, nodes in ((3.0, set[str]()), (2.0 + REFUSED_S, {"node-1"})):
        scene.fleet.observe(now_s)
        scene.fleet.apply([*both])
        assert scene.fleet.nodes_off == nodes


def test_what_happened_to_gpus_is_kept_until_it_is_recorded(scene: Scene) -> None:
    first, second = (GpuEvent("GPU-1", "xid", f"Xid {number}") for number in (31, 79))
    scene.node.answers["report"] = [replace(node_report(1), events=(first,))]
    scene.fleet.observe(1.0)
    before = scene.fleet.position()
    scene.node.answers["report"] = [replace(node_report(2), events=(second,))]
    scene.fleet.observe(2.0)
    assert scene.fleet.snapshot is not None
    assert scene.fleet.snapshot.gpu_events == (first, second)
    scene.fleet.rewind(before)
    scene.fleet.observe(3.0)  # the report is read again
    assert scene.fleet.snapshot.gpu_events == (first, second)
    scene.fleet.forget_gpu_events()
    scene.fleet.observe(4.0)
    assert not scene.fleet.snapshot.gpu_events


def test_each_tick_renews_the_limits_for_the_report_that_it_has_read(scene: Scene) -> None:
    scene.fleet.observe(1.0)
    scene.fleet.apply([])
    assert scene.node.args("renew") == []  # no report was read yet
    scene.report(7, report_of("replica-1"))
    scene.fleet.observe(2.0)
    scene.fleet.apply([])
    scene.fleet.observe(3.0)  # a node that answers with nothing new, or too late
    scene.fleet.apply([])
    assert scene.node.args("renew") == [(7,), (7,)]


def test_a_stopped_replica_gets_no_new_requests_from_the_next_tick_on(scene: Scene) -> None:
    scene.report(1, report_of("replica-1", stopped=True), report_of("replica-2"))
    scene.fleet.observe(1.0)
    scene.fleet.route(None)
    scene.report(2, report_of("replica-1"), report_of("replica-2"))
    scene.fleet.observe(2.0)
    scene.fleet.route(None)
    first, second = (routes for routes, _ in scene.gateway.args("set_routes"))
    assert [route.replica for route in first] == ["replica-2"]
    assert [route.replica for route in second] == ["replica-1", "replica-2"]


@pytest.mark.parametrize(("outstanding", "moves"), [(0, []), (4, ["replica-1"]), (5, [])])
def test_a_stopped_replica_gives_its_streams_away_if_another_has_room(
    scene: Scene, outstanding: int, moves: list[str]
) -> None:
    counts = {"replica-1": outstanding, "replica-2": 0}
    scene.gateway.answers["status"] = replace(status_of(), outstanding=counts)
    scene.report(1, report_of("replica-1", stopped=True), report_of("replica-2"))
    scene.fleet.observe(1.0)
    scene.fleet.route(None)
    assert [name for (name,) in scene.gateway.args("hand_over")] == moves


def test_a_paused_replica_gives_its_streams_away_and_one_that_drains_keeps_them(
    scene: Scene,
) -> None:
    counts = {"replica-1": 1, "replica-2": 3}
    scene.gateway.answers["status"] = replace(status_of(), outstanding=counts)
    scene.report(1, report_of("replica-1"), report_of("replica-2"))
    scene.fleet.observe(1.0)
    scene.fleet.apply([Drain("replica-1", 600, 2)])
    scene.fleet.route(None)
    assert scene.gateway.args("hand_over") == []
    scene.fleet.apply([Sleep("replica-1")])
    scene.fleet.route(None)
    assert scene.gateway.args("hand_over") == [("replica-1",)]


def test_the_demand_is_arrivals_times_the_tokens_of_an_answer(scene: Scene) -> None:
    for second in range(30):
        scene.gateway.answers["status"] = status_of(arrived=20 * second, answered=10 * second)
        scene.report(second + 1, report_of("replica-1", output_tokens=250))
        seen = scene.fleet.observe(float(second))
    assert seen.demand_tps == pytest.approx(20 * 250 / 10)


def test_the_mean_request_is_that_of_the_prompts_that_arrive_and_of_the_answers(
    scene: Scene,
) -> None:
    assert scene.fleet.observe(0.0).lengths is None
    for second in range(1, 30):
        scene.gateway.answers["status"] = status_of(
            arrived=9 + 20 * second,
            answered=2 + 10 * second,
            prompt_tokens=20 * second * 900,
            cached_tokens=20 * second * 300,
        )
        scene.report(second + 1, report_of("replica-1", output_tokens=250))
        seen = scene.fleet.observe(float(second))
    assert seen.lengths is not None
    assert seen.lengths.prompt_tokens == pytest.approx(600.0)
    assert seen.lengths.cached_tokens == pytest.approx(300.0)
    assert seen.lengths.output_tokens == pytest.approx(25.0, rel=0.1)


def test_the_tokens_of_a_step_are_those_that_the_node_has_set(scene: Scene) -> None:
    scene.report(1, report_of("replica-1", tokens_per_step=128), report_of("replica-2"))
    seen = scene.fleet.observe(1.0)
    assert [replica.tokens_per_step for replica in seen.replicas] == [128, 0]
    scene.fleet.apply([Retune("replica-2", 1200, 8, tokens_per_step=128)])
    assert limits_of(scene) == [[SetLimits("replica-2", 1200, 8, "awake", 128)]]
    assert scene.handle(2).tokens_per_step == 128


def test_a_batch_limit_may_bind_new_requests_only(scene: Scene) -> None:
    scene.fleet.observe(1.0)
    scene.fleet.apply([Retune("replica-1", 1200, 8, holds=False)])
    scene.fleet.apply([Retune("replica-1", 1200, 6)])
    assert limits_of(scene) == [
        [SetLimits("replica-1", 1200, 8, "awake", holds=False)],
        [SetLimits("replica-1", 1200, 6, "awake")],
    ]


def test_requests_before_the_first_status_of_the_gateway_are_no_demand(
    scene: Scene,
) -> None:
    scene.gateway.ready = False
    assert scene.fleet.observe(0.0).demand_tps == 0.0
    scene.gateway.ready = True
    for second in range(1, 12):
        arrived, answered = 100_000 + 20 * second, 99_000 + 20 * second
        scene.gateway.answers["status"] = status_of(arrived=arrived, answered=answered)
        scene.report(second, report_of("replica-1", output_tokens=4000))
        seen = scene.fleet.observe(float(second))
    assert seen.demand_tps == pytest.approx(20 * 200)


def test_without_a_report_the_draw_is_unknown_and_the_battery_gets_the_last_one(
    scene: Scene,
) -> None:
    scene.report(1, report_of("replica-1"), report_of("replica-2"))
    scene.fleet.observe(1.0)
    assert scene.fleet.observe(2.0).draw_w is None
    assert scene.budget.settled[-1] == (2.0, 80.0)


def test_a_replica_without_a_reading_makes_the_draw_unknown(scene: Scene) -> None:
    scene.report(1, report_of("replica-1"), report_of("replica-2"))
    scene.fleet.observe(1.0)
    scene.report(2, report_of("replica-1"), report_of("replica-2", draw_w=None))
    assert scene.fleet.observe(2.0).draw_w is None
    assert scene.budget.settled[-1] == (2.0, 80.0)


def test_a_node_that_answers_late_makes_the_draw_unknown(scene: Scene) -> None:
    scene.report(1, report_of("replica-1"), report_of("replica-2"))
    scene.fleet.observe(1.0)
    scene.report(2, report_of("replica-1", draw_w=10.0))
    assert scene.fleet.observe(2.0).draw_w is None
    assert scene.budget.settled[-1] == (2.0, 50.0)


def test_a_node_is_polled_for_reports_after_the_last_one_read(scene: Scene) -> None:
    for number in (1, 2):
        scene.node.answers["report"] = [node_report(number, report_of("replica-1"))]
        scene.fleet.observe(float(number))
    scene.node.answers["report"] = ray.exceptions.RayActorError()
    scene.fleet.observe(3.0)
    scene.fleet.observe(4.0)
    assert scene.node.args("report") == [(0,), (1,), (2,), (2,)]


def test_the_last_status_holds_while_the_gateway_is_gone(scene: Scene) -> None:
    scene.fleet.observe(1.0)
    scene.gateway.answers["status"] = ray.exceptions.RayActorError()
    assert scene.fleet.observe(2.0).waiting == 2
    scene.gateway.answers["status"] = status_of(waiting=0)
    assert scene.fleet.observe(3.0).waiting == 0


def test_actions_become_limits_in_their_order(scene: Scene) -> None:
    scene.fleet.observe(1.0)
    scene.fleet.apply([Sleep("replica-2"), Retune("replica-1", 1200, 8)])
    (sent,) = scene.node.args("apply")
    assert sent[0] == [
        SetLimits("replica-2", None, 1, "asleep"),
        SetLimits("replica-1", 1200, 8, "awake"),
    ]
    assert scene.replicas["replica-2"].names() == ["status", "freeze"]
    assert scene.handle(2).state == ASLEEP


def limits_of(scene: Scene) -> list[list[SetLimits]]:
    """Return the limits that were set, by tick."""
    return [args[0] for name, args in scene.node.asked if name == "apply"]


def test_a_replica_that_goes_to_sleep_gets_the_lowest_clock_after_its_step(
    scene: Scene,
) -> None:
    scene.fleet.pools.frontiers[""] = FRONTIER
    scene.report(1, report_of("replica-1"), report_of("replica-2", running=0))
    scene.fleet.observe(1.0)
    scene.fleet.apply([Sleep("replica-1"), Sleep("replica-2")])
    scene.report(2, report_of("replica-1", stepping=True), report_of("replica-2"))
    scene.fleet.observe(2.0)
    scene.fleet.apply([])
    scene.report(3, report_of("replica-1", tokens={7: (0, 1)}), report_of("replica-2"))
    scene.fleet.observe(3.0)
    for _ in range(2):
        scene.fleet.apply([])
    assert limits_of(scene) == [
        [SetLimits("replica-1", 600, 1, "asleep"), SetLimits("replica-2", None, 1, "asleep")],
        [SetLimits("replica-1", None, 1, "asleep")],
    ]


def test_a_clock_is_never_raised_for_the_step_in_which_a_replica_falls_asleep(
    scene: Scene,
) -> None:
    scene.fleet.pools.frontiers[""] = FRONTIER
    scene.report(1, report_of("replica-1", clock_mhz=400), report_of("replica-2", clock_mhz=0))
    scene.fleet.observe(1.0)
    scene.fleet.apply([Sleep("replica-1"), Sleep("replica-2")])
    assert [limits.clock_mhz for limits in limits_of(scene)[0]] == [400, None]


def test_a_replica_that_wakes_keeps_the_clock_of_its_plan(scene: Scene) -> None:
    scene.fleet.pools.frontiers[""] = FRONTIER
    scene.report(1, report_of("replica-1"))
    scene.fleet.observe(1.0)
    scene.fleet.apply([Sleep("replica-1")])
    scene.report(2, report_of("replica-1"))
    scene.fleet.observe(2.0)
    for _ in range(2):
        scene.fleet.apply([Wake("replica-1", 900, 4)])
    assert limits_of(scene)[1:] == [[SetLimits("replica-1", 900, 4, "awake")]] * 2


def test_an_adopted_frozen_replica_gets_the_lowest_clock_once(scene: Scene) -> None:
    scene.handle().adopt(ReplicaStatus("http://there", True), 0.0)
    scene.report(1, report_of("replica-1"), report_of("replica-2"))
    scene.fleet.observe(1.0)
    for _ in range(2):
        scene.fleet.apply([])
    assert limits_of(scene) == [[SetLimits("replica-1", None, 1, "asleep")]]


@pytest.mark.parametrize(
    ("changes", "asleep_w"),
    [
        ({"draw_w": 12.0}, 12.0),
        ({"draw_w": None}, None),
        ({"draw_w": 40.0, "stepping": True}, None),
        ({"draw_w": 40.0, "tokens": {7: (0, 1)}}, None),
        ({"draw_w": 12.0, "controllable": False}, None),
    ],
)
def test_the_asleep_draw_is_observed_in_windows_without_a_step(
    scene: Scene, changes: dict[str, Any], asleep_w: float | None
) -> None:
    scene.fleet.observe(1.0)
    scene.fleet.apply([Sleep("replica-2")])
    scene.report(1, report_of("replica-1"), report_of("replica-2", **changes))
    assert scene.fleet.observe(2.0).asleep_w == asleep_w
    scene.fleet.apply([Wake("replica-2", 900, 4)])
    assert scene.fleet.observe(3.0).asleep_w is None


def test_limits_of_a_later_run_have_a_later_request_time(
    scene: Scene,
) -> None:
    for now_s in (500.0, 1.0):  # a run's time begins at 0
        scene.fleet.observe(now_s)
        scene.fleet.apply([Retune("replica-1", 1200, 8)])
    first_s, later_s = (args[1] for name, args in scene.node.asked if name == "apply")
    assert first_s < later_s


def test_a_draining_replica_gets_no_requests_and_can_wake_again(scene: Scene) -> None:
    scene.fleet.observe(1.0)
    scene.fleet.apply([Drain("replica-1", 600, 2)])
    scene.fleet.route(None)
    ((routes, _),) = scene.gateway.args("set_routes")
    assert [route.replica for route in routes] == ["replica-2"]
    scene.fleet.apply([Sleep("replica-1")])
    scene.fleet.apply([Wake("replica-1", 900, 4)])
    assert scene.replicas["replica-1"].names()[-2:] == ["freeze", "thaw"]
    assert scene.handle(1).state == AWAKE


def test_a_frozen_replica_thaws_to_drain_and_gets_no_requests(scene: Scene) -> None:
    scene.fleet.observe(1.0)
    scene.fleet.apply([Sleep("replica-1")])
    scene.fleet.apply([Drain("replica-1", 600, 2)])
    scene.fleet.route(None)
    ((routes, _),) = scene.gateway.args("set_routes")
    assert [route.replica for route in routes] == ["replica-2"]
    assert scene.replicas["replica-1"].names()[-2:] == ["freeze", "thaw"]
    assert scene.handle(1).state == DRAINING


def test_the_gateway_may_send_a_few_requests_beyond_the_batch_limit(scene: Scene) -> None:
    scene.report(1, report_of("replica-1"), report_of("replica-2", batch_limit=8))
    scene.fleet.observe(1.0)
    scene.fleet.route(30.0)
    assert scene.gateway.asked[-1] == (
        "set_routes",
        (
            (
                Route("replica-1", "http://127.0.0.1:9001", 4 + QUEUE_PER_REPLICA, "llama"),
                Route("replica-2", "http://127.0.0.1:9002", 8 + QUEUE_PER_REPLICA, "llama"),
            ),
            {"llama": 30.0},
        ),
    )


def test_a_replica_whose_actor_died_is_gone_and_can_start_again(scene: Scene) -> None:
    scene.fleet.observe(1.0)
    scene.replicas["replica-1"].answers["status"] = ray.exceptions.RayActorError()
    scene.fleet.observe(2.0)
    scene.fleet.observe(3.0)
    assert scene.handle(1).state == GONE
    scene.replicas["replica-1"].answers["start"] = ReplicaStatus("http://new", False)
    scene.fleet.apply([Start("replica-1")])
    assert scene.handle(1).state == ReplicaState.STARTING
    scene.fleet.observe(4.0)
    assert (scene.handle(1).state, scene.handle(1).url) == (AWAKE, "http://new")


def test_an_uncontrollable_replica_is_frozen_and_its_draw_is_deducted_from_the_budget(
    scene: Scene,
) -> None:
    scene.report(1, report_of("replica-1"), report_of("replica-2", draw_w=70.0, controllable=False))
    seen = scene.fleet.observe(1.0)
    assert [r.id for r in seen.replicas] == ["replica-1"]
    assert seen.gpu_budget_w == 30.0
    assert seen.draw_w is None, "the last plan was made for both"
    assert scene.fleet.snapshot is not None
    assert [r.id for r in scene.fleet.snapshot.observation.replicas] == ["replica-1", "replica-2"]
    assert scene.fleet.snapshot.observation.gpu_budget_w == 100.0
    scene.fleet.apply([Retune("replica-1", 600, 4)])
    (sent,) = scene.node.args("apply")
    assert sent[0][0] == SetLimits("replica-2", None, 1, "asleep")
    assert scene.handle(2).state == ASLEEP


def test_a_replica_that_is_controllable_again_is_planned_again(scene: Scene) -> None:
    scene.replicas["replica-2"].answers["status"] = ReplicaStatus("http://127.0.0.1:9002", True)
    for number, controllable in ((1, False), (2, False), (3, True)):
        scene.report(
            number, report_of("replica-1"), report_of("replica-2", controllable=controllable)
        )
        seen = scene.fleet.observe(float(number))
        scene.fleet.apply([])
    assert scene.replicas["replica-2"].names().count("freeze") == 1
    assert [(r.id, r.state) for r in seen.replicas] == [("replica-1", AWAKE), ("replica-2", ASLEEP)]


def test_a_lost_gpu_leaves_the_draw_of_the_others_known(scene: Scene) -> None:
    scene.report(1, report_of("replica-1"), report_of("replica-2", draw_w=70.0))
    scene.fleet.observe(1.0)
    lost = report_of("replica-2", draw_w=None, max_idle_w=20.0, controllable=False)
    scene.report(2, report_of("replica-1"), lost)
    assert scene.fleet.observe(2.0).draw_w is None
    scene.fleet.apply([])
    scene.report(3, report_of("replica-1"), lost)
    seen = scene.fleet.observe(3.0)
    assert (seen.gpu_budget_w, seen.draw_w) == (100.0 - IDLE_MARGIN * 20.0, 40.0)


def test_a_replica_that_is_gone_is_observed_although_its_gpu_is_lost(scene: Scene) -> None:
    scene.handle(2).enter(GONE, 0.0)
    scene.report(1, report_of("replica-1"), report_of("replica-2", controllable=False))
    seen = scene.fleet.observe(1.0)
    assert [(r.id, r.state) for r in seen.replicas] == [("replica-1", AWAKE), ("replica-2", GONE)]


def test_a_replica_that_does_not_answer_is_killed_and_can_start_again(scene: Scene) -> None:
    actor = scene.replicas["replica-1"]
    scene.fleet.observe(0.0)
    actor.calls[-1].ready = False
    for tenth in range(0, 100 + 1, 5):
        scene.fleet.observe(tenth / 10)
    assert (scene.handle(1).state, actor.names()) == (AWAKE, ["status"])
    scene.fleet.observe(10.5)
    scene.fleet.observe(11.0)
    assert (scene.handle(1).state, actor.names()) == (GONE, ["status", "kill"])
    assert scene.handle(2).state == AWAKE
    scene.fleet.route(None)
    ((routes, _),) = scene.gateway.args("set_routes")
    assert [route.replica for route in routes] == ["replica-2"]
    actor.answers["start"] = ReplicaStatus("http://new", False)
    scene.fleet.apply([Start("replica-1")])
    scene.fleet.observe(12.0)
    assert (scene.handle(1).state, scene.handle(1).url) == (AWAKE, "http://new")


def test_without_a_reading_a_replica_counts_with_its_peak_draw(scene: Scene) -> None:
    for number, draw_w in ((1, 90.0), (2, 50.0), (3, None)):
        scene.report(number, report_of("replica-1"), report_of("replica-2", draw_w=draw_w))
        scene.fleet.observe(float(number))
    assert [watts for _, watts in scene.budget.settled] == [130.0, 90.0, 130.0]


def test_an_awaited_status_of_the_gateway_counts_in_the_first_observation(
    scene: Scene,
) -> None:
    scene.fleet._gateways.await_status(1.0)
    scene.gateway.ready = False
    seen = scene.fleet.observe(1.0)
    assert seen.waiting == status_of().waiting > 0
    assert seen.outstanding == sum(status_of().outstanding.values()) > 0


@pytest.fixture
def idle_scene(scene: Scene) -> Scene:
    """A fleet whose second replica has no requests, seen once within a budget of 100 W."""
    scene.gateway.answers["status"] = status_of(waiting=0)
    idle = report_of("replica-2", draw_w=10.0, running=0)
    scene.report(1, report_of("replica-1", draw_w=30.0), idle)
    scene.fleet.observe(1.0)
    return scene


def test_a_lent_replica_gets_no_requests_and_its_watts_leave_the_budget(idle_scene: Scene) -> None:
    scene, fleet = idle_scene, idle_scene.fleet
    assert fleet.lend("replica-2", 50.0)
    used = report_of("replica-2", draw_w=45.0, running=8, output_tokens=99)
    scene.report(2, report_of("replica-1", draw_w=30.0), used)
    observation = fleet.observe(2.0)
    assert [replica.id for replica in observation.replicas] == ["replica-1"]
    assert observation.gpu_budget_w == 100.0 - 50.0
    assert fleet.snapshot is not None
    assert fleet.snapshot.reports["replica-2"][0].output_tokens == 0, "they are no client's tokens"
    fleet.apply([])
    fleet.route(None)
    routes = scene.gateway.args("set_routes")[-1][0]
    assert [route.replica for route in routes] == ["replica-1"]
    assert not scene.node.args("apply"), "no limit is set"
    fleet.take_back("replica-2")
    scene.report(3, report_of("replica-1", draw_w=30.0), report_of("replica-2", draw_w=10.0))
    assert len(fleet.observe(3.0).replicas) == 2


def test_a_replica_is_not_lent_beyond_the_budget_or_away_from_its_requests(
    idle_scene: Scene,
) -> None:
    fleet = idle_scene.fleet
    assert not fleet.lend("replica-2", 61.0), "30 W and 61 W are above nine tenths of 100 W"
    assert not fleet.lend("replica-1", 20.0), "it has requests"
    assert not fleet.lend("replica-3", 20.0)
    assert fleet.lend("replica-2", 60.0)
    assert not fleet.lend("replica-2", 70.0)
    assert fleet.is_lent("replica-2"), "the loan stays as it was"


def test_a_sleeping_replica_wakes_when_it_is_lent(idle_scene: Scene) -> None:
    idle_scene.handle(2).freeze(1.0)
    assert idle_scene.fleet.lend("replica-2", 50.0)
    assert idle_scene.handle(2).state == AWAKE


@pytest.mark.parametrize(("waiting", "budget_w"), [(1, 100.0), (0, 79.0)])
def test_a_loan_ends_when_requests_wait_or_the_budget_falls(
    idle_scene: Scene, waiting: int, budget_w: float
) -> None:
    scene = idle_scene
    assert scene.fleet.lend("replica-2", 50.0)
    scene.gateway.answers["status"] = status_of(waiting=waiting)
    scene.budget.budget_w = budget_w
    scene.report(2, report_of("replica-1", draw_w=30.0), report_of("replica-2", draw_w=45.0))
    assert len(scene.fleet.observe(2.0).replicas) == 2
    assert not scene.fleet.is_lent("replica-2")


def test_requests_that_engines_have_not_admitted_are_counted(scene: Scene) -> None:
    scene.report(1, report_of("replica-1", waiting=3), report_of("replica-2", waiting=2))
    assert scene.fleet.observe(1.0).engine_queue == 5


def test_the_work_of_steps_is_summed_by_clock(scene: Scene) -> None:
    slow = ClockWork(600, 10, 1, 30, 128, 9000, 0.5, 20.0)
    fast = ClockWork(900, 20, 0, 60, 0, 18_000, 0.5, 30.0)
    scene.report(1, report_of("replica-1", work=fast), report_of("replica-2", work=slow))
    scene.report(2, report_of("replica-1", work=fast), report_of("replica-2"))
    work = scene.fleet.observe(1.0).work
    assert work == (slow, ClockWork(900, 40, 0, 120, 0, 36_000, 1.0, 60.0))
    assert scene.fleet.observe(2.0).work == ()


def test_fenced_and_lent_replicas_are_in_no_measurement(scene: Scene) -> None:
    status = status_of(waiting=0, outstanding={})
    scene.gateway.answers["status"] = status
    scene.report(1, report_of("replica-1"), report_of("replica-2", running=0))
    scene.fleet.observe(1.0)
    assert scene.fleet.lend("replica-2", 20.0)
    work = ClockWork(900, 20, 0, 60, 0, 18_000, 0.5, 30.0)
    busy = report_of("replica-2", waiting=2, work=work)
    scene.report(2, report_of("replica-1"), busy)
    seen = scene.fleet.observe(2.0)
    assert (seen.work, seen.engine_queue) == ((), 0)
    scene.fleet.take_back("replica-2")
    scene.report(3, report_of("replica-1"), replace(busy, controllable=False))
    seen = scene.fleet.observe(3.0)
    assert (seen.work, seen.engine_queue) == ((), 0)


def test_latency_is_unknown_before_the_first_status_of_the_gateway(scene: Scene) -> None:
    scene.gateway.ready = False
    assert scene.fleet.observe(0.0).latency is None


def test_counts_against_the_slo_go_on_when_the_gateway_restarts(scene: Scene) -> None:
    found = []
    counts = (LatencyCounts(10, 2, 8, 1, 3), LatencyCounts(12, 2, 9, 1), LatencyCounts(1, 1, 0, 0))
    for second, latency in enumerate((*counts, LatencyCounts(4, 1, 2, 2, 1))):
        scene.gateway.answers["status"] = status_of(latency=latency)
        found.append(scene.fleet.observe(float(second)).latency)
    assert found == [*counts[:2], LatencyCounts(13, 3, 9, 1), LatencyCounts(16, 3, 11, 3, 1)]


def test_a_replica_that_is_moved_ends_its_process_and_starts_with_the_engine_of_the_other_pool(
    scene: Scene,
) -> None:
    scene.fleet.pools.models = {"": "llama", "other": "llama"}
    scene.fleet.pools.frontiers = {"": FRONTIER, "other": FRONTIER}
    scene.fleet.observe(1.0)
    scene.fleet.apply([Sleep("replica-1")])
    scene.fleet.observe(2.0)
    scene.fleet.apply([Move("replica-1", "other")])
    handle, actor = scene.handle(1), scene.replicas["replica-1"]
    assert (handle.state, handle.url, handle.placement.pool) == (ReplicaState.GONE, "", "other")
    assert actor.names()[-1] == "leave"
    assert scene.fleet.moved == {"replica-1": "other"}
    scene.fleet.observe(3.0)
    scene.fleet.apply([Start("replica-1")])
    assert actor.args("start")[-1][-1] == handle.placement.settings
    assert handle.state == ReplicaState.STARTING
    assert not handle.is_deep


def two_models(scene: Scene) -> None:
    """Let the replicas serve a model each, which an alias names."""
    scene.fleet.pools.models = {"large": "large", "small": "small"}
    scene.fleet.pools.frontiers = {"large": FRONTIER, "small": FRONTIER}
    for number, model in ((1, "large"), (2, "small")):
        handle = scene.handle(number)
        handle.placement = replace(handle.placement, model=model, pool=model)


def test_the_load_of_an_alias_is_its_part_of_the_demand_of_each_model(scene: Scene) -> None:
    two_models(scene)

    def seen(second: int) -> Observation:
        models = {"large": ModelStatus(arrived=8 * second), "small": ModelStatus(arrived=second)}
        assistant = AliasCounts(
            4 * second, second, 4 * second, 80 * second, {"large": 4 * second, "small": 0}
        )
        scene.gateway.answers["status"] = status_of(models=models, aliases={"assistant": assistant})
        return scene.fleet.observe(float(second))

    for second in range(12):
        last = seen(second)
    load, large = last.aliases["assistant"], last.pools["large"]
    assert load.by_model == {"large": pytest.approx(large.demand_tps / 2), "small": 0.0}
    assert load.tps == pytest.approx(4 * 20.0, rel=0.1)
    assert load.required_tps == pytest.approx(load.tps / 4)
    again = seen(1)  # the gateway restarted, and counts from 0
    assert again.aliases["assistant"].by_model["large"] <= again.pools["large"].demand_tps


def test_every_gateway_gets_the_shares_of_a_plan() -> None:
    actors = {"one": FakeActor(), "two": FakeActor()}
    GatewayCalls(actors).set_shares({"assistant": {"large": 0.25, "small": 0.75}})
    for actor in actors.values():
        assert actor.args("set_shares") == [({"assistant": {"large": 0.25, "small": 0.75}},)]


def test_the_counts_of_an_alias_at_several_gateways_add_up() -> None:
    counts = AliasCounts(5, 1, 4, 80, {"large": 3, "small": 2})
    both = all_counts([status_of(aliases={"assistant": counts})] * 2)
    assert both.aliases == {"assistant": AliasCounts(10, 2, 8, 160, {"large": 6, "small": 4})}


def test_a_run_with_aliases_plans_their_variants() -> None:
    models = [{"name": "none", "served_name": name, "replicas": 1} for name in ("large", "small")]
    config = RunConfig.model_validate(
        {
            "models": models,
            "aliases": {"assistant": ["large", "small"]},
            "device": {"kind": "emulated"},
            "power": {"supply": [{"kind": "constant", "watts": 100}]},
        }
    )
    pools = LivePools(config, budget_from_config(config.power, config.site))
    names = {"large": "large", "small": "small"}
    pools.begin(dict.fromkeys(names, FRONTIER), names, ())
    policy = pools.loop(FakeFleet.of([AWAKE], 100.0)).policy
    assert isinstance(policy, PlanBatch)
    assert isinstance(policy.policy, ChooseVariants)

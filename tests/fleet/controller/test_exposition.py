from __future__ import annotations

from dataclasses import replace

from prometheus_client.parser import text_string_to_metric_families
from tests.fixtures.fleet_messages import replica_report

from steppe.control.sleep_ladder import SleepDepth
from steppe.control.state import Learned, Observation, ReplicaObservation, ReplicaState
from steppe.fleet.controller.exposition import Exposition
from steppe.power.battery import Charge
from steppe.report.records import GpuEvent, GridTick, ReplicaTick, ShortageTick, TickRecord
from steppe.roofline.lengths import RequestLengths
from steppe.roofline.step_costs import CostFactors

TICK = TickRecord(
    t_s=1.0,
    budget_w=90.0,
    draw_w=80.0,
    supply_w=120.0,
    demand_tps=50.0,
    output_tps=40.0,
    energy_j=80.0,
    output_tokens=40,
    waiting=2,
    running=5,
    replicas=(
        ReplicaTick("replica-1", "awake", 1200, 8, 60.0, 40.0),
        ReplicaTick("replica-2", "asleep", 600, 1, 20.0, 0.0),
    ),
)
OF_EVENT = ("target", "baseline", "delivered")
MODELS = {"replica-1": "tiny", "replica-2": "tiny"}
REPORT = replica_report(requests_uj={1: 20_000_000, 2: 30_000_000}, idle_uj=10_000_000)


def exposition(energy_source: str = "emulated") -> Exposition:
    return Exposition(energy_source, models=MODELS)


def samples(text: bytes) -> dict[tuple[str, str], float]:
    """Return the value of every sample by its name and the values of its labels."""
    return {
        (sample.name, ",".join(sample.labels[key] for key in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_a_quarantined_replica_is_named_with_its_fault() -> None:
    fault = "GPU 1 (NVIDIA L4): it is lost"
    lost = ReplicaTick("replica-2", "quarantined", 0, 1, 20.0, 0.0, fault=fault)
    made = exposition()
    found = samples(made.update(replace(TICK, replicas=(TICK.replicas[0], lost))))
    assert found["steppe_replicas", "quarantined"] == 1.0
    assert found["steppe_replica_quarantined", f"{fault},replica-2"] == 1.0
    assert not any(name == "steppe_replica_quarantined" for name, _ in samples(made.update(TICK)))


def test_depths_of_sleep_and_the_times_of_wakes_are_exposed() -> None:
    def replica(name: str, state: ReplicaState, depth: SleepDepth) -> ReplicaObservation:
        return ReplicaObservation(name, state, 0.0, 600, 1, 0, depth=depth)

    replicas = (
        replica("a", ReplicaState.AWAKE, SleepDepth.PAUSED),
        replica("b", ReplicaState.ASLEEP, SleepDepth.PAUSED),
        replica("c", ReplicaState.ASLEEP, SleepDepth.STOPPED),
        replica("d", ReplicaState.ASLEEP, SleepDepth.STOPPED),
    )
    made = exposition()
    made.set_wakes({(SleepDepth.STOPPED, "0.5"): 31.0, (SleepDepth.STOPPED, "0.9"): 44.0})
    found = samples(made.update(TICK, (), Observation(1.0, 90.0, None, 0.0, 0, replicas)))
    depths = {depth: found["steppe_replicas_asleep", depth] for depth in SleepDepth}
    assert depths == {"paused": 1.0, "offloaded": 0.0, "stopped": 2.0, "node_off": 0.0}
    assert found["steppe_wake_seconds", "stopped,0.9"] == 44.0


def test_a_tick_is_exposed_in_base_units() -> None:
    found = samples(exposition().update(TICK))
    assert found["steppe_power_supply_watts", ""] == 120.0
    assert found["steppe_power_budget_watts", ""] == 90.0
    assert found["steppe_power_watts", "replica-1,emulated"] == 60.0
    assert found["steppe_gpu_clock_limit_hertz", "replica-1"] == 1.2e9
    assert found["steppe_batch_limit", "replica-2"] == 1.0
    assert found["steppe_replicas", "awake"] == found["steppe_replicas", "asleep"] == 1.0
    assert found["steppe_replicas", "gone"] == 0.0
    assert found["steppe_requests_running", ""] == 5.0
    assert found["steppe_budget_feasible", ""] == 1.0
    assert found["steppe_output_tokens_total", ""] == 40.0


def test_the_demand_is_exposed_with_its_mean_request() -> None:
    made, lengths = exposition(), RequestLengths(900.0, 200.0, 100.0)
    observation = Observation(1.0, 90.0, 80.0, 50.0, 2, (), lengths=lengths, engine_queue=3)
    found = samples(made.update(TICK, observation=observation))
    assert found["steppe_demand_output_tokens_per_second", ""] == 50.0
    assert found["steppe_demand_request_tokens", "prompt"] == 900.0
    assert found["steppe_demand_request_tokens", "cached"] == 100.0
    assert found["steppe_demand_request_tokens", "output"] == 200.0
    assert found["steppe_requests_engine_queue", ""] == 3.0
    found = samples(made.update(TICK, observation=replace(observation, lengths=None)))
    assert ("steppe_demand_request_tokens", "prompt") not in found


def test_what_the_policy_has_learned_is_exposed() -> None:
    factors, deviations = CostFactors(1.1, 1.2, 1.3, 1.4), CostFactors(0.1, 0.2, 0.3, 0.4)
    made = exposition()
    found = samples(made.update(TICK, learned=Learned(factors, deviations, 0.25, at_ceiling=True)))
    assert found["steppe_slo_reserve_ratio", ""] == 0.25
    assert found["steppe_slo_guard_active", ""] == 1.0
    ratios = {name for (name, _), _ in found.items() if "cost_ratio" in name}
    assert found["steppe_step_cost_ratio", "time,decode"] == 1.1
    assert found["steppe_step_cost_ratio", "energy,prompt"] == 1.4
    assert found["steppe_step_cost_ratio_deviation", "time,prompt"] == 0.2
    assert len(ratios) == 2
    found = samples(made.update(TICK, learned=Learned()))
    assert (found["steppe_slo_guard_active", ""], found["steppe_slo_reserve_ratio", ""]) == (0, 0)


def test_energy_is_counted_by_model_replica_and_kind() -> None:
    made = exposition()
    made.update(TICK, [REPORT, replica_report("replica-2", transition_uj=5_000_000)])
    found = samples(made.update(TICK, [REPORT]))
    energy = {
        labels: value for (name, labels), value in found.items() if "energy_joules_total" in name
    }
    assert energy == {
        "request,tiny,replica-1,emulated": 100.0,
        "idle,tiny,replica-1,emulated": 20.0,
        "transition,tiny,replica-1,emulated": 0.0,
        "request,tiny,replica-2,emulated": 0.0,
        "idle,tiny,replica-2,emulated": 0.0,
        "transition,tiny,replica-2,emulated": 5.0,
    }


def test_every_joule_has_the_worst_of_its_sources() -> None:
    made = exposition("counter")
    made.update(TICK, [replace(REPORT, quality="counter")])
    found = samples(made.update(TICK, [replace(REPORT, quality="estimated")]))
    assert found["steppe_energy_joules_total", "idle,tiny,replica-1,counter"] == 10.0
    assert found["steppe_energy_joules_total", "idle,tiny,replica-1,estimated"] == 10.0
    assert found["steppe_power_watts", "replica-1,estimated"] == 60.0
    assert found["steppe_power_watts", "replica-2,counter"] == 20.0
    emulated = samples(exposition().update(TICK, [replace(REPORT, quality="estimated")]))
    assert emulated["steppe_energy_joules_total", "idle,tiny,replica-1,emulated"] == 10.0


def test_counters_have_no_creation_times_and_the_build_is_left_to_the_gateway() -> None:
    text = exposition().update(TICK, [REPORT]).decode()
    assert "_created" not in text
    assert "steppe_build_info" not in text


def test_a_battery_is_exposed_where_there_is_one() -> None:
    names = {"steppe_battery_charge_ratio": 0.4, "steppe_battery_watts": -30.0}
    found = samples(exposition().update(replace(TICK, battery=Charge(0.4, -30.0))))
    assert {name: found[name, "site"] for name in names} == names
    assert not any(name in names for name, _ in samples(exposition().update(TICK)))


def test_what_holds_for_gpus_and_what_happened_to_them_is_exposed() -> None:
    made = exposition()
    first, second = TICK.replicas
    events = (
        GpuEvent("GPU-1", "xid", "Xid 79"),
        GpuEvent("GPU-1", "xid", "Xid 31"),
        GpuEvent("GPU-2", "slowdown", "thermal", is_over=True),
    )
    hot = replace(first, conditions=("power brake", "shared"))
    tick = replace(TICK, replicas=(hot, second), gpu_events=events)
    found = samples(made.update(tick, [replace(REPORT, neighbour_j=9.0, counter_ratio=0.6)]))
    assert found["steppe_gpu_condition", "power brake,replica-1"] == 1.0
    assert found["steppe_gpu_condition", "shared,replica-1"] == 1.0
    assert found["steppe_gpu_events_total", "xid"] == 2.0
    assert ("steppe_gpu_events_total", "slowdown") not in found
    assert found["steppe_neighbour_energy_joules_total", "replica-1"] == 9.0
    assert found["steppe_energy_counter_ratio", "replica-1"] == 0.6
    assert not any(name == "steppe_gpu_condition" for name, _ in samples(made.update(TICK)))


def test_the_rest_of_the_nodes_and_the_boundary_are_exposed() -> None:
    tick = replace(TICK, node_rest_w=1500.0, node_rest_source="stale")
    found = samples(Exposition("counter", "node", MODELS).update(tick))
    assert found["steppe_power_node_rest_watts", "stale"] == 1500.0
    assert found["steppe_energy_boundary_info", "node"] == 1.0


def test_stale_and_curtailed_supply_is_exposed() -> None:
    made = exposition()
    for stale in (False, True, False):
        found = samples(made.update(replace(TICK, stale=stale, curtailed_w=12.5)))
        assert found["steppe_power_supply_stale", ""] == stale
        assert found["steppe_power_curtailed_watts", ""] == 12.5


def test_counters_add_up_and_gauges_do_not() -> None:
    made = exposition()
    made.update(TICK)
    found = samples(made.update(replace(TICK, output_tokens=2, running=0, budget_w=10.0)))
    assert found["steppe_output_tokens_total", ""] == 42.0
    assert found["steppe_requests_running", ""] == 0.0
    assert found["steppe_power_budget_watts", ""] == 10.0


def test_a_removed_replica_has_no_gauges_left() -> None:
    made = exposition()
    made.update(TICK)
    found = samples(made.update(replace(TICK, replicas=TICK.replicas[:1])))
    assert ("steppe_power_watts", "replica-1,emulated") in found
    assert ("steppe_power_watts", "replica-2,emulated") not in found


def test_a_shortage_is_exposed_with_its_watts_and_its_times() -> None:
    shortages = (ShortageTick("floor", 5.0, 60.0, None), ShortageTick("demand", 40.0, 0.0, 90.0))
    found = samples(exposition().update(replace(TICK, shortages=shortages)))
    assert found["steppe_shortage_watts", "floor"] == 5.0
    assert found["steppe_shortage_watts", "demand"] == 40.0
    assert found["steppe_shortage_begins_seconds", "floor"] == 60.0
    assert found["steppe_shortage_begins_seconds", "demand"] == 0.0
    assert found["steppe_shortage_ends_seconds", "demand"] == 90.0
    assert ("steppe_shortage_ends_seconds", "floor") not in found
    assert found["steppe_budget_feasible", ""] == 1.0, "the floor is short only later"


def test_a_budget_below_the_floor_is_not_feasible() -> None:
    short = replace(TICK, shortages=(ShortageTick("floor", 5.0, 0.0, 60.0),))
    assert samples(exposition().update(short))["steppe_budget_feasible", ""] == 0.0


def test_a_shortage_that_is_over_leaves_no_watts_and_no_times() -> None:
    made = exposition()
    made.update(replace(TICK, shortages=(ShortageTick("demand", 40.0, 0.0, 90.0),)))
    found = samples(made.update(TICK))
    assert found["steppe_shortage_watts", "demand"] == 0.0
    assert found["steppe_budget_feasible", ""] == 1.0
    assert not [
        name for name, _ in found if name.startswith("steppe_shortage") and "seconds" in name
    ]


def test_what_the_grid_asks_is_exposed_and_gone_with_it() -> None:
    made = exposition()
    hold = GridTick("openadr/e1", 70.0, "openadr/e1", 70.0, 100.0, 32.0, complies=True)
    found = samples(made.update(replace(TICK, grid=hold)))
    assert found["steppe_grid_limit_watts", "openadr/e1,openadr"] == 70.0
    assert found["steppe_grid_event_active", ""] == 1.0
    assert found["steppe_grid_event_complies", "openadr/e1"] == 1.0
    watts = {of: found["steppe_grid_event_watts", f"emulated,openadr/e1,{of}"] for of in OF_EVENT}
    assert watts == {"target": 70.0, "baseline": 100.0, "delivered": 32.0}
    found = samples(made.update(TICK))
    assert [key for key in found if key[0].startswith("steppe_grid")] == [
        ("steppe_grid_event_active", "")
    ]
    assert found["steppe_grid_event_active", ""] == 0.0


def test_an_event_that_comes_is_exposed_with_the_time_until_it_begins() -> None:
    coming = GridTick(event="http/e1", baseline_w=100.0, complies=False, hold_w=70.0)
    coming = replace(coming, begins_in_s=32.0, reason="event e1: asked for more, found less")
    found = samples(exposition().update(replace(TICK, grid=coming)))
    assert found["steppe_grid_event_active", ""] == 0.0
    assert found["steppe_grid_event_watts", "emulated,http/e1,target"] == 70.0
    assert ("steppe_grid_event_watts", "emulated,http/e1,delivered") not in found
    assert found["steppe_grid_event_begins_seconds", "http/e1"] == 32.0
    assert found["steppe_grid_event_complies", "http/e1"] == 0.0


def test_each_link_is_exposed_as_lost_or_not() -> None:
    made = exposition()
    made.set_links({"http": False, "openadr": True})
    found = samples(made.update(TICK))
    assert found["steppe_grid_link_lost", "openadr"] == 1.0
    assert found["steppe_grid_link_lost", "http"] == 0.0

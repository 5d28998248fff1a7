from __future__ import annotations

from dataclasses import replace

from prometheus_client.parser import text_string_to_metric_families

from steppe.fleet.controller.exposition import Exposition
from steppe.power.battery import Charge
from steppe.report.records import ReplicaTick, ShortageTick, TickRecord

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


def samples(text: bytes) -> dict[tuple[str, str], float]:
    """Return the value of every sample by its name and the values of its labels."""
    return {
        (sample.name, ",".join(sample.labels[key] for key in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_a_battery_is_told_of_where_there_is_one() -> None:
    names = {"steppe_battery_charge_ratio": 0.4, "steppe_battery_watts": -30.0}
    found = samples(Exposition("emulated").update(replace(TICK, battery=Charge(0.4, -30.0))))
    assert {name: found[name, "site"] for name in names} == names
    assert not any(name in names for name, _ in samples(Exposition("emulated").update(TICK)))


def test_a_tick_becomes_base_units_with_the_source_of_every_joule() -> None:
    found = samples(Exposition("emulated").update(TICK))
    assert found["steppe_power_supply_watts", ""] == 120.0
    assert found["steppe_power_budget_watts", ""] == 90.0
    assert found["steppe_power_watts", "replica-1,emulated"] == 60.0
    assert found["steppe_gpu_clock_limit_hertz", "replica-1"] == 1.2e9
    assert found["steppe_batch_limit", "replica-2"] == 1.0
    assert found["steppe_replicas", "awake"] == found["steppe_replicas", "asleep"] == 1.0
    assert found["steppe_replicas", "gone"] == 0.0
    assert found["steppe_requests_running", ""] == 5.0
    assert found["steppe_budget_feasible", ""] == 1.0
    assert found["steppe_energy_joules_total", "emulated"] == 80.0
    assert found["steppe_output_tokens_total", ""] == 40.0


def test_the_source_of_a_tick_is_the_worst_of_its_windows() -> None:
    exposition = Exposition("counter")
    exposition.update(TICK, ["counter", "counter"])
    found = samples(exposition.update(TICK, ["counter", "estimated"]))
    assert found["steppe_energy_joules_total", "counter"] == 80.0
    assert found["steppe_energy_joules_total", "estimated"] == 80.0
    assert found["steppe_power_watts", "replica-1,estimated"] == 60.0
    emulated = samples(Exposition("emulated").update(TICK, ["estimated"]))
    assert emulated["steppe_energy_joules_total", "emulated"] == 80.0


def test_a_supply_that_is_not_known_is_told() -> None:
    exposition = Exposition("emulated")
    for stale in (False, True, False):
        found = samples(exposition.update(replace(TICK, stale=stale)))
        assert found["steppe_power_supply_stale", ""] == stale


def test_supply_that_nobody_took_is_told() -> None:
    found = samples(Exposition("emulated").update(replace(TICK, curtailed_w=12.5)))
    assert found["steppe_power_curtailed_watts", ""] == 12.5


def test_counters_add_up_and_gauges_do_not() -> None:
    exposition = Exposition("emulated")
    exposition.update(TICK)
    quiet = replace(TICK, energy_j=30.0, output_tokens=0, running=0, budget_w=10.0)
    found = samples(exposition.update(quiet))
    assert found["steppe_energy_joules_total", "emulated"] == 110.0
    assert found["steppe_output_tokens_total", ""] == 40.0
    assert found["steppe_requests_running", ""] == 0.0


def test_a_replica_that_left_is_told_of_no_more() -> None:
    exposition = Exposition("emulated")
    exposition.update(TICK)
    found = samples(exposition.update(replace(TICK, replicas=TICK.replicas[:1])))
    assert ("steppe_power_watts", "replica-1,emulated") in found
    assert ("steppe_power_watts", "replica-2,emulated") not in found


def test_a_shortage_is_told_with_its_watts_and_its_times() -> None:
    shortages = (ShortageTick("floor", 5.0, 60.0, None), ShortageTick("demand", 40.0, 0.0, 90.0))
    found = samples(Exposition("emulated").update(replace(TICK, shortages=shortages)))
    assert found["steppe_shortage_watts", "floor"] == 5.0
    assert found["steppe_shortage_watts", "demand"] == 40.0
    assert found["steppe_shortage_begins_seconds", "floor"] == 60.0
    assert found["steppe_shortage_begins_seconds", "demand"] == 0.0
    assert found["steppe_shortage_ends_seconds", "demand"] == 90.0
    assert ("steppe_shortage_ends_seconds", "floor") not in found
    assert found["steppe_budget_feasible", ""] == 1.0, "the floor is short only later"


def test_a_budget_below_the_floor_is_not_feasible() -> None:
    short = replace(TICK, shortages=(ShortageTick("floor", 5.0, 0.0, 60.0),))
    assert samples(Exposition("emulated").update(short))["steppe_budget_feasible", ""] == 0.0


def test_a_shortage_that_is_over_leaves_no_watts_and_no_times() -> None:
    exposition = Exposition("emulated")
    exposition.update(replace(TICK, shortages=(ShortageTick("demand", 40.0, 0.0, 90.0),)))
    found = samples(exposition.update(TICK))
    assert found["steppe_shortage_watts", "demand"] == 0.0
    assert found["steppe_budget_feasible", ""] == 1.0
    assert not [key for key in found if "seconds" in key[0]]

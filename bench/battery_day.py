"""How much more does a battery yield with a plan of the day than with its own rule?

The scoreboard's fleets and load under `follow_budget`, on its windy and its cloudy day, each
repeated so that the plan can see the day after. Without a battery; with one that offers what it
can sustain for an hour and takes what is left over; and with one that is steered by the plan of
the horizon. It holds four hours of a quarter of the fleet's full draw and begins half full; what
is left in it at the end counts with the tokens that a joule bought on that day. Simulated, energy
modelled, and the weather is known ahead, so this is the most that a forecast can give.

    python bench/battery_day.py
    python bench/battery_day.py --fleet 70b --duration 600
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import document
import policies
import policy_table
import scenarios
from bench_fleets import FLEETS, Bench, Size, make_bench
from steppe.config import ControlSection, HorizonSection
from steppe.power.battery import NO_BATTERY, Battery
from steppe.power.trace import SupplyTrace
from targets import at_least

HOURS, POWER_SHARE, EFFICIENCY = 4.0, 0.25, 0.95
DAYS = (scenarios.windy_day, scenarios.cloudy_solar_day)
Row = dict[str, Any]


def battery_of(full_w: float, hour_s: float) -> Battery:
    """Return the battery of a fleet whose full draw is given; an hour of the day takes `hour_s`."""
    most_w = POWER_SHARE * full_w
    return Battery(HOURS * hour_s * most_w, most_w, most_w, EFFICIENCY, EFFICIENCY, hour_s)


def repeated(trace: SupplyTrace) -> SupplyTrace:
    """Return a day and the same day once more."""
    again_s = tuple(trace.end_s + scenarios.STEP_S + at_s for at_s in trace.times_s)
    return SupplyTrace(trace.times_s + again_s, trace.watts * 2, None)


def planned_control(bench: Bench) -> ControlSection:
    """Return the control section that plans the day; the fleet's own has no horizon."""
    return bench.config.control.model_copy(update={"horizon": HorizonSection(every_s=120.0)})


def rows_of(bench: Bench, fleet: str, day: scenarios.Happening) -> list[Row]:
    """Return a row for each way to use a battery."""
    battery = battery_of(bench.full_w, bench.config.sim.duration_s / 24)
    alone, planned = bench.config.control, planned_control(bench)
    ways = (("none", NO_BATTERY, alone), ("own rule", battery, alone), ("plan", battery, planned))
    return [{"fleet": fleet, **_row(bench, day, *way)} for way in ways]


def _row(
    bench: Bench,
    day: scenarios.Happening,
    way: str,
    battery: Battery,
    control: ControlSection,
) -> Row:
    budget = policies.budget_of(day, battery)
    summary, _ = policies.run_with(bench, control, budget)
    left_j = EFFICIENCY * (budget.stored_j - battery.capacity_j / 2)
    tokens = summary["output_tokens"] * (1 + left_j / summary["energy_j"])
    return {
        "happening": day.name,
        "battery": way,
        "horizon": control.horizon and control.horizon.model_dump(mode="json"),
        "output_tokens": summary["output_tokens"],
        "stored_share": budget.stored_j / battery.capacity_j if battery.capacity_j else 0.0,
        "tokens_with_stored": tokens,
        "slo_attainment": summary["slo_attainment"],
        "relative_mae": summary["tracking"]["relative_mae"],
        "over_budget_share": policy_table.over_share(summary),
    }


def targets(rows: list[Row]) -> list[dict[str, Any]]:
    """Return what the results are held against: a plan must be worth more than the rule."""
    found = []
    for rule, plan in zip(rows[1::3], rows[2::3], strict=True):
        name = f"{plan['fleet']}, {plan['happening']}: tokens of the plan beside the battery's rule"
        ratio = plan["tokens_with_stored"] / rule["tokens_with_stored"]
        found.append(at_least(name, ratio, "x", 1.0))
    return found


def main() -> None:
    """Run, print a table, and then one JSON document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--fleet", choices=FLEETS, default="70b")
    parser.add_argument("--duration", type=float, default=3600.0, help="length of a day, s")
    arguments = parser.parse_args()
    bench = make_bench(Size(arguments.fleet, None, arguments.duration))
    rows: list[Row] = []
    for make in DAYS:
        day = make(bench.full_w, arguments.duration)
        twice = scenarios.Happening(day.name, repeated(day.budget), day.fallback_w)
        rows += rows_of(bench, arguments.fleet, twice)
    shown = [{key: row[key] for key in row if key != "horizon"} for row in rows]
    policy_table.show_all("a day with a battery; simulated, energy modelled", shown)
    fleets = [document.fleet_of(bench)]
    print(json.dumps(document.simulated("battery_day", fleets, arguments, rows, targets(rows))))


if __name__ == "__main__":
    main()

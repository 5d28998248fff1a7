"""The runs of the scoreboard: each policy on each day, and those that an operator tunes to the day.

A tuned policy is run with several settings a day, of which the table takes the best in hindsight.
Clocks are chosen by what they would serve on the day with perfect plans: those with the most
tokens, and those with the most tokens at which a full batch keeps the SLO; and the highest.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import policies
import policy_table
from bench_fleets import Bench, Size, make_bench
from policy_bound import demand_tps, served_tokens
from rival_autoscalers import CappedAutoscaler, ClockLockedAutoscaler, StaticClockReplicas
from rival_plans import full_batch
from scenarios import Happening
from steppe.control.policy.make import make_policy
from steppe.control.policy.policy import Policy, PoolFacts
from steppe.roofline.point import OperatingPoint
from weather_days import WeatherDay, happening_of

Row = dict[str, Any]
STATIC, LOCKED, CAPPED = "static_clock", "locked_autoscaler", "capped_autoscaler"
LOCKS, LOCKS_OF_AUTOSCALERS, FILLS = 4, 2, (0.6, 0.9)
"""Clocks that are tried a day, and requests that an autoscaler aims at, share of a batch."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A policy, and what an operator sets.

    Attributes:
        policy: Its name in the table.
        clock_mhz: The locked clock, MHz; None for a policy without a lock.
        fill: Requests of a replica that an autoscaler aims at, share of its batch limit.
    """

    policy: str
    clock_mhz: int | None = None
    fill: float | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """A day with a clock curve, and the policies that go through it.

    Attributes:
        size: The bench, as it begins on that day.
        day: The day.
        speed: Seconds of the day in a second of the run.
        policies: Names of the policies.
    """

    size: Size
    day: WeatherDay
    speed: float
    policies: tuple[str, ...]


def rows_of(task: Task) -> list[Row]:
    """Return a row for every policy and setting on a day, run in random order."""
    bench = make_bench(task.size)
    happening = happening_of(task.day, bench.full_w, task.size.duration_s, task.speed)
    settings = settings_of(bench, happening, task.policies)
    random.Random(task.size.seed).shuffle(settings)
    return [row_of(task, bench, happening, setting) for setting in settings]


def settings_of(bench: Bench, happening: Happening, names: tuple[str, ...]) -> list[Setting]:
    """Return the policies to run, tuned ones with several settings."""
    clocks_mhz = locks_of(bench, happening, LOCKS)
    found = []
    for name in names:
        if name == STATIC:
            found += [Setting(name, clock_mhz) for clock_mhz in clocks_mhz]
        elif name in (LOCKED, CAPPED):
            few = clocks_mhz[:LOCKS_OF_AUTOSCALERS]
            found += [Setting(name, clock_mhz, fill) for clock_mhz in few for fill in FILLS]
        else:
            found.append(Setting(name))
    return found


def locks_of(bench: Bench, happening: Happening, most: int) -> list[int]:
    """Return the clocks to lock on a day, MHz.

    The best that keeps the SLO, the highest, the best of all, and then the next best of each.
    """
    points, tpot_s = full_batch(bench.assumed).points, bench.slo.tpot_s
    seconds = math.floor(bench.config.sim.duration_s)
    asked_tps = demand_tps(bench.arrivals, seconds, 1.0)
    budget_w = [happening.budget.at(second + 0.5) for second in range(seconds)]

    def tokens(point: OperatingPoint) -> float:
        return served_tokens(_most_tps(bench, budget_w, point), asked_tps)

    ranked = sorted(points, key=tokens, reverse=True)
    kept = [point for point in ranked if point.tpot_s <= tpot_s]
    in_turn = [point for pair in zip(kept, ranked, strict=False) for point in pair]
    clocks_mhz = [point.clock_mhz for point in (*kept[:1], points[-1], *in_turn, *ranked)]
    return list(dict.fromkeys(clocks_mhz))[:most]


def _most_tps(bench: Bench, budget_w: Sequence[float], point: OperatingPoint) -> list[float]:
    """Return the output of as many replicas at a point as fit into the budget, each second."""
    replicas, asleep_w = bench.fleet.replicas, bench.assumed.asleep_w
    usable = 1 - bench.config.control.margin_share
    fits = (
        (usable * watts - replicas * asleep_w) // (point.draw_w - asleep_w) for watts in budget_w
    )
    return [min(replicas, max(0.0, fit)) * point.output_tps for fit in fits]


def row_of(task: Task, bench: Bench, happening: Happening, setting: Setting) -> Row:
    """Return what the table needs of one run."""
    name = policies.RIVALS.get(setting.policy, setting.policy)
    control = bench.config.control.model_copy(update={"policy": name})
    budget = policies.budget_of(happening)
    policy = _policy(setting, policies.facts_of(bench, control, budget))
    began_s = time.process_time()
    summary, _ = policies.run_policy(bench, policy, control, budget)
    cpu_s = time.process_time() - began_s
    watts = happening.budget.watts
    return {
        "clock_curve": task.size.clock_curve,
        "source": task.day.source,
        "day": task.day.day,
        "hour": task.day.hour,
        "budget_share": sum(watts) / len(watts) / bench.full_w,
        "clock_mhz": setting.clock_mhz,
        "fill": setting.fill,
        **policy_table.row_of(setting.policy, happening.name, summary, cpu_s),
    }


def _policy(setting: Setting, facts: PoolFacts) -> Policy:
    match setting:
        case Setting(policy="static_clock"):
            return StaticClockReplicas(facts, setting.clock_mhz)
        case Setting(policy="locked_autoscaler", fill=float(fill)):
            return ClockLockedAutoscaler(facts, setting.clock_mhz, fill)
        case Setting(policy="capped_autoscaler", fill=float(fill)):
            return CappedAutoscaler(facts, setting.clock_mhz, fill)
        case _:
            return make_policy(facts)

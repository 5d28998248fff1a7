"""What the status call of the gateway says of the fleet: the last tick and what comes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from steppe.control.batch_work import BatchPace
from steppe.frontier.mix import best_mix
from steppe.frontier.pareto import Frontier
from steppe.power.battery import JOULES_PER_WH
from steppe.power.budget import PowerBudget
from steppe.report.records import ReplicaTick, TickRecord
from steppe.roofline.point import OperatingPoint

FORECAST_S, FORECAST_STEP_S = 3600.0, 300.0
"""Length of the shown forecast and of its steps, s of run time."""
OUTLOOK_STEPS = 16
"""Steps of the outlook that other sites get."""
MOST_POINTS = 8
"""Most operating points of a model that are shown."""
NO_BATCH: Mapping[str, BatchPace] = {}
_OF_TICK = ("demand_tps", "output_tps", "energy_j", "output_tokens", "waiting", "running", "bound")
"""What of a tick is shown as its record has it."""
_SERVES = ("awake", "asleep", "draining")
"""States of replicas that serve, or could."""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is known of the replicas of one model.

    Attributes:
        frontier: The operating points of one replica that keep the SLO.
        replicas: Names of its replicas.
    """

    frontier: Frontier
    replicas: frozenset[str]


@dataclass(frozen=True, slots=True)
class EnergyLabels:
    """How power is measured.

    Attributes:
        energy_source: The source of the joules.
        boundary: What they enclose: `gpu`, `node` or `site`.
    """

    energy_source: str
    boundary: str


def fleet_state(
    record: TickRecord,
    models: Mapping[str, ModelFacts],
    budget: PowerBudget,
    provenance: EnergyLabels,
    batch: Mapping[str, BatchPace] = NO_BATCH,
    *,
    grid: Mapping[str, Any] | None = None,
    outlook_step_s: float | None = None,
) -> bytes:
    """Return the state after a tick as JSON.

    Args:
        record: The tick.
        models: The models, by the name that clients use.
        budget: The power budget.
        provenance: How power is measured.
        batch: The pace of each batch job, by its key.
        grid: What the grid asks; None in a run without one.
        outlook_step_s: Length of a step of the outlook, s; None for none.
    """
    return orjson.dumps(
        {
            "at": time.time(),
            "t_s": record.t_s,
            "power": {
                "budget_w": record.budget_w,
                "budget_source": record.budget_source,
                "draw_w": record.draw_w,
                "headroom_w": record.budget_w - record.draw_w,
                "supply_w": record.supply_w,
                "firm_w": budget.firm_w(record.t_s),
                "surplus_w": _surplus_w(budget, record.t_s),
                "site_draw_w": budget.site_draw_w(record.draw_w),
                "curtailed_w": record.curtailed_w,
                "stale": record.stale,
                "battery": None if record.battery is None else asdict(record.battery),
                "battery_wh": _stored_wh(budget),
                **asdict(provenance),
            },
            "tick": {name: getattr(record, name) for name in _OF_TICK},
            "models": {name: _model(record, facts) for name, facts in models.items()},
            "plan": [_planned(replica) for replica in record.replicas],
            "shortages": [asdict(shortage) for shortage in record.shortages],
            "forecast": [
                {"in_s": at_s - record.t_s, "budget_w": watts}
                for at_s, watts in budget.forecast(record.t_s, FORECAST_S, FORECAST_STEP_S)
            ],
            "outlook": _outlook(budget, record.t_s, outlook_step_s),
            "batch": {key: asdict(pace) for key, pace in batch.items()},
            "grid": grid,
            "sources": [asdict(source) for source in budget.sources(record.t_s)],
        }
    )


def _surplus_w(budget: PowerBudget, now_s: float) -> float:
    """Return what supplies that are not bought leave for the GPUs, before any draw of them, W."""
    return budget.surplus(now_s, 1.0, 1.0)[0][1] if budget.has_surplus else 0.0


def _stored_wh(budget: PowerBudget) -> float | None:
    """Return the energy in the battery at the GPUs, Wh of run time; None without one."""
    view = budget.battery_view
    return None if view is None else view.stored_j() / JOULES_PER_WH


def _outlook(budget: PowerBudget, now_s: float, step_s: float | None) -> list[dict[str, float]]:
    """Return the surplus of the next steps, W at the GPUs, before any draw of them."""
    if step_s is None:
        return []
    ahead = budget.surplus(now_s, OUTLOOK_STEPS * step_s, step_s)
    most = 1.0 if budget.has_surplus else 0.0
    return [{"in_s": at_s - now_s, "surplus_w": most * watts} for at_s, watts in ahead]


def _model(record: TickRecord, facts: ModelFacts) -> dict[str, Any]:
    own = [replica for replica in record.replicas if replica.id in facts.replicas]
    others_w = sum(replica.draw_w for replica in record.replicas) - sum(r.draw_w for r in own)
    output_tps = sum(replica.output_tps for replica in own)
    most_tps = _most_tps(own, facts.frontier, record.budget_w - others_w)
    awake = sum(replica.state == "awake" for replica in own)
    starts = any(replica.state == "starting" for replica in own)
    return {
        "state": "awake" if awake else "starting" if starts else "asleep",
        "replicas": len(own),
        "output_tps": output_tps,
        "most_output_tps": most_tps,
        "headroom_tps": max(0.0, most_tps - output_tps),
        "draw_w": sum(replica.draw_w for replica in own),
        "full_tpot_s": _tpot_s(facts.frontier.full),
        "full_joules_per_token": facts.frontier.full.joules_per_token,
        "points": _points(own, facts.frontier),
    }


def _tpot_s(point: OperatingPoint) -> float:
    """Return the time per output token; where it was not measured, that of a full batch."""
    return point.tpot_s or point.batch_limit / point.output_tps


def _points(own: Sequence[ReplicaTick], frontier: Frontier) -> list[list[float]]:
    """Return operating points of all replicas that serve, or could: tokens per second, and W."""
    usable = sum(replica.state in _SERVES for replica in own)
    points = frontier.points if usable else ()
    last = len(points) - 1
    shown = (
        range(len(points))
        if last < MOST_POINTS
        else [round(n * last / (MOST_POINTS - 1)) for n in range(MOST_POINTS)]
    )
    return [[usable * points[n].output_tps, usable * points[n].draw_w] for n in shown]


def _most_tps(own: Sequence[ReplicaTick], frontier: Frontier, watts: float) -> float:
    """Return the most tokens per second of some replicas within `watts`, the SLO kept."""
    usable = sum(replica.state in _SERVES for replica in own)
    left_w = watts - usable * frontier.asleep_w
    each_w = frontier.floor.draw_w - frontier.asleep_w
    awake = usable if each_w <= 0 else min(usable, int(left_w // each_w)) if left_w > 0 else 0
    if awake <= 0:
        return 0.0
    mix = best_mix(frontier, awake, watts - (usable - awake) * frontier.asleep_w)
    return 0.0 if mix is None else sum([point.output_tps for point in mix])


def _planned(replica: ReplicaTick) -> dict[str, Any]:
    return {
        "replica": replica.id,
        "pool": replica.pool or None,
        "state": replica.state,
        "depth": replica.depth or None,
        "fault": replica.fault or None,
        "conditions": replica.conditions,
        "clock_mhz": replica.clock_mhz,
        "batch_limit": replica.batch_limit,
        "draw_w": replica.draw_w,
        "output_tps": replica.output_tps,
    }

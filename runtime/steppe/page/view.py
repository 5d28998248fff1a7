"""What the live page shows of a status: each number with its text, and the rows of its tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from steppe.control.shortage_forecast import WORDS
from steppe.page.amounts import NONE, joules, joules_per_token, number, share, span, watts
from steppe.page.history import Totals
from steppe.page.layout import BATCH, GRID, MODELS, REPLICAS, SHORTAGES, SITES, SOURCES
from steppe.page.site_rows import map_of, site_rows

Json = Mapping[str, Any]
Cell = str | Mapping[str, str]
"""The text of a cell; or its text with a state, which has a mark of its own."""
Rows = list[list[Cell]]


def figure(value: float | None, text: str, note: str = "") -> dict[str, Any]:
    """Return a figure: the number as it is in the record, its text, and a note on it."""
    return {"value": value, "text": text, "note": note}


def live_view(
    status: Json, totals: Totals, *, jobs: Json, sites: Json | None, now_s: float
) -> dict[str, Any]:
    """Return the view of a status.

    Args:
        status: What `/steppe/v1/status` answers.
        totals: Sums over what the gateway has seen of the run.
        jobs: Rows that are left of each batch job, by its key.
        sites: What the sites service shows; None in a run without one.
        now_s: The time, s since the Unix epoch.
    """
    power, plan = status.get("power", {}), status.get("plan", [])
    source = power.get("energy_source", "")
    return {
        "t_s": status.get("t_s"),
        "source": source,
        "boundary": power.get("boundary", ""),
        "state": _state(status),
        "summary": _summary(status),
        "power": {name: power.get(name) for name in ("supply_w", "budget_w", "draw_w")},
        "figures": {
            **_power_figures(power),
            **_knob_figures(plan),
            **_work_figures(status),
            **_run_figures(totals),
        },
        "tables": {
            SHORTAGES.key: _shortages(status.get("shortages", [])),
            MODELS.key: _models(status.get("models", {})),
            REPLICAS.key: _replicas(plan),
            SOURCES.key: _sources(status.get("sources", [])),
            BATCH.key: _batch(status.get("batch", {}), jobs),
            GRID.key: _grid(status.get("grid"), now_s),
            SITES.key: site_rows(sites, {**power, "pools": status.get("models", {})}),
        },
        "forecast": {
            name: [step[name] for step in status.get("forecast", [])]
            for name in ("in_s", "budget_w")
        },
        "map": map_of(sites),
    }


def _state(status: Json) -> Cell:
    controller = status.get("controller", {})
    age_s = controller.get("age_s")
    if age_s is None:
        return {"text": "starting", "state": "starting"}
    if controller.get("stale"):
        return {"text": f"the controller is silent for {span(age_s)}", "state": "bad"}
    if status.get("power", {}).get("stale"):
        return {"text": "a supply is stale: the fallback holds", "state": "warn"}
    return {"text": "follows the budget", "state": "good"}


def _summary(status: Json) -> str:
    """Return the state in one sentence, for a screen reader."""
    if "power" not in status:
        return "No tick yet."
    power, tick = status["power"], status.get("tick", {})
    short = status.get("shortages", [])
    ahead = f" {len(short)} shortages ahead." if short else ""
    drawn = f"Draw {watts(power['draw_w'])} of a budget of {watts(power['budget_w'])}"
    return f"{drawn}, {number(tick.get('output_tps'))} tokens per second.{ahead}"


def _power_figures(power: Json) -> dict[str, Any]:
    found = {
        name: figure(power.get(name), watts(power.get(name)))
        for name in ("supply_w", "draw_w", "headroom_w", "curtailed_w")
    }
    by = power.get("budget_source") or ""
    found["budget_w"] = figure(
        power.get("budget_w"), watts(power.get("budget_w")), f"set by {by}" if by else ""
    )
    if power.get("draw_w") is not None and power.get("budget_w"):
        part = share(power["draw_w"] / power["budget_w"])
        found["draw_w"]["note"] = f"{part} of the budget"
    battery = power.get("battery")
    if battery is not None:
        gives_w = battery["power_w"]
        way = "gives" if gives_w > 0 else "takes"
        note = f"{way} {watts(abs(gives_w))}" if gives_w else "rests"
        found["battery"] = figure(battery["share"], share(battery["share"]), note)
    return found


def _knob_figures(plan: Sequence[Json]) -> dict[str, Any]:
    awake = [replica for replica in plan if replica["state"] == "awake"]
    limits = [replica["batch_limit"] for replica in awake]
    clocks = [replica["clock_mhz"] for replica in awake]
    return {
        "awake": figure(len(awake), f"{len(awake)} of {len(plan)}" if plan else NONE),
        "batch_limit": figure(
            sum(limits), number(sum(limits)) if awake else NONE, _range(limits, "a replica")
        ),
        "clock_mhz": figure(
            sum(clocks) / len(clocks) if clocks else None,
            f"{number(sum(clocks) / len(clocks), 0)} MHz" if clocks else NONE,
            _range(clocks, "MHz") if len(set(clocks)) > 1 else "",
        ),
    }


def _range(values: Sequence[float], unit: str) -> str:
    if not values:
        return ""
    low, high = min(values), max(values)
    return f"{number(low)} {unit}" if low == high else f"{number(low)} to {number(high)} {unit}"


def _work_figures(status: Json) -> dict[str, Any]:
    tick = status.get("tick", {})
    energy_j, tokens = tick.get("energy_j"), tick.get("output_tokens")
    each_j = energy_j / tokens if tokens else None
    per_joule = f"{number(1 / each_j, 2)} tokens per joule" if each_j else ""
    return {
        "output_tps": figure(tick.get("output_tps"), number(tick.get("output_tps"))),
        "demand_tps": figure(
            tick.get("demand_tps"), number(tick.get("demand_tps")), "tokens per second"
        ),
        "joules_per_token": figure(each_j, joules_per_token(each_j), per_joule),
        "waiting": figure(tick.get("waiting"), number(tick.get("waiting"))),
        "running": figure(tick.get("running"), number(tick.get("running"))),
    }


def _run_figures(totals: Totals) -> dict[str, Any]:
    each_j, over_j = totals.joules_per_token, totals.over_budget_j
    return {
        "run_span": figure(totals.span_s, span(totals.span_s)),
        "run_energy": figure(totals.energy_j, joules(totals.energy_j)),
        "run_tokens": figure(totals.output_tokens, number(totals.output_tokens)),
        "run_joules_per_token": figure(each_j, joules_per_token(each_j)),
        "run_over_budget": figure(over_j, joules(over_j)),
    }


def _shortages(shortages: Iterable[Json]) -> Rows:
    return [
        [
            WORDS[each["of"]],
            watts(each["short_w"]),
            "now" if each["begins_in_s"] <= 0 else f"in {span(each['begins_in_s'])}",
            "not foreseen" if each["ends_in_s"] is None else f"in {span(each['ends_in_s'])}",
        ]
        for each in shortages
    ]


def _models(models: Mapping[str, Json]) -> Rows:
    return [
        [
            name,
            _mark(model.get("state", "")),
            number(model["awake"]),
            number(model.get("replicas")),
            number(model.get("output_tps")),
            number(model.get("headroom_tps")),
            watts(model.get("draw_w")),
            number(model["waiting"]),
            joules_per_token(model["joules_per_token"]),
        ]
        for name, model in models.items()
    ]


def _replicas(plan: Iterable[Json]) -> Rows:
    return [
        [
            replica["replica"],
            replica.get("pool") or NONE,
            _mark(replica["state"]),
            f"{number(replica['clock_mhz'])} MHz",
            number(replica["batch_limit"]),
            watts(replica["draw_w"]),
            number(replica["output_tps"]),
            ", ".join(_notes(replica)),
        ]
        for replica in plan
    ]


def _notes(replica: Json) -> list[str]:
    said = (replica.get("depth"), replica.get("fault"), *replica.get("conditions", ()))
    return [each for each in said if each]


def _sources(sources: Iterable[Json]) -> Rows:
    return [
        [
            each["name"],
            each["kind"],
            _mark(each["state"]),
            watts(each["watts"]) if each["watts"] is not None else each["reason"] or NONE,
            span(each["age_s"]),
        ]
        for each in sources
    ]


def _batch(paces: Mapping[str, Json], jobs: Json) -> Rows:
    return [
        [
            key,
            pace["reason"].replace("_", " "),
            number(jobs.get(key)),
            number(pace["tokens_per_s"]),
            span(pace["finish_in_s"]),
            share(pace["sure"]),
        ]
        for key, pace in paces.items()
    ]


def _grid(grid: Json | None, now_s: float) -> Rows:
    if grid is None:
        return []
    rows: Rows = [_event(each, now_s) for each in grid["events"]]
    if grid["limit"] is not None:
        rows.append(
            [grid["limit"], "limit, holds now", NONE, watts(grid["limit_w"]), NONE, NONE, ""]
        )
    rows += [
        [link, _mark("lost", "bad"), NONE, NONE, NONE, NONE, "the link is lost"]
        for link in grid["lost"]
    ]
    return rows


def _event(event: Json, now_s: float) -> list[Cell]:
    starts_s, ends_s = event["starts_s"] - now_s, event["ends_s"] - now_s
    when = f"in {span(starts_s)}" if starts_s > 0 else f"for {span(max(0.0, ends_s))} more"
    can = event["can_comply"]
    return [
        f"{event['link']}/{event['id']}",
        when if ends_s > 0 else "over",
        watts(event["baseline_w"]),
        watts(event["hold_w"] if event["target_w"] is None else event["target_w"]),
        watts(event["delivered_w"]),
        _mark("yes" if can else "no", "good" if can else "bad"),
        event["reason"],
    ]


_MARKS = {
    "awake": "good",
    "fresh": "good",
    "starting": "starting",
    "draining": "starting",
    "asleep": "rest",
    "gone": "bad",
    "quarantined": "bad",
    "stale": "warn",
    "missing": "bad",
}


def _mark(text: str, state: str = "") -> Cell:
    return {"text": text or NONE, "state": state or _MARKS.get(text, "rest")}


def tenant_rows(usage: Iterable[Json]) -> Rows:
    """Return the rows of tenants: their usage, summed over models and hours."""
    sums: dict[str, dict[str, float]] = {}
    names = ("requests", "completed", "prompt_tokens", "output_tokens", "energy_j")
    for row in usage:
        own = sums.setdefault(row["tenant"], dict.fromkeys(names, 0))
        for name in names:
            own[name] += row[name]
    return [_tenant(name, own) for name, own in sorted(sums.items())]


def _tenant(name: str, own: Mapping[str, float]) -> list[Cell]:
    tokens, energy_j = own["output_tokens"], own["energy_j"]
    counts = ("requests", "completed", "prompt_tokens", "output_tokens")
    each_j = energy_j / tokens if tokens else math.nan
    return [
        name,
        *(number(own[count]) for count in counts),
        joules(energy_j),
        joules_per_token(each_j),
    ]

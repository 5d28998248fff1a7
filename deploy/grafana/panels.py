"""Panels and dashboards of Grafana as plain dicts (Classic JSON, schema version 41)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

SCHEMA_VERSION = 41
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS = 24
EMULATED = 'steppe_energy_joules_total{source="emulated", instance=~"$instance"}'
"""Has a sample while energy is emulated."""
MARK = " (emulated)"
"""Ends the legend of a value that follows from emulated joules."""
BASE_UNITS = frozenset(
    {"watt", "joule", "hertz", "s", "bytes", "percentunit", "short", "reqps", "none"}
)
"""The units of the dashboards: base units; `short` is a plain number, also per second."""
_SOURCES = {
    "emulated": "orange",
    "estimated": "yellow",
    "integrated": "blue",
    "counter": "green",
}


@dataclass(frozen=True, slots=True)
class Target:
    """A query of a panel.

    Attributes:
        query: In PromQL.
        legend: Name of its series, with labels in double braces.
    """

    query: str
    legend: str


def site(metric: str, *matchers: str) -> str:
    """Return the selector of a metric at the site that is shown."""
    inside = ", ".join((*matchers, 'instance=~"$instance"'))
    return f"{metric}{{{inside}}}"


def rate(metric: str, *matchers: str) -> str:
    """Return the rate of a counter of the site, per second."""
    return f"rate({site(metric, *matchers)}[$__rate_interval])"


def rise(metric: str, *matchers: str) -> str:
    """Return by how much a counter of the site rose in the time that is shown."""
    return f"increase({site(metric, *matchers)}[$__range])"


def of_energy(query: str, legend: str) -> tuple[Target, Target]:
    """Return two queries for a value that follows from joules: measured, or marked as emulated."""
    return (
        Target(f"({query}) unless on () {EMULATED}", legend),
        Target(f"({query}) and on () {EMULATED}", f"{legend}{MARK}"),
    )


def lines(
    title: str, text: str, unit: str, *targets: Target, width: int = 12, stacked: bool = False
) -> Json:
    """Return a panel of lines over time."""
    custom: Json = {"lineWidth": 1, "fillOpacity": 10 if not stacked else 40, "showPoints": "never"}
    if stacked:
        custom["stacking"] = {"mode": "normal", "group": "A"}
    options = {
        "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return _panel(
        title,
        text,
        unit,
        targets,
        kind="timeseries",
        size=_size(width, 8),
        options=options,
        defaults={"custom": custom},
    )


def number(
    title: str,
    text: str,
    unit: str,
    *targets: Target,
    width: int = 4,
    bad_above: float | None = None,
    bad_below: float | None = None,
) -> Json:
    """Return a panel of one number for each series, red from `bad_above` on, or below another."""
    steps: list[Json] = [{"color": "green" if bad_below is None else "red", "value": None}]
    if bad_above is not None:
        steps.append({"color": "red", "value": bad_above})
    if bad_below is not None:
        steps.append({"color": "green", "value": bad_below})
    options = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "value" if bad_above is None and bad_below is None else "background",
        "textMode": "auto",
        "graphMode": "none",
    }
    panel = _panel(
        title,
        text,
        unit,
        targets,
        kind="stat",
        size=_size(width, 4),
        options=options,
        defaults={"thresholds": {"mode": "absolute", "steps": steps}},
    )
    _ask_once([each for each in panel["targets"] if "$__range" in each["expr"]])
    return panel


def bars(title: str, text: str, unit: str, *targets: Target, width: int = 12) -> Json:
    """Return a panel of one bar for each series: its value over the time that is shown."""
    options = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "orientation": "horizontal",
        "displayMode": "basic",
        "showUnfilled": True,
    }
    panel = _panel(
        title,
        text,
        unit,
        targets,
        kind="bargauge",
        size=_size(width, 8),
        options=options,
        defaults={"min": 0},
    )
    _ask_once(panel["targets"])
    return panel


def sources(width: int = 4) -> Json:
    """Return the panel that says where all joules are from."""
    query = f"count by (source) ({site('steppe_energy_joules_total')})"
    text = "counter, integrated and estimated are measured on GPUs; emulated is no measurement."
    panel = number("Energy is from", text, "none", Target(query, "{{source}}"), width=width)
    panel["options"] |= {"textMode": "name", "colorMode": "background"}
    panel["fieldConfig"]["overrides"] = [
        {
            "matcher": {"id": "byName", "options": source},
            "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": color}}],
        }
        for source, color in _SOURCES.items()
    ]
    return panel


def row(title: str) -> Json:
    """Return the head of a row of panels."""
    return {
        "type": "row",
        "title": title,
        "collapsed": False,
        "panels": [],
        "gridPos": _size(COLUMNS, 1),
    }


def dashboard(uid: str, title: str, text: str, panels: Iterable[Json]) -> Json:
    """Return a dashboard, with its panels placed from left to right.

    Args:
        uid: Its identifier, which stays the same for all releases.
        title: Its title.
        text: What it answers.
        panels: Its panels, in reading order.
    """
    return {
        "uid": uid,
        "title": title,
        "description": text,
        "tags": ["steppe"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": [_alerts()]},
        "links": [
            {
                "type": "dashboards",
                "title": "Steppe",
                "tags": ["steppe"],
                "asDropdown": True,
                "keepTime": True,
                "includeVars": True,
            }
        ],
        "templating": {"list": [_datasource(), _instance()]},
        "panels": _placed(panels),
    }


def _panel(
    title: str,
    text: str,
    unit: str,
    targets: Sequence[Target],
    *,
    kind: str,
    size: Json,
    options: Json,
    defaults: Json,
) -> Json:
    return {
        "type": kind,
        "title": title,
        "description": text,
        "gridPos": size,
        "datasource": DATASOURCE,
        "fieldConfig": {"defaults": {"unit": unit, **defaults}, "overrides": []},
        "options": options,
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": DATASOURCE,
                "expr": target.query,
                "legendFormat": target.legend,
                "editorMode": "code",
                "range": True,
            }
            for index, target in enumerate(targets)
        ],
    }


def _ask_once(targets: Iterable[Json]) -> None:
    """Ask at the end of the time shown only: each point of a line would be a whole such time."""
    for target in targets:
        target |= {"instant": True, "range": False}


def _size(width: int, height: int) -> Json:
    return {"x": 0, "y": 0, "w": width, "h": height}


def _placed(panels: Iterable[Json]) -> list[Json]:
    """Return the panels with identifiers and places, from left to right and line by line."""
    placed: list[Json] = []
    x = y = height = 0
    for index, panel in enumerate(panels, 1):
        size = panel["gridPos"]
        if x + size["w"] > COLUMNS:
            x, y, height = 0, y + height, 0
        placed.append({"id": index, **panel, "gridPos": {**size, "x": x, "y": y}})
        x, height = x + size["w"], max(height, size["h"])
    return placed


def _datasource() -> Json:
    return {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
    }


def _instance() -> Json:
    query = "label_values(steppe_power_budget_watts, instance)"
    return {
        "name": "instance",
        "label": "Site",
        "type": "query",
        "datasource": DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": "instance"},
        "refresh": 2,
        "sort": 1,
    }


def _alerts() -> Json:
    """Return the marks of alerts that fire, on all panels."""
    return {
        "name": "Alerts",
        "datasource": DATASOURCE,
        "enable": True,
        "iconColor": "red",
        "expr": 'ALERTS{alertname=~"Steppe.*", alertstate="firing"}',
        "titleFormat": "{{alertname}}",
    }

"""The timeline of a job: one line about each second, beside its store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import orjson

from steppe.errors import UsageError


@dataclass(frozen=True, slots=True)
class JobProgress:
    """What a job has done so far, over all its runners.

    Attributes:
        rows_done: Rows that have a result, failed ones included.
        rows_failed: Rows that ended in the error file.
        prompt_tokens: Prompt tokens of the rows done.
        cached_tokens: Those of them that a prefix cache held.
        output_tokens: Output tokens of the rows done.
        energy_j: Energy of the attempts that gave the results, J.
        wasted_j: Energy of the other attempts, J.
        outstanding: Rows that a gateway has now.
        allowed: Rows that it may have; None if no gateway said so.
        reason: Why so many, in the gateway's word; empty without an answer.
    """

    rows_done: int
    rows_failed: int
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    energy_j: float
    wasted_j: float
    outstanding: int = 0
    allowed: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TimelinePoint:
    """One line of a timeline.

    Attributes:
        at_epoch_s: When it was written, s since the Unix epoch.
        runner: The runner that wrote it.
        progress: What the job has done so far.
        supply_w: Power offered at the site, W; this and the watts below are None if the gateway
            did not say.
        firm_w: Bought power in it, W at the site.
        surplus_w: What the other supplies leave for the GPUs, before any draw of them, W.
        battery_w: Power that the battery gave at the site, W; negative while it charged.
        site_draw_w: Draw of the site, W.
        curtailed_w: Supply that was neither drawn nor stored nor kept in reserve, W at the site.
        budget_w: Power budget of the GPUs, W.
        draw_w: Draw of the GPUs, W.
        model_draw_w: Draw of the GPUs of the job's model, W.
        budget_source: What set the budget; `fallback` while a supply was stale.
        stale: Whether a supply was stale or missing.
        energy_source: The source of watts and joules; empty if unknown.
        boundary: What they enclose: `gpu`, `node` or `site`; empty if unknown.
        request_energy_j: Energy of the requests that the gateway has ended so far, J, by class.
    """

    at_epoch_s: float
    runner: str
    progress: JobProgress
    supply_w: float | None = None
    firm_w: float | None = None
    surplus_w: float | None = None
    battery_w: float | None = None
    site_draw_w: float | None = None
    curtailed_w: float | None = None
    budget_w: float | None = None
    draw_w: float | None = None
    model_draw_w: float | None = None
    budget_source: str = ""
    stale: bool = False
    energy_source: str = ""
    boundary: str = ""
    request_energy_j: Mapping[str, float] = field(default_factory=dict)


_OF_POWER = (
    "supply_w",
    "firm_w",
    "surplus_w",
    "site_draw_w",
    "curtailed_w",
    "budget_w",
    "draw_w",
    "budget_source",
    "stale",
    "energy_source",
    "boundary",
)
"""Fields that have the names that they have in the status."""
_PROGRESS = tuple(item.name for item in fields(JobProgress))
_OF_POINT = tuple(item.name for item in fields(TimelinePoint) if item.name != "progress")


def timeline_line(
    status: Mapping[str, Any] | None,
    model: str,
    progress: JobProgress,
    at_epoch_s: float,
    runner: str,
) -> bytes:
    """Return a line of the timeline, with its newline.

    Args:
        status: What `GET /steppe/v1/status` of the gateway returned; None if it did not.
        model: The model of the job, by the name that clients use.
        progress: What the job has done so far.
        at_epoch_s: Now, s since the Unix epoch.
        runner: The runner that writes it.
    """
    known = _of_status(status or {}, model)
    start = {"at_epoch_s": at_epoch_s, "runner": runner}
    return orjson.dumps({**start, **asdict(progress), **known}, option=orjson.OPT_APPEND_NEWLINE)


def _of_status(status: Mapping[str, Any], model: str) -> dict[str, Any]:
    power = status.get("power", {})
    battery = power.get("battery") or {}
    return {
        **{name: power[name] for name in _OF_POWER if name in power},
        "battery_w": battery.get("power_w"),
        "model_draw_w": status.get("models", {}).get(model, {}).get("draw_w"),
        "request_energy_j": status.get("request_energy_j", {}),
    }


def read_timeline(path: Path) -> list[TimelinePoint]:
    """Return the points of a timeline in the order of time; none if the file is missing.

    A torn line, as a killed runner leaves it, is left out.

    Raises:
        UsageError: The file cannot be read.
    """
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UsageError(f"asked for the timeline {path}, found {error.strerror}") from error
    points = [point for line in lines if (point := _point(line)) is not None]
    return sorted(points, key=lambda point: point.at_epoch_s)


def _point(line: bytes) -> TimelinePoint | None:
    try:
        values = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(values, dict):
        return None
    try:
        progress = JobProgress(**{name: values[name] for name in _PROGRESS if name in values})
        own = {name: values[name] for name in _OF_POINT if name in values}
        return TimelinePoint(progress=progress, **own)
    except TypeError:  # a line of another kind: a field without a default is missing
        return None

"""A report as one JSON document."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np

from steppe.batch.report.job_report import JobReport
from steppe.batch.report.power_series import PowerSeries
from steppe.batch.report.row_spans import Floats

_DECIMALS = 3


def shown(report: JobReport) -> dict[str, Any]:
    """Return a report as a JSON object; every block with joules has `energy_source`."""
    job, counts, sums = report.job, report.counts, report.sums
    return {
        "object": "steppe.batch.report",
        "job": {
            "id": job.id,
            "tenant": job.tenant,
            "model": job.model,
            "endpoint": job.endpoint,
            "state": str(job.state),
            "when": str(job.when),
            "input": job.input,
            "output": job.output,
            "error_output": job.error_output,
            "metadata": dict(job.metadata),
        },
        "rows": {
            "total": counts.total,
            "waiting": counts.waiting,
            "running": counts.running,
            "completed": counts.completed,
            "failed": counts.failed,
            "retried": sums.retried,
            "reasons": dict(report.top_reasons),
        },
        "tokens": {
            "prompt_tokens": sums.prompt_tokens,
            "cached_tokens": sums.cached_tokens,
            "output_tokens": sums.output_tokens,
        },
        "energy": _energy(report),
        "supply": _supply(report),
        "times": _times(report),
        "at_once": _at_once(report),
        "timeline": _timeline(report.series, sums.energy_source),
    }


def _energy(report: JobReport) -> dict[str, Any]:
    sums = report.sums
    return {
        "energy_source": sums.energy_source or None,
        "boundary": sums.boundary or None,
        "energy_j": sums.energy_j,
        "wasted_j": sums.wasted_j,
        "wasted_share": report.wasted_share,
        "metered_rows": sums.metered,
        "joules_per_row": report.joules_per_row,
        "output_tokens_per_joule": report.output_tokens_per_joule,
        "energy_per_output_token": _inverse(report.output_tokens_per_joule),
    }


def _supply(report: JobReport) -> dict[str, Any] | None:
    shares = report.shares
    if shares is None:
        return None
    return {
        "energy_source": report.sums.energy_source,
        "renewable_share": shares.renewable,
        "surplus_share": shares.surplus,
        "known_share": shares.known,
    }


def _times(report: JobReport) -> dict[str, Any]:
    times = report.times
    deadline_s = times.deadline_epoch_s
    return {
        "created_at": utc(times.created_epoch_s),
        "begun_at": None if times.begun_epoch_s is None else utc(times.begun_epoch_s),
        "ended_at": utc(times.ended_epoch_s) if report.job.state.ended else None,
        "deadline_at": None if deadline_s is None else utc(deadline_s),
        "lasted_s": times.lasted_s,
        "busy_s": times.busy_s,
        "waited_s": times.waited_s,
    }


def _at_once(report: JobReport) -> dict[str, Any] | None:
    would = report.at_once
    if would is None:
        return None
    return {
        "energy_source": report.sums.energy_source,
        "draw_w": would.draw_w,
        "runs_s": would.runs_s,
        "ends_at": utc(would.ends_epoch_s),
        "energy_j": would.energy_j,
        "surplus_share": would.surplus,
        "uncovered_j": would.uncovered_j,
        "known_share": would.known,
    }


def _timeline(series: PowerSeries, energy_source: str) -> dict[str, Any]:
    return {
        "energy_source": energy_source or None,
        "begins_at": utc(float(series.edges_s[0])),
        "step_s": series.step_s,
        "renewable_w": _numbers(series.renewable_w),
        "bought_w": _numbers(series.bought_w),
        "surplus_w": _numbers(series.surplus_w),
        "site_draw_w": _numbers(series.site_draw_w),
        "budget_w": _numbers(series.budget_w),
        "draw_w": _numbers(series.draw_w),
        "interactive_w": _numbers(series.interactive_w),
        "batch_w": _numbers(series.batch_w),
        "output_tps": _numbers(series.output_tps),
        "rows_done": [int(rows) for rows in series.rows_done],
    }


def _numbers(values: Floats) -> list[float | None]:
    """Return numbers for JSON, null where they are not known."""
    return [round(float(v), _DECIMALS) if np.isfinite(v) else None for v in values]


def _inverse(value: float | None) -> float | None:
    return None if value is None or value <= 0 else 1.0 / value


def utc(epoch_s: float) -> str:
    """Return a time, s since the Unix epoch, in ISO 8601 with seconds, UTC."""
    return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")

"""A dry run: what a job will take, by a sample of its rows at the gateway."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from rich.console import Console

from steppe.batch.job import JobState, When
from steppe.batch.local.folder import JobSpec, create_folder
from steppe.batch.local.local_run import LocalRun
from steppe.batch.local.sample import CONFIDENCE, Estimate, Interval, draw_sample, estimate
from steppe.batch.rows.read import open_rows
from steppe.batch.runner.progress import RunProgress
from steppe.batch.runner.settings import RunnerSettings
from steppe.errors import UsageError
from steppe.report.quantities import UNKNOWN, count, quantity, share, source_text, span
from steppe.run.batch import at_gateway


def estimate_at(spec: JobSpec, settings: RunnerSettings, size: int, seed: int = 0) -> Estimate:
    """Send a sample of the rows of an input to a gateway, and return what all will take.

    Nothing is left behind: the answers are thrown away.

    Args:
        spec: The job.
        settings: Where the rows go.
        size: Rows of the sample.
        seed: Seed of the choice.

    Raises:
        UsageError: The input has no rows, or no row of the sample was answered.
    """
    spec = at_gateway(spec, settings)
    sample = draw_sample(open_rows(spec.input, spec.options), size, seed)
    if not sample.rows:
        raise UsageError(f"{spec.input}: asked for rows, found none of {count(sample.bad)} lines")
    seen: list[RunProgress] = []
    with tempfile.TemporaryDirectory(prefix="steppe-batch-") as place:
        output = Path(place) / "out.jsonl"
        now = replace(spec, output=output, when=When.NOW, window_s=None)
        with create_folder(replace(now, errors=output.with_name("errors.jsonl"))) as folder:
            job, store = folder.job(), folder.store
            store.add_rows(job.id, [replace(r, number=n) for n, r in enumerate(sample.rows)])
            states = (JobState.VALIDATING,)
            store.change_state(job.id, JobState.IN_PROGRESS, time.time(), states)
            LocalRun(folder, settings, seen.append, writes=False).run()
            results = [stored.result for stored in store.results(job.id)]
    return estimate(sample, results, _gateway_tps(seen))


def _gateway_tps(seen: list[RunProgress]) -> float | None:
    return next((each.gateway_tps for each in reversed(seen) if each.gateway_tps), None)


def show_estimate(found: Estimate, console: Console) -> None:
    """Print an estimate for people."""
    bad = f", and {count(found.bad)} bad lines" if found.bad else ""
    duration, end_s = found.duration_s, time.time() + found.duration_s.value
    speed = "the gateway's speed" if found.is_gateway_speed else "the speed of the sample"
    ends = f"{_span(duration.low)} to {_span(duration.high)}"
    failed = f", and {found.failed} that failed" if found.failed else ""
    lines = {
        "rows": f"{count(found.rows)}{bad}",
        "prompt tokens": _tokens(found.prompt_tokens),
        "output tokens": _tokens(found.output_tokens),
        "energy": _energy(found),
        "time": f"{_span(duration.value)} ({ends}), at {speed}",
        "done": f"{datetime.fromtimestamp(end_s).astimezone():%Y-%m-%d %H:%M}, if it began now",
        "sample": f"{found.sampled} rows{failed}",
        "how sure": f"the truth is in {share(CONFIDENCE)} of such intervals, if rows are alike",
    }
    for name, text in lines.items():
        console.print(f"{name:14} {text}", soft_wrap=True, markup=False, highlight=False)


def _energy(found: Estimate) -> str:
    if found.energy_j is None:
        return UNKNOWN
    energy, source = found.energy_j, source_text(found.energy_source)
    ends = f"{quantity(energy.low, 'J')} to {quantity(energy.high, 'J')}"
    return f"{quantity(energy.value, 'J')} ({ends}), {source}"


def _tokens(interval: Interval) -> str:
    value, low, high = (
        quantity(each, "").rstrip() for each in (interval.value, interval.low, interval.high)
    )
    return f"{value} ({low} to {high})"


def _span(duration_s: float) -> str:
    return span(duration_s) if duration_s < float("inf") else UNKNOWN

"""A batch job with a fleet of its own: start it, run the job, stop it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from rich.console import Console

from steppe.batch.local.folder import JobFolder, JobSpec, create_folder, open_folder
from steppe.batch.local.local_run import LocalRun
from steppe.batch.runner.settings import RunnerSettings
from steppe.config import RunConfig
from steppe.errors import UsageError
from steppe.frontier.cache import frontier_cache
from steppe.run.batch import JobSummary, check_spec, summary_of
from steppe.run.batch_progress import batch_progress
from steppe.run.doctor.examine import refuse_unfit
from steppe.run.live import LiveRun, RunPlan
from steppe.run.running_fleet import running_fleet
from steppe.run.starting_frontier import explanation, starting_frontiers
from steppe.run.warnings import warn_on_stderr


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """The fleet of a job.

    Attributes:
        config: The fleet.
        record: New folder of its record; None for no record.
        any_gpu: Whether a frontier file of another GPU will do.
    """

    config: RunConfig
    record: Path | None = None
    any_gpu: bool = False

    def usual_model(self) -> str:
        """Return the model of rows that name none."""
        return next(iter(self.config.pools))


def run_with_fleet(
    spec: JobSpec, plan: FleetPlan, settings: RunnerSettings, console: Console
) -> JobSummary:
    """Start a fleet, run a new job on it, and stop it.

    Raises:
        UsageError: Configuration, machine, input or output are not fit.
        SteppeError: The fleet could not start or was lost, or the job cannot go on.
    """
    check_spec(spec)
    spec = spec.with_usual_model(plan.usual_model())
    _check_key(plan, settings)
    with create_folder(spec) as folder:
        return _run(folder, plan, settings, console)


def resume_with_fleet(
    path: Path, plan: FleetPlan, settings: RunnerSettings, console: Console
) -> JobSummary:
    """Start a fleet, go on with the job of a folder, and stop it."""
    _check_key(plan, settings)
    with open_folder(path) as folder:
        if folder.job().state.ended:
            return summary_of(folder)
        return _run(folder, plan, settings, console)


def _check_key(plan: FleetPlan, settings: RunnerSettings) -> None:
    if not plan.config.serves_without_keys and not settings.headers:
        raise UsageError("the configuration has keys: asked for --key-file with one, found none")


def _run(
    folder: JobFolder, plan: FleetPlan, settings: RunnerSettings, console: Console
) -> JobSummary:
    config = plan.config
    refuse = partial(refuse_unfit, serves=True, any_gpu=plan.any_gpu)
    with running_fleet(config, console, plan.record, refuse) as driver:
        starts = starting_frontiers(
            driver.actors, config, frontier_cache(), warn_on_stderr, any_gpu=plan.any_gpu
        )
        quiet = Console(quiet=True, force_terminal=False)
        fleet = LiveRun(driver, RunPlan(config, plan.record, None), quiet)
        console.print(f"running on {driver.url}; {explanation(starts)}", soft_wrap=True)
        with batch_progress(console) as show:
            at_fleet = replace(settings, url=driver.url, timeline=folder.timeline)
            run, threads = LocalRun(folder, at_fleet, show), ThreadPoolExecutor(1, "batch-job")
            job = threads.submit(run.run)
            try:
                fleet.follow(starts, job.done)
            finally:
                run.stop()
                threads.shutdown()
        fleet.close()
    if fleet.lost is not None:
        raise fleet.lost
    job.result()
    return summary_of(folder)

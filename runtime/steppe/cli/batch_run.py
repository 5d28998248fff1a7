"""`steppe batch run|resume`: run the rows of a file, on a fleet of its own or at a gateway."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson
from rich.console import Console

from steppe.batch.job import JobState, When
from steppe.batch.local.folder import JobSpec, errors_of
from steppe.batch.runner.settings import RunnerSettings
from steppe.cli.batch_options import (
    DurationText,
    gateway_options,
    row_options,
    rows_of,
)
from steppe.config import load_config
from steppe.errors import UsageError
from steppe.options import GivenPath, json_option
from steppe.report.quantities import count, quantity, source_text
from steppe.run.batch import JobSummary, begin_again, read_key, resume_at, run_at

if TYPE_CHECKING:
    from steppe.run.batch_fleet import FleetPlan

_COUNT = click.IntRange(min=1)


def _run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that `run` and `resume` share."""
    options = (
        click.option(
            "--config", type=GivenPath(path_type=Path), help="Start this fleet, run, and stop it."
        ),
        gateway_options,
        click.option(
            "--record", type=GivenPath(path_type=Path), help="Folder for the fleet's record."
        ),
        click.option(
            "--outstanding",
            type=_COUNT,
            default=128,
            show_default=True,
            help="Rows sent at once to a gateway that does not say how many it takes.",
        ),
        click.option(
            "--attempts",
            type=_COUNT,
            default=4,
            show_default=True,
            help="Attempts of a row that fails replicas; then it is an error.",
        ),
        json_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command(
    "run", epilog="Example: steppe batch run in.jsonl -o out.jsonl --config configs/demo.yaml"
)
@click.argument("input_", metavar="IN", type=GivenPath(path_type=Path))
@click.option(
    "-o",
    "--output",
    required=True,
    type=GivenPath(path_type=Path),
    help="New file for the answers; .gz and .zst are compressed.",
)
@click.option(
    "--errors", type=GivenPath(path_type=Path), help="New file for rows without an answer."
)
@_run_options
@row_options
@click.option("--in-order", is_flag=True, help="Write answers in the order of the input.")
@click.option(
    "--when",
    type=click.Choice([str(when) for when in When]),
    default=str(When.DEADLINE),
    show_default=True,
    help="Run now; in surplus but done by the deadline; or in surplus only.",
)
@click.option(
    "--deadline", type=DurationText(), help="Time until the job should be done, such as 24h."
)
@click.option("--dry-run", is_flag=True, help="Run a sample only, and say what all will take.")
@click.option("--sample", type=_COUNT, default=32, show_default=True, help="Rows of a dry run.")
def run_command(input_: Path, output: Path, **values: Any) -> None:
    """Run the rows of IN: JSON lines, CSV, Parquet, or a folder of Hugging Face `datasets`.

    Lines may be OpenAI batch lines, or have a prompt or messages. A row that fails is in the error
    file with its reason, and the others go on. The exit code is 0 if every row has an answer or an
    error, and 1 if the job was interrupted and can be resumed.
    """
    spec = JobSpec(
        input=input_,
        output=output,
        errors=values["errors"] or errors_of(output),
        options=rows_of(values),
        in_order=values["in_order"],
        when=When(values["when"]),
        window_s=values["deadline"],
    )
    console, settings = Console(stderr=values["as_json"]), _settings(values)
    if values["dry_run"]:
        _dry_run(spec, settings, values, console)
    elif values["url"] is not None:
        _show(run_at(spec, settings, console), values, console)
    else:
        from steppe.run.batch_fleet import run_with_fleet

        _show(run_with_fleet(spec, _fleet(values), settings, console), values, console)


@click.command(
    "resume", epilog="Example: steppe batch resume out.jsonl.job --config configs/demo.yaml"
)
@click.argument("folder", type=GivenPath(path_type=Path))
@_run_options
@click.option(
    "--changed",
    is_flag=True,
    help="The input has changed: keep answers of rows that are the same, run the others.",
)
def resume_command(folder: Path, **values: Any) -> None:
    """Go on with the job in FOLDER, such as out.jsonl.job: rows that have an answer keep it."""
    console, settings = Console(stderr=values["as_json"]), _settings(values)
    if values["changed"]:
        begin_again(folder)
    if values["url"] is not None:
        _show(resume_at(folder, settings, console), values, console)
    else:
        from steppe.run.batch_fleet import resume_with_fleet

        _show(resume_with_fleet(folder, _fleet(values), settings, console), values, console)


def _settings(values: dict[str, Any]) -> RunnerSettings:
    if (values["url"] is None) == (values["config"] is None):
        raise UsageError("asked for one of --config and --url, found both or none")
    return RunnerSettings(
        values["url"] or "",
        read_key(values["key_file"]),
        most_outstanding=values["outstanding"],
        most_attempts=values["attempts"],
    )


def _fleet(values: dict[str, Any]) -> FleetPlan:
    from steppe.run.batch_fleet import FleetPlan

    return FleetPlan(load_config(values["config"]), values["record"])


def _dry_run(
    spec: JobSpec, settings: RunnerSettings, values: dict[str, Any], console: Console
) -> None:
    from steppe.run.batch_estimate import estimate_at, show_estimate

    if values["url"] is None:
        raise UsageError("--dry-run: asked for --url with a gateway that runs, found --config")
    found = estimate_at(spec, settings, values["sample"])
    if values["as_json"]:
        click.echo(orjson.dumps(found.shown(), option=orjson.OPT_INDENT_2))
    else:
        show_estimate(found, console)


def _show(summary: JobSummary, values: dict[str, Any], console: Console) -> None:
    """Print how a run ended, and exit with 1 if rows are left."""
    if values["as_json"]:
        click.echo(orjson.dumps(summary.shown(), option=orjson.OPT_INDENT_2))
    else:
        console.print(end_line(summary), soft_wrap=True, markup=False, highlight=False)
    if summary.job.state is not JobState.COMPLETED:
        sys.exit(1)


def end_line(summary: JobSummary) -> str:
    """Return how a run ended, in one line."""
    counts, totals, job = summary.counts, summary.totals, summary.job
    energy_j = totals.energy_j + totals.wasted_j
    wasted = f", {quantity(totals.wasted_j, 'J')} of it wasted" if totals.wasted_j else ""
    source = f", {source_text(summary.energy_source)}" if summary.energy_source else ""
    joules = f"{quantity(energy_j or None, 'J')}{wasted}{source}"
    took = f"{count(totals.output_tokens)} tokens, {joules}"
    if not job.state.ended:
        left = f"{count(counts.total - counts.finished)} of {count(counts.total)} rows left"
        return f"stopped, {left}; `steppe batch resume {summary.folder}` goes on"
    failed = ""
    if counts.failed:
        failed = f", {count(counts.failed)} errors in {job.error_output}"
    return f"{job.state}: {count(counts.completed)} rows in {job.output}{failed}; {took}"

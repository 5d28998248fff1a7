"""`steppe batch submit|status|cancel|report`: jobs in a folder, or at a gateway's Batch API."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console

from steppe.batch.api_client import ApiClient
from steppe.batch.local.folder import errors_of
from steppe.cli.batch_options import (
    ParameterText,
    gateway_options,
    row_options,
    rows_of,
)
from steppe.errors import UsageError
from steppe.options import GivenPath, GivenText, json_option
from steppe.report.quantities import UNKNOWN, count, quantity, source_text, span
from steppe.run.batch import JobSummary, cancel, read_key, status
from steppe.run.batch_remote import fetch, submit


@click.command("submit", epilog="Example: steppe batch submit in.jsonl --url http://127.0.0.1:8000")
@click.argument("input_", metavar="IN", type=GivenPath(path_type=Path))
@gateway_options
@row_options
@click.option(
    "--window", type=GivenText(), default="24h", show_default=True, help="Completion window."
)
@click.option(
    "--metadata",
    type=ParameterText(),
    multiple=True,
    help="A pair NAME=TEXT of your own; may be repeated.",
)
@json_option
def submit_command(
    input_: Path, url: str | None, key_file: Path | None, as_json: bool, **values: Any
) -> None:
    """Send the rows of IN to the Batch API of a gateway, and print the id of the batch."""
    pairs = {name: str(value) for name, value in values["metadata"]}
    batch = submit(_client(url, key_file), input_, rows_of(values), values["window"], pairs)
    click.echo(orjson.dumps(batch, option=orjson.OPT_INDENT_2) if as_json else batch["id"])


@click.command("status", epilog="Example: steppe batch status out.jsonl.job")
@click.argument("job", type=GivenText())
@gateway_options
@click.option(
    "-o",
    "--output",
    type=GivenPath(path_type=Path),
    help="With --url: write the answers of a batch that has ended to this new file.",
)
@json_option
def status_command(
    job: str, url: str | None, key_file: Path | None, output: Path | None, as_json: bool
) -> None:
    """Show how far JOB is: the folder of a job, or with --url the id of a batch."""
    if url is None:
        if output is not None:
            raise UsageError("--output: asked for --url with a gateway, found none")
        _show(status(Path(job)), as_json)
        return
    client = _client(url, key_file)
    batch = client.batch(job)
    if output is not None:
        for path in fetch(client, batch, output, errors_of(output)):
            click.echo(f"wrote {path}", err=True)
    _show_batch(batch, as_json)


@click.command("cancel", epilog="Example: steppe batch cancel out.jsonl.job")
@click.argument("job", type=GivenText())
@gateway_options
@json_option
def cancel_command(job: str, url: str | None, key_file: Path | None, as_json: bool) -> None:
    """End JOB: the folder of a job, or with --url the id of a batch; answers so far stay."""
    if url is None:
        _show(cancel(Path(job)), as_json)
    else:
        _show_batch(_client(url, key_file).cancel(job), as_json)


@click.command("report", epilog="Example: steppe batch report out.jsonl.job -o report.html")
@click.argument("job", type=GivenText())
@gateway_options
@click.option(
    "-o",
    "--output",
    type=GivenPath(path_type=Path),
    help="File of the page; the JSON is beside it. In the folder of the job by default.",
)
@json_option
def report_command(
    job: str, url: str | None, key_file: Path | None, output: Path | None, as_json: bool
) -> None:
    """Write what JOB took: tokens, joules, hours, the supply and the draw beside it."""
    if url is not None:
        click.echo(orjson.dumps(_client(url, key_file).report(job), option=orjson.OPT_INDENT_2))
        return
    from steppe.run.batch_report import write_job_report

    document, path = write_job_report(Path(job), output)
    if as_json:
        click.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    else:
        click.echo(f"wrote {path}")


def _client(url: str | None, key_file: Path | None) -> ApiClient:
    if url is None:
        raise UsageError("asked for --url with a gateway, found none")
    return ApiClient(url, read_key(key_file))


def _show(summary: JobSummary, as_json: bool) -> None:
    if as_json:
        click.echo(orjson.dumps(summary.shown(), option=orjson.OPT_INDENT_2))
        return
    counts, totals, job = summary.counts, summary.totals, summary.job
    energy_j = totals.energy_j + totals.wasted_j
    running = "running now" if summary.is_running else "not running now"
    lines = {
        "job": f"{job.id}, {job.state}, {running}",
        "rows": f"{count(counts.finished)} of {count(counts.total)} done, {counts.failed} errors",
        "tokens": f"{count(totals.prompt_tokens)} prompt, {count(totals.output_tokens)} output",
        "energy": f"{quantity(energy_j or None, 'J')}, {quantity(totals.wasted_j, 'J')} wasted"
        + (f", {source_text(summary.energy_source)}" if summary.energy_source else ""),
        "tokens/J": UNKNOWN
        if summary.tokens_per_joule is None
        else f"{summary.tokens_per_joule:.3g}",
        "output": job.output,
        "errors": job.error_output,
    }
    if job.deadline_epoch_s is not None and not job.state.ended:
        lines["deadline"] = f"in {span(max(0.0, job.deadline_epoch_s - time.time()))}"
    _print(lines)


def _show_batch(batch: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(orjson.dumps(batch, option=orjson.OPT_INDENT_2))
        return
    rows = batch.get("request_counts") or {}
    done = (rows.get("completed") or 0) + (rows.get("failed") or 0)
    _print(
        {
            "batch": f"{batch['id']}, {batch['status']}",
            "rows": f"{done} of {rows.get('total')} done, {rows.get('failed')} errors",
            "output": batch.get("output_file_id") or UNKNOWN,
            "errors": batch.get("error_file_id") or UNKNOWN,
        }
    )


def _print(lines: dict[str, str]) -> None:
    console = Console()
    for name, text in lines.items():
        console.print(f"{name:9} {text}", soft_wrap=True, markup=False, highlight=False)

"""`steppe grid events|report|audit`: what the events of a site have changed."""

from __future__ import annotations

import json
import webbrowser
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from steppe.batch.api_client import ApiClient
from steppe.errors import SteppeError, UsageError
from steppe.grid.reports.checking import CheckedEvent
from steppe.grid.reports.shown import shown_record
from steppe.grid.verify.report import EventReport
from steppe.options import GivenPath, GivenText, json_option
from steppe.run.batch import read_key
from steppe.run.grid_events import check_events, events_of, find_event

REPORTS = "/steppe/v1/grid/reports"
WIDTH = 110
"""Columns of text where no terminal says its width."""
run_argument = click.argument("run", type=GivenPath(path_type=Path))


@click.command("events", epilog="Example: steppe grid events runs/one")
@click.argument("run", metavar="RUN|URL", type=GivenText())
@click.option("--key-file", type=GivenPath(path_type=Path), help="With a URL: file with a key.")
@json_option
def events_command(run: str, *, key_file: Path | None, as_json: bool) -> None:
    """List the events of a run: of its record, of a folder of the grid, or at the URL of a gateway.

    A report is due when the time in which a rebound is looked for is over.
    """
    found = _events(run, key_file)
    if as_json:
        click.echo(json.dumps({"object": "list", "data": found}))
        return
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("start (UTC)", "event", "link", "programme", "state", "energy", "note"):
        table.add_column(name, overflow="fold")
    for each in found:
        note = each["note"] or each["verdict"] or _due(each)
        cells = (_time(each["starts"]), each["id"], each["link"], each["program"], each["state"])
        table.add_row(*cells, each["energy_source"], note)
    _console().print(table if found else "no events")


@click.command("report", epilog="Example: steppe grid report runs/one e1 --open")
@run_argument
@click.argument("event", type=GivenText())
@click.option("--open", "is_open", is_flag=True, help="Open the page in a browser.")
@json_option
def report_command(run: Path, event: str, *, is_open: bool, as_json: bool) -> None:
    """Show what EVENT of RUN has changed: its id, LINK/ID, or the name of its folder.

    It is read from the folder; no service has to run. Of several with one id, the newest is shown.
    """
    folder, record = find_event(run, event)
    report = folder.report()
    if report is None:
        why = record.note or f"its report is due at {_time(record.due_s or 0)} UTC"
        raise UsageError(f"{run}: asked for the report of event {event[:60]}, found none: {why}")
    if as_json:
        click.echo(report.entry.decode())
    else:
        for line in _lines(report):
            click.echo(line)
        click.echo(f"page: {folder.page}")
    if is_open and not webbrowser.open(folder.page.resolve().as_uri()):
        raise SteppeError(f"{folder.page}: asked to open it, found no browser")


@click.command("audit", epilog="Example: steppe grid audit runs/one")
@run_argument
@json_option
def audit_command(run: Path, *, as_json: bool) -> None:
    """Make each report of RUN again from its rows and kept inputs, and compare.

    Baseline, placebo days, delivery, promise, settlement, rebound and page have to be the same, and
    the log of the ledger has to have its entry. Exit code 1: something does not hold.
    """
    checked = check_events(run)
    if as_json:
        click.echo(json.dumps({"object": "list", "data": [_checked(each) for each in checked]}))
    else:
        for each in checked:
            click.echo(_line(each))
    faults = [f"{each.folder.name}: {fault}" for each in checked for fault in each.faults]
    if faults:
        count = len(faults)
        error = SteppeError(
            f"{run}: {count} {'thing does' if count == 1 else 'things do'} not hold"
        )
        for fault in faults:
            error.add_note(fault)
        raise error
    if not as_json:
        click.echo("All of it holds.")


def _events(run: str, key_file: Path | None) -> list[dict[str, Any]]:
    if "://" in run:
        found: list[dict[str, Any]] = ApiClient(run, read_key(key_file)).ask("GET", REPORTS)["data"]
        return found
    records = events_of(Path(run))
    return [shown_record(folder.name, record) for folder, record in reversed(records)]


def _lines(report: EventReport) -> list[str]:
    asked, sums, made = report.asked, report.sums, report.baseline
    source = report.energy_source
    ratio = "nothing was promised" if sums.ratio_ppm is None else f"{_percent(sums.ratio_ppm)}"
    lines = [
        f"{asked.source}/{asked.id} ({asked.program}, {asked.kind}) at {asked.site}, "
        f"{_time(report.times.start_s)} to {_time(report.times.end_s)} UTC",
        f"delivered {sums.delivered_j:,} J of {sums.committed_j:,} J promised: {ratio} ({source})",
        f"baseline {made.name}, {_error(report)}",
        f"rebound {_percent(report.rebound.peak_ppm)} at most, "
        f"{report.rebound.snapback_j:,} J above the baseline ({source})",
    ]
    if made.in_place_of:
        lines.append(f"in place of {made.in_place_of}")
    if sums.unmetered:
        lines.append(f"{sums.unmetered} intervals without a reading delivered nothing")
    if (settled := report.settlement) is not None:
        net = f"{settled.net_nano / 1e9:,.9f}".rstrip("0").rstrip(".")
        lines.append(f"net {net} {settled.currency}")
    if report.computed_s is not None:
        lines.append(f"{report.computed_s:,} s of it computed, not read at the meter of the site")
        if report.baseline_computed_s:
            lines.append(f"of the inputs of its baseline {report.baseline_computed_s:,} s computed")
    if report.beside:
        lines.append(f"at the same time: {', '.join(report.beside)}")
    return lines


def _error(report: EventReport) -> str:
    if report.error is None:
        return "its error on days without an event is not known"
    bias = f"bias {_percent(report.error.bias_ppm)}, CVRMSE {_percent(report.error.cvrmse_ppm)}"
    return f"{bias} on {report.error.days} placebo days"


def _line(checked: CheckedEvent) -> str:
    faults = len(checked.faults)
    state = f"{faults} do not hold" if faults else "holds" if checked.report else "no report"
    note = f" ({checked.note})" if checked.note else ""
    return f"{checked.folder.name}: {state}{note}"


def _checked(checked: CheckedEvent) -> dict[str, Any]:
    return {
        "name": checked.folder.name,
        "has_report": checked.report is not None,
        "energy_source": "" if checked.report is None else checked.report.energy_source,
        "faults": list(checked.faults),
        "note": checked.note,
    }


def _due(event: dict[str, Any]) -> str:
    is_waiting = event["state"] == "waits" and event["due"] is not None
    return f"report due {_time(event['due'])}" if is_waiting else ""


def _time(time_s: float) -> str:
    return f"{datetime.fromtimestamp(time_s, UTC):%Y-%m-%d %H:%M:%S}"


def _percent(ppm: int) -> str:
    return f"{ppm / 10_000:.1f} %"


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH)

"""`steppe sites settle`: whether the ledgers of several sites say the same of each other."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import orjson

from steppe.batch.api_client import ApiClient
from steppe.errors import SteppeError, UsageError
from steppe.ledger.statements.amounts import MICRO_DIGITS, grouped_text
from steppe.options import GivenPath, GivenText, json_option
from steppe.run.batch import read_key
from steppe.run.ledger import AuditProgress
from steppe.run.sites_settle import SitesComparison, compare_sites
from steppe.sites.settlement.pairs import PairSums
from steppe.sites.settlement.shown import PATH, ShownSettlement, read_shown

_HEADS = ("pair", "periods", "receipts", "tokens", "energy, J", "owed, J", "open", "agrees")


@click.command(
    "settle", epilog="Example: steppe sites settle runs/hohhot runs/guizhou runs/shanghai"
)
@click.argument("folders", type=GivenPath(path_type=Path), nargs=-1, metavar="FOLDER...")
@click.option("--url", type=GivenText(), help="Ask the gateway of a run that goes on instead.")
@click.option(
    "--key-file", type=GivenPath(path_type=Path), help="File with the key for the gateway."
)
@json_option
def settle_command(
    folders: tuple[Path, ...], *, url: str | None, key_file: Path | None, as_json: bool
) -> None:
    """Check the ledgers of several sites, and that each two say the same of what went between them.

    Each FOLDER is the record of a site, or the folder of its ledger. Every entry of the logs and
    every book is checked first. Exit code 1: something does not hold, or two sites do not agree to
    the microjoule; there is a line for each.
    """
    if (url is None) == (not folders):
        found = "neither" if url is None else "both"
        raise UsageError(f"asked for the folders of sites or for --url, found {found}")
    if url is not None:
        _show_live(url, key_file, as_json=as_json)
        return
    progress = AuditProgress(lambda line: click.echo(line, err=True), time.monotonic)
    compared = compare_sites(folders, progress)
    if as_json:
        click.echo(json.dumps(_document(compared)))
    else:
        for line in (*_table(compared.pairs), *_owed(compared.pairs), *compared.notes):
            click.echo(line)
    if compared.faults:
        error = SteppeError(f"the sites do not agree: {len(compared.faults)} lines")
        for fault in compared.faults:
            error.add_note(fault)
        raise error
    if not as_json:
        click.echo("All of it agrees.")


def _table(pairs: tuple[PairSums, ...]) -> Iterator[str]:
    rows = [_HEADS, *(_row(pair) for pair in pairs)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADS))]
    for row in rows:
        first, *rest = row
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        yield "  ".join(cells)


def _row(pair: PairSums) -> tuple[str, ...]:
    return (
        f"{pair.home} -> {pair.target}",
        f"{pair.periods:,}",
        f"{pair.receipts:,}",
        f"{pair.output_tokens:,}",
        grouped_text(pair.energy_uj, MICRO_DIGITS),
        grouped_text(pair.owed_uj, MICRO_DIGITS),
        f"{pair.open_receipts:,}",
        "no" if pair.faults else "yes",
    )


def _owed(pairs: tuple[PairSums, ...]) -> Iterator[str]:
    """Yield what each site owes, as all targets say and as it says itself; and what was noted."""
    for home in sorted({pair.home for pair in pairs}):
        own = [pair for pair in pairs if pair.home == home]
        claimed = grouped_text(sum(pair.owed_uj for pair in own), MICRO_DIGITS)
        owed = grouped_text(sum(pair.home_owed_uj for pair in own), MICRO_DIGITS)
        yield f"{home} owes {owed} J by its own ledger, {claimed} J by those of its targets"
    for pair in pairs:
        if pair.mismatches:
            kinds = ", ".join(f"{count} {what}" for what, count in sorted(pair.mismatches.items()))
            yield f"{pair.home} -> {pair.target}: noted {kinds}"


def _document(compared: SitesComparison) -> dict[str, Any]:
    pairs = [
        {**asdict(pair), "mismatches": dict(pair.mismatches), "agrees": not pair.faults}
        for pair in compared.pairs
    ]
    energy = [{"site": one.site, "meter_uj": one.meter_uj} for one in compared.energy]
    faults, notes = list(compared.faults), list(compared.notes)
    return {"pairs": pairs, "energy": energy, "faults": faults, "notes": notes}


def _show_live(url: str, key_file: Path | None, *, as_json: bool) -> None:
    answer = ApiClient(url, read_key(key_file)).ask("GET", PATH)
    if as_json:
        click.echo(json.dumps(answer))
        return
    found, problems = read_shown(orjson.dumps(answer))
    for one in found:
        click.echo(_line(one))
        for each in one.mismatches:
            click.echo(f"  {each.what}: request {each.request}: {each.text}")
    for site, problem in sorted(problems.items()):
        click.echo(f"{site}: settlements wait: {problem}")
    if not found:
        click.echo("nothing was settled yet")


def _line(one: ShownSettlement) -> str:
    end = datetime.fromtimestamp(one.end_s, UTC).strftime("%Y-%m-%d %H:%M:%S")
    owed = grouped_text(one.owed_uj, MICRO_DIGITS)
    said = "agrees" if one.agrees else f"{grouped_text(one.claimed_uj, MICRO_DIGITS)} J claimed"
    logged = "" if one.is_logged else ", not in the ledger yet"
    what = f"{one.receipts:,} receipts, {owed} J owed, {said}{logged}"
    return f"{end} {one.home} -> {one.target}: {what}"

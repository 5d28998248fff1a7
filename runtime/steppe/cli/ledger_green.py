"""`steppe ledger certificates|score`: certificates of green energy, and how green a site was."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from steppe.cli.ledger_options import store_option
from steppe.errors import UsageError
from steppe.ledger.green.certificates import GreenError
from steppe.ledger.green.score import Score
from steppe.ledger.statements.amounts import decimal_text
from steppe.ledger.statements.month import Month, hour_text
from steppe.ledger.store.certificates import Holding
from steppe.options import GivenPath, GivenText, json_option
from steppe.run.ledger_folder import ledger_folder
from steppe.run.ledger_green import (
    ALL_HOURS,
    cancel_certificates,
    import_certificates,
    list_certificates,
    match_closed_hours,
    scores_of,
)

_Command = TypeVar("_Command", bound=Callable[..., Any])
_FOLDER = click.argument("folder", type=GivenPath(path_type=Path))
_PERCENT_DIGITS = 4
"""A score is in 10^-6; so much of that are decimals of a percentage."""


def _month_option(command: _Command) -> _Command:
    """Add the option of a month; all hours without it."""
    return click.option(
        "--month", type=GivenText(), help="Only the hours of a month (UTC), such as 2026-11."
    )(command)


@click.group(
    "certificates", epilog="Example: steppe ledger certificates import runs/one bought.csv"
)
def certificates_group() -> None:
    """Certificates of green energy: take in, list, match to closed hours, cancel.

    FOLDER is a record, or the folder of its ledger. A run may go on meanwhile.
    """


@certificates_group.command(
    "import", epilog="Example: steppe ledger certificates import runs/one bought.csv"
)
@_FOLDER
@click.argument("file", type=GivenPath(path_type=Path))
@store_option
@json_option
def import_command(folder: Path, file: Path, *, store: str | None, as_json: bool) -> None:
    """Take the certificates of a registry's FILE in; the whole file is checked first.

    A table (CSV), a JSON list, or a JSON object a line: id, form (granular or gec), owner,
    producer, zone, source, wh, from, to. The same one again changes nothing.
    """
    with ledger_folder(folder, store=store).opened() as books:
        found = import_certificates(books, file)
    if as_json:
        click.echo(json.dumps({"new": found.new, "known": found.known}))
        return
    click.echo(f"{found.new} new certificates, {found.known} that were there already")


@certificates_group.command("list", epilog="Example: steppe ledger certificates list runs/one")
@_FOLDER
@_month_option
@store_option
@json_option
def list_command(folder: Path, *, month: str | None, store: str | None, as_json: bool) -> None:
    """Print who has what of each certificate: free, and matched but not cancelled."""
    with ledger_folder(folder, store=store).opened() as books:
        found = list_certificates(books, _hours(month))
    if as_json:
        click.echo(json.dumps([_row(one) for one in found]))
        return
    for one in found:
        known = one.certificate
        hours = f"{hour_text(known.from_hour)} to {hour_text(known.to_hour)}"
        amounts = f"{one.free_wh:,} Wh free, {one.matched_wh:,} Wh matched of {known.wh:,} Wh"
        click.echo(f"{known.id}  {known.form} {known.source}  {hours}  {one.owner}: {amounts}")
    click.echo(f"{len(found)} holdings of certificates")


@certificates_group.command(
    "match", epilog="Example: steppe ledger certificates match runs/one --month 2026-11"
)
@_FOLDER
@_month_option
@store_option
@json_option
def match_command(folder: Path, *, month: str | None, store: str | None, as_json: bool) -> None:
    """Match certificates to hours that closed before these were there, such as GECs of a month."""
    with ledger_folder(folder, store=store).opened() as books:
        made = match_closed_hours(books, _hours(month))
    green_wh, gec_wh = sum(one.green_wh for one in made), sum(one.gec_wh for one in made)
    if as_json:
        click.echo(json.dumps({"matches": len(made), "green_wh": green_wh, "gec_wh": gec_wh}))
        return
    click.echo(f"{len(made)} hours: {green_wh:,} Wh more by the hour, {gec_wh:,} Wh of GECs")


@certificates_group.command(
    "cancel", epilog="Example: steppe ledger certificates cancel runs/one --owner steppe"
)
@_FOLDER
@click.argument("ids", metavar="[CERTIFICATE]...", type=GivenText(), nargs=-1)
@click.option("--owner", type=GivenText(), required=True, help="The site that has matched them.")
@_month_option
@store_option
@json_option
def cancel_command(
    folder: Path,
    ids: tuple[str, ...],
    *,
    owner: str,
    month: str | None,
    store: str | None,
    as_json: bool,
) -> None:
    """Cancel what is matched of certificates, for good: of those named, or of all that are over.

    Each is cancelled once. What is left of a GEC expires with it.
    """
    if ids and month is not None:
        raise UsageError("asked for certificates or --month, found both")
    with ledger_folder(folder, store=store).opened() as books:
        done = cancel_certificates(books, ids, owner, _hours(month))
    if as_json:
        click.echo(json.dumps({"cancelled_wh": dict(done)}))
        return
    for id_, wh in done.items():
        click.echo(f"{id_}: {wh:,} Wh cancelled")
    click.echo(f"{len(done)} certificates cancelled, {sum(done.values()):,} Wh")


@click.command("score", epilog="Example: steppe ledger score runs/one --month 2026-11")
@_FOLDER
@_month_option
@store_option
@json_option
def score_command(folder: Path, *, month: str | None, store: str | None, as_json: bool) -> None:
    """Print the 24/7 score: which share of the energy was green in the hour of its use.

    Of each site for all that it used, of each tenant for its requests with their share of idle.
    What GECs cover is not in it. Each share is checked against the log.
    """
    with ledger_folder(folder, store=store).opened() as books:
        found = scores_of(books, _hours(month))
    if as_json:
        document = {
            "hours": found.hours,
            "source_wh": dict(sorted(found.source_wh.items())),
            "sites": _documents(found.sites),
            "tenants": _documents(found.tenants),
        }
        click.echo(json.dumps(document))
        return
    if not found.hours:
        raise GreenError(f"{folder}: asked for hours that are matched, found none")
    for name, wh in sorted(found.source_wh.items()):
        click.echo(f"  {name:<20}{wh:>16,} Wh")
    for kind, scores in (("site", found.sites), ("tenant", found.tenants)):
        for name, score in sorted(scores.items()):
            click.echo(f"{kind} {name}: {_text(score)}")
    click.echo(f"{found.hours} hours")


def _hours(month: str | None) -> range:
    return ALL_HOURS if month is None else Month.read(month).hours


def _text(score: Score) -> str:
    percent = decimal_text(score.score_ppm, _PERCENT_DIGITS)
    text = f"{percent} % of {score.used_uj:,} uJ green by the hour"
    if score.output_tokens:
        text += f"; {score.tokens_per_green_kwh:,} tokens per green kWh"
    return text


def _documents(scores: Mapping[str, Score]) -> dict[str, Any]:
    return {
        name: {
            "used_uj": score.used_uj,
            "green_uj": score.green_uj,
            "score_ppm": score.score_ppm,
            "output_tokens": score.output_tokens,
            "tokens_per_green_kwh": score.tokens_per_green_kwh,
        }
        for name, score in sorted(scores.items())
    }


def _row(held: Holding) -> dict[str, Any]:
    known = held.certificate
    return {
        "id": known.id,
        "form": known.form,
        "owner": held.owner,
        "producer": known.producer,
        "zone": known.zone,
        "source": known.source,
        "wh": known.wh,
        "from": hour_text(known.from_hour),
        "to": hour_text(known.to_hour),
        "free_wh": held.free_wh,
        "matched_wh": held.matched_wh,
    }

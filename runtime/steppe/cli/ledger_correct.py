"""`steppe ledger close|correct`: the last steps of an hour, and what is put right afterwards."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path

import click

from steppe.cli.ledger_options import store_option
from steppe.errors import UsageError
from steppe.ledger.corrections import Right
from steppe.ledger.statements.amounts import NANO_DIGITS, grouped_text
from steppe.ledger.statements.month import hour_text
from steppe.ledger.store.ledger_store import LedgerStore
from steppe.ledger.units import amount_text
from steppe.options import NOT_NEGATIVE, GivenPath, GivenText, json_option
from steppe.run.ledger_close import ClosedHours, close_hours, held, publish
from steppe.run.ledger_correct import Corrected, correct
from steppe.run.ledger_folder import LedgerFolder, ledger_folder

_PATH = GivenPath(path_type=Path)
_HOUR_US = 3_600_000_000
_signing_key_option = click.option(
    "--signing-key", type=_PATH, help="Private key of the log; that in the folder without it."
)


@click.command("close", epilog="Example: steppe ledger close runs/one")
@click.argument("folder", type=_PATH)
@_signing_key_option
@store_option
@json_option
def close_command(
    folder: Path, *, signing_key: Path | None, store: str | None, as_json: bool
) -> None:
    """Close the hours of a ledger that are due, and publish what its log does not have yet.

    A run does this itself. Use it after the last run of a site: hour h closes at h + 2.
    """
    ledger = ledger_folder(folder, store=store)
    with held(ledger), ledger.opened() as opened:
        found = close_hours(opened, _now_us())
        size = publish(ledger, opened, signing_key)
    if as_json:
        hours = [asdict(period) for period in found.periods]
        click.echo(json.dumps({"hours": hours, "next_us": found.next_us, "entries": size}))
        return
    for period in found.periods:
        what = f"{period.receipts:,} receipts, {period.meter_uj:,} uJ of its meters"
        click.echo(f"{hour_text(period.hour)} {period.site}, boundary {period.boundary}: {what}")
    click.echo(f"{_closed(found)}; {size:,} entries in the signed log")


@click.command("correct", epilog="Example: steppe ledger correct runs/one 4f0c2a --output-tokens 0")
@click.argument("folder", type=_PATH)
@click.argument("receipt", type=GivenText())
@click.option("--prompt-tokens", type=NOT_NEGATIVE, help="What the receipt should have said.")
@click.option("--cached-tokens", type=NOT_NEGATIVE, help="What the receipt should have said.")
@click.option("--output-tokens", type=NOT_NEGATIVE, help="What the receipt should have said.")
@click.option("--energy-uj", type=NOT_NEGATIVE, help="What the receipt should have said, uJ.")
@click.option(
    "--amount-nano",
    type=NOT_NEGATIVE,
    help="What it should have cost, 10^-9 of its currency; by its tariff without it.",
)
@_signing_key_option
@store_option
@json_option
def correct_command(
    folder: Path,
    receipt: str,
    *,
    prompt_tokens: int | None,
    cached_tokens: int | None,
    output_tokens: int | None,
    energy_uj: int | None,
    amount_nano: int | None,
    signing_key: Path | None,
    store: str | None,
    as_json: bool,
) -> None:
    """Write a correction of RECEIPT, an id of a receipt or of its request.

    The receipt stays. The correction is a receipt of its own, in the open hour, and says the
    difference. What was paid too much goes back to the account in the same transaction.
    """
    right = Right(prompt_tokens, cached_tokens, output_tokens, energy_uj, amount_nano)
    ledger = ledger_folder(folder, store=store)
    with ledger.opened() as opened:
        found = correct(opened, receipt, right, _now_us())
        is_published = _published(ledger, opened, signing_key)
    made = found.receipt
    if as_json:
        back = [asdict(one) for one in found.refunds]
        document = {"receipt": asdict(made), "refunds": back, "published": is_published}
        click.echo(json.dumps(document))
        return
    for line in _lines(found):
        click.echo(line)
    if not is_published:
        click.echo("not in the signed log yet: a run serves this ledger, or its key is elsewhere")


def _published(ledger: LedgerFolder, store: LedgerStore, signing_key: Path | None) -> bool:
    """Publish a correction, unless a run that serves the ledger does so; return whether it is."""
    try:
        with held(ledger):
            publish(ledger, store, signing_key)
    except UsageError:
        return False
    return True


def _lines(found: Corrected) -> list[str]:
    made = found.receipt
    amount = grouped_text(made.amount_nano, NANO_DIGITS)
    lines = [f"receipt {made.id} corrects {made.corrects}: {amount} {made.currency}".rstrip()]
    for one in found.refunds:
        lines.append(f"given back to {made.tenant}: {amount_text(one.amount, one.unit)}")
    return lines


def _closed(found: ClosedHours) -> str:
    count = len(found.periods)
    closed = f"{count} {'hour' if count == 1 else 'hours'} closed"
    if found.next_us is None:
        return closed
    return f"{closed}, the next one is due at {hour_text(found.next_us // _HOUR_US)}"


def _now_us() -> int:
    return time.time_ns() // 1_000

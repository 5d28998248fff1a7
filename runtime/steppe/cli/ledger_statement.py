"""`steppe ledger statement`: a tenant's month, with all that the tenant needs to check it."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from steppe.cli.ledger_options import own_trust_options
from steppe.ledger.statements.amounts import MICRO_DIGITS, grouped_text, minor_digits
from steppe.ledger.statements.month import Month
from steppe.options import GivenPath, GivenText, json_option
from steppe.run.ledger import AuditProgress
from steppe.run.ledger_bundle import BundleOrder, WrittenBundle, write_bundle
from steppe.run.ledger_folder import ledger_folder
from steppe.run.ledger_statement import MonthBooks, books_of_month

_PATH = GivenPath(path_type=Path)


@click.command(
    "statement",
    epilog="Example: steppe ledger statement runs/one --tenant lab --month 2026-11 --to bill",
)
@click.argument("folder", type=_PATH)
@click.option("--tenant", type=GivenText(), required=True, help="The tenant.")
@click.option("--month", "month_text", required=True, help="The month, such as 2026-11.")
@click.option("--to", type=_PATH, required=True, help="New folder of the files.")
@click.option(
    "--issuer", type=GivenText(), help="Name of the operator; that of the log without it."
)
@click.option(
    "--utc-offset",
    type=click.IntRange(-12, 14),
    default=0,
    show_default=True,
    help="Offset of the month's midnights from UTC, hours.",
)
@click.option("--older", type=_PATH, help="A checkpoint that the tenant kept: prove that it holds.")
@own_trust_options
@json_option
def statement_command(
    folder: Path,
    *,
    tenant: str,
    month_text: str,
    to: Path,
    issuer: str | None,
    utc_offset: int,
    older: Path | None,
    keys: tuple[str, ...],
    log: str | None,
    store: str | None,
    as_json: bool,
) -> None:
    """Write a tenant's month: a page, a table, receipts with proofs, and a file that checks them.

    The ledger is that of a record, or the one in FOLDER. The tenant needs Python, `cryptography`
    and the written files only.
    """
    month, ledger = Month.read(month_text, utc_offset), ledger_folder(folder, keys, log, store)
    name = issuer or ("Steppe" if ledger.trust is None else ledger.trust.log)
    with ledger.opened() as opened:
        books = books_of_month(opened, tenant, month, _said("hours read"))
        order = BundleOrder(to, name, older)
        written = write_bundle(ledger, opened, books, order, _said("receipts written"))
    if as_json:
        click.echo(json.dumps(_document(books, written, to)))
        return
    for line in _lines(books, written, to):
        click.echo(line)


def _said(what: str) -> AuditProgress:
    return AuditProgress(lambda line: click.echo(line, err=True), time.monotonic, what)


def _lines(books: MonthBooks, written: WrittenBundle, to: Path) -> list[str]:
    lines = []
    for one in books.statements:
        total = grouped_text(one.total_minor, minor_digits(one.currency))
        lines.append(f"{one.name}: {one.sums.receipts:,} receipts, {total} {one.currency}")
    for other in books.elsewhere:
        used = grouped_text(other.energy_uj, MICRO_DIGITS)
        count = f"{other.receipts:,} {'receipt' if other.receipts == 1 else 'receipts'}"
        lines.append(f"energy at other sites: {other.site}, {count}, {used} J")
    lines.append(f"{to}: {written.files:,} files")
    if written.unproven:
        count = _counted(written.unproven, "receipt")
        lines.append(f"{count} not in the signed log yet: without proof")
    if books.open_hours:
        count = _counted(books.open_hours, "hour")
        lines.append(f"{count} not closed yet: without shares of idle and green energy")
    return lines


def _counted(count: int, what: str) -> str:
    return f"1 {what} is" if count == 1 else f"{count:,} {what}s are"


def _document(books: MonthBooks, written: WrittenBundle, to: Path) -> dict[str, Any]:
    return {
        "statements": [
            {
                "name": one.name,
                "currency": one.currency,
                "receipts": one.sums.receipts,
                "total_minor": one.total_minor,
                "amount_nano": one.sums.amount_nano,
                "energy_uj": one.sums.energy_uj,
                "idle_uj": one.sums.idle_uj,
                "green_uj": one.sums.green_uj,
                "root": one.root,
            }
            for one in books.statements
        ],
        "elsewhere": [asdict(one) for one in books.elsewhere],
        "to": str(to),
        "files": written.files,
        "receipts_without_proof": written.unproven,
        "open_hours": books.open_hours,
    }

"""`steppe ledger audit`: whether the books of a run, or of a site, hold."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click

from steppe.cli.ledger_options import own_trust_options
from steppe.errors import SteppeError
from steppe.ledger.audit.energy import EnergySums
from steppe.ledger.statements.amounts import NANO_DIGITS, grouped_text
from steppe.options import GivenPath, json_option
from steppe.run.ledger import AuditProgress
from steppe.run.ledger_audit import Audited, audit
from steppe.run.ledger_folder import LedgerFolder, ledger_folder

_PARTS = (
    ("receipts", "receipts_uj"),
    ("corrections", "corrections_uj"),
    ("idle", "idle_uj"),
    ("transitions", "transition_uj"),
    ("waste", "waste_uj"),
    ("unclaimed", "unclaimed_uj"),
    ("carried on", "carried_uj"),
)
_NAME_WIDTH, _SUM_WIDTH = 14, 24


@click.command("audit", epilog="Example: steppe ledger audit runs/one")
@click.argument("folder", type=GivenPath(path_type=Path))
@own_trust_options
@json_option
def audit_command(
    folder: Path, *, keys: tuple[str, ...], log: str | None, store: str | None, as_json: bool
) -> None:
    """Check the whole ledger of a record, or that in FOLDER, and print where its energy went.

    Every entry and tile of the log and its signed head; the price of each receipt; each hour:
    receipts, idle and the rest must be the sum of its meters, exact in uJ; every account; and the
    sums of the record. Exit code 1: something does not hold, with a line for each.
    """
    show_audit(ledger_folder(folder, keys, log, store), folder, as_json=as_json)


def show_audit(ledger: LedgerFolder, folder: Path, *, as_json: bool = False) -> None:
    """Check a ledger and print what was found.

    Args:
        ledger: The ledger.
        folder: What the user calls it.
        as_json: Whether to print one JSON document.

    Raises:
        SteppeError: Something does not hold; its notes are the lines.
    """
    progress = AuditProgress(lambda line: click.echo(line, err=True), time.monotonic)
    found = audit(ledger, progress)
    if as_json:
        click.echo(json.dumps(_document(found)))
    else:
        for line in (*_lines(found), *found.notes):
            click.echo(line)
    if found.faults:
        count = len(found.faults)
        error = SteppeError(
            f"{folder}: {count} {'thing does' if count == 1 else 'things do'} not hold"
        )
        for fault in found.faults:
            error.add_note(fault)
        raise error
    if not as_json:
        click.echo("All of it holds.")


def _lines(found: Audited) -> list[str]:
    name = found.log or "not published"
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(found.kinds.items()))
    lines = [f"{name}: {found.entries:,} entries ({kinds}), {found.published:,} in the signed log"]
    for sums in found.energy:
        lines += _energy_lines(sums)
    for currency, nano in sorted(found.amounts.items()):
        if currency:
            paid = grouped_text(found.paid.get(currency, 0), NANO_DIGITS)
            total = f"{grouped_text(nano, NANO_DIGITS)} {currency}, paid from accounts {paid}"
            lines.append(f"receipts: {total}")
    if found.accounts:
        lines.append(f"accounts: {found.accounts:,} balances")
    if found.matches:
        green_wh = sum(match.green_wh for match in found.matches)
        load_wh = sum(match.load_wh for match in found.matches if match.number == 0)
        lines.append(f"green: {green_wh:,} of {load_wh:,} Wh are matched by the hour")
    if found.runs:
        count = f"{found.runs:,} {'run' if found.runs == 1 else 'runs'}"
        lines.append(f"record: the sums of {count} are those of the ledger")
    return lines


def _energy_lines(sums: EnergySums) -> list[str]:
    hours = f"{sums.closed} closed, {sums.open} open"
    rows = [(name, getattr(sums, field)) for name, field in _PARTS]
    rows = [(name, value) for name, value in rows if value or name in ("receipts", "idle")]
    parts = [f"  {name:<{_NAME_WIDTH}}{value:>{_SUM_WIDTH},}" for name, value in rows]
    total = f"  {'= meters':<{_NAME_WIDTH}}{sums.meter_uj:>{_SUM_WIDTH},}"
    return [f"energy of {sums.site}, boundary {sums.boundary}, uJ; hours: {hours}", *parts, total]


def _document(found: Audited) -> dict[str, Any]:
    return {
        "log": found.log,
        "published": found.published,
        "entries": found.entries,
        "kinds": dict(found.kinds),
        "energy": [
            {
                "site": sums.site,
                "boundary": sums.boundary,
                "hours": {"closed": sums.closed, "open": sums.open},
                "meter_uj": sums.meter_uj,
                **{field: getattr(sums, field) for _, field in _PARTS},
            }
            for sums in found.energy
        ],
        "amounts_nano": dict(found.amounts),
        "paid_nano": dict(found.paid),
        "green_wh": sum(match.green_wh for match in found.matches),
        "accounts": found.accounts,
        "runs": found.runs,
        "faults": found.faults,
        "notes": found.notes,
    }

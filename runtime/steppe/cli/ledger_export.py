"""`steppe ledger export`: entries of a log in the formats of others."""

from __future__ import annotations

import json
from pathlib import Path

import click

from steppe.options import NOT_NEGATIVE, GivenPath, json_option
from steppe.run.scitt import export_scitt

_FILE = GivenPath(path_type=Path)


@click.command(
    "export",
    epilog="Example: steppe ledger export runs/one/log 5 --scitt --key hohhot.key --to papers",
)
@click.argument("folder", type=_FILE)
@click.argument("indexes", type=NOT_NEGATIVE, nargs=-1, required=True)
@click.option(
    "--scitt",
    is_flag=True,
    required=True,
    expose_value=False,
    help="As transparent statements (RFC 9943) with receipts (RFC 9942).",
)
@click.option("--key", type=_FILE, required=True, help="File of the private key of the log.")
@click.option("--to", type=_FILE, default=Path(), help="Folder of the files; this one by default.")
@json_option
def export_command(
    folder: Path, *, indexes: tuple[int, ...], key: Path, to: Path, as_json: bool
) -> None:
    """Write the entries INDEXES of the log in FOLDER for tools of others.

    Each one gets a file `.scitt`, the statement with its receipt, and `.cose`, the receipt alone.
    The public key is `log.pem` beside them.
    """
    files = export_scitt(folder, indexes, key, to)
    if as_json:
        rows = [{"statement": str(each.statement), "receipt": str(each.receipt)} for each in files]
        click.echo(json.dumps(rows))
        return
    for each in files:
        click.echo(each.statement)
        click.echo(each.receipt)

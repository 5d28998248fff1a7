"""`steppe ledger keys|verify|proof|audit-log`: keys of a log, and checks of what it holds."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from steppe.errors import UsageError
from steppe.ledger.signing import COSIGNATURE, PublicKey
from steppe.options import NOT_NEGATIVE, GivenPath, GivenText, json_option
from steppe.run.ledger import (
    AuditProgress,
    Verified,
    audit_log,
    new_key,
    public_key,
    trust_of,
    verify,
    write_proof,
)

_Command = TypeVar("_Command", bound=Callable[..., Any])
_FILE = GivenPath(path_type=Path)


def _trust_options(command: _Command) -> _Command:
    """Add the options that name a log and the keys that may have signed it."""
    key = click.option(
        "--key",
        "keys",
        type=GivenText(),
        multiple=True,
        required=True,
        help="Public key of the log, or a file of such keys; repeat while keys change.",
    )
    log = click.option(
        "--log", type=GivenText(), help="Name of the log; that of the first key without it."
    )
    return key(log(command))


@click.group("keys", epilog="Example: steppe ledger keys show hohhot.key")
def keys_group() -> None:
    """Make and show the keys that sign a log."""


@keys_group.command("new", epilog="Example: steppe ledger keys new hohhot.key example.org/hohhot")
@click.argument("file", type=_FILE)
@click.argument("name", type=GivenText())
@click.option("--witness", "is_witness", is_flag=True, help="A key of a witness, not of a log.")
@json_option
def keys_new_command(file: Path, name: str, *, is_witness: bool, as_json: bool) -> None:
    """Write a new private key for the log NAME to FILE, and print its public key.

    FILE is new, and only its owner may read it.
    """
    _show_key(new_key(file, name, is_witness), as_json)


@keys_group.command("show", epilog="Example: steppe ledger keys show hohhot.key")
@click.argument("file", type=_FILE)
@json_option
def keys_show_command(file: Path, *, as_json: bool) -> None:
    """Print the public key of the private key in FILE."""
    _show_key(public_key(file), as_json)


@click.command(
    "verify", epilog="Example: steppe ledger verify receipt.json receipt.proof --key hohhot.pub"
)
@click.argument("receipt", type=_FILE)
@click.argument("proof", type=_FILE)
@_trust_options
@click.option("--tariff", type=_FILE, help="Compute the price from this tariff, too.")
@click.option("--tariff-proof", type=_FILE, help="Proof that the log contains the tariff.")
@click.option(
    "--witness",
    "witnesses",
    type=GivenText(),
    multiple=True,
    help="Public key of a witness that signs the log, or a file of such keys; repeat.",
)
@click.option("--least", type=NOT_NEGATIVE, help="Witnesses that must have signed; all by default.")
@json_option
def verify_command(
    receipt: Path,
    proof: Path,
    *,
    keys: tuple[str, ...],
    log: str | None,
    tariff: Path | None,
    tariff_proof: Path | None,
    witnesses: tuple[str, ...],
    least: int | None,
    as_json: bool,
) -> None:
    """Check that the log contains the file RECEIPT, by the file PROOF; it needs no network."""
    if (tariff is None) != (tariff_proof is None):
        raise UsageError("asked for both of --tariff and --tariff-proof, found one")
    priced = None if tariff is None or tariff_proof is None else (tariff, tariff_proof)
    found = verify(receipt, proof, trust_of(keys, log, witnesses, least), priced)
    click.echo(json.dumps(_row(found)) if as_json else _line(found))


@click.command(
    "proof", epilog="Example: steppe ledger proof runs/one/log 5 --key hohhot.pub --to papers"
)
@click.argument("folder", type=_FILE)
@click.argument("index", type=NOT_NEGATIVE)
@_trust_options
@click.option("--to", type=_FILE, default=Path(), help="Folder of the files; this one by default.")
@json_option
def proof_command(
    folder: Path, index: int, *, keys: tuple[str, ...], log: str | None, to: Path, as_json: bool
) -> None:
    """Write entry INDEX of the log in FOLDER to a file, and its proof beside it."""
    files = write_proof(folder, index, trust_of(keys, log), to)
    if as_json:
        click.echo(json.dumps({"entry": str(files.entry), "proof": str(files.proof)}))
        return
    click.echo(files.entry)
    click.echo(files.proof)


@click.command("audit-log", epilog="Example: steppe ledger audit-log runs/one/log --key hohhot.pub")
@click.argument("folder", type=_FILE)
@_trust_options
@json_option
def audit_log_command(
    folder: Path, *, keys: tuple[str, ...], log: str | None, as_json: bool
) -> None:
    """Check every entry of the log in FOLDER: its hash, the tiles, and the signed root."""
    progress = AuditProgress(_to_stderr, time.monotonic)
    found = audit_log(folder, trust_of(keys, log), progress)
    size, root = found.head.size, found.head.root.hex()
    if as_json:
        click.echo(json.dumps({"log": found.origin, "entries": size, "root": root}))
        return
    click.echo(f"{found.origin}, {size} entries: each is in the tree, whose root is signed: {root}")


def _show_key(key: PublicKey, as_json: bool) -> None:
    kind = "witness" if key.algorithm == COSIGNATURE else "log"
    document = {"name": key.name, "id": key.id.hex(), "of": kind, "key": key.text}
    click.echo(json.dumps(document) if as_json else key.text)


def _row(found: Verified) -> dict[str, Any]:
    return {
        "log": found.checkpoint.origin,
        "entries": found.checkpoint.head.size,
        "index": found.index,
        "receipt": found.receipt.id,
        "witnesses": list(found.witnesses),
        "price": "holds" if found.has_price else "not checked",
    }


def _line(found: Verified) -> str:
    holds = "the log contains the receipt"
    if found.has_price:
        holds += "; its price is that of the logged tariff"
    if found.witnesses:
        holds += f"; signed by the witnesses {', '.join(found.witnesses)}"
    return f"{found.checkpoint.origin}, {found.checkpoint.head.size} entries: {holds}"


def _to_stderr(line: str) -> None:
    click.echo(line, err=True)

"""`steppe ledger witness`: signs the heads of logs, and only those of one history."""

from __future__ import annotations

import json
from pathlib import Path

import click

from steppe.ledger.signing import PublicKey
from steppe.options import GivenPath, GivenText
from steppe.run.witness import WitnessPlan, serve_witness

_FILE = GivenPath(path_type=Path)


@click.command(
    "witness",
    epilog="Example: steppe ledger witness grid.key --log hohhot.pub --state /var/lib/witness",
)
@click.argument("key", type=_FILE)
@click.option(
    "--log",
    "logs",
    type=GivenText(),
    multiple=True,
    required=True,
    help="Public key of a log that is signed, or a file of such keys; repeat.",
)
@click.option("--state", type=_FILE, required=True, help="Folder that keeps what was signed.")
@click.option(
    "--host", type=GivenText(), default="127.0.0.1", show_default=True, help="Address to listen on."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8790,
    show_default=True,
    help="Port to listen on; 0 takes a free one.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document when it listens.")
def witness_command(
    key: Path, *, logs: tuple[str, ...], state: Path, host: str, port: int, as_json: bool
) -> None:
    """Sign the heads of logs with the private key in the file KEY, until a signal ends it.

    KEY is one of `steppe ledger keys new FILE NAME --witness`. A head is signed only with a proof
    that the log just grew since the last one. A second history is refused and kept as evidence.
    """

    def show(url: str, public: PublicKey) -> None:
        document = {"url": url, "name": public.name, "key": public.text}
        click.echo(json.dumps(document) if as_json else f"{public.text} listens at {url}")

    serve_witness(WitnessPlan(key, logs, state, host, port), show)

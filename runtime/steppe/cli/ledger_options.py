"""Options that several commands of `steppe ledger` have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from steppe.options import GivenText

_Command = TypeVar("_Command", bound=Callable[..., Any])
store_option = click.option(
    "--store", type=GivenText(), help="Its store: an SQLite file or a URL; ledger.db without it."
)


def own_trust_options(command: _Command) -> _Command:
    """Add the options of a ledger whose folder has the keys; an auditor gives others."""
    key = click.option(
        "--key",
        "keys",
        type=GivenText(),
        multiple=True,
        help="Public key of the log, or a file of such keys; those in the folder without it.",
    )
    log = click.option(
        "--log", type=GivenText(), help="Name of the log; that of the first key without it."
    )
    return key(log(store_option(command)))

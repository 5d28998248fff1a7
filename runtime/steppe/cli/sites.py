"""`steppe sites`: several sites behind one endpoint."""

from __future__ import annotations

import click

from steppe.cli import LazyGroup

_FILES = "steppe.cli.sites_files"
PLACES = {
    "init": (f"{_FILES}:init_command", "Write certificates and keys of some sites."),
    "renew": (f"{_FILES}:renew_command", "Renew the certificates that are due."),
    "list": (
        "steppe.cli.sites_list:list_command",
        "Show this site and the others, as a run sees them.",
    ),
    "settle": (
        "steppe.cli.sites_settle:settle_command",
        "Check that the books of several sites agree.",
    ),
}


@click.group(
    "sites", cls=LazyGroup, places=PLACES, epilog="Example: steppe sites list http://127.0.0.1:8000"
)
def sites_group() -> None:
    """Join several sites: certificates, keys, what they know and what they owe each other."""

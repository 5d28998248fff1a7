"""`steppe sites init` and `steppe sites renew`: what several sites need to trust each other."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from steppe.options import GivenPath, GivenText, json_option
from steppe.sites.trust.init import init_sites, parse_regions, parse_sites, renew_sites

_FOLDER = GivenPath(path_type=Path)


@click.command(
    "init",
    epilog="Example: steppe sites init sites --site hohhot=https://10.0.0.1:8443 "
    "--site shanghai=https://10.0.0.2:8443",
)
@click.argument("folder", type=_FOLDER, metavar="DIR")
@click.option(
    "--site",
    "sites",
    type=GivenText(),
    multiple=True,
    required=True,
    help="Name and address of a site, NAME=https://HOST:PORT; repeat.",
)
@click.option(
    "--region",
    "regions",
    type=GivenText(),
    multiple=True,
    help="Where a site lies in law, NAME=REGION; repeat. All sites are in one region by default.",
)
@json_option
def init_command(
    folder: Path, *, sites: tuple[str, ...], regions: tuple[str, ...], as_json: bool
) -> None:
    """Write a new folder DIR: an authority, and the certificate and keys of each site.

    DIR/NAME/sites.yaml is the section `sites` for the configuration of a run there.

    Take DIR/NAME to the host of each site, and keep DIR/authority apart. Certificates live 24
    hours; see `steppe sites renew`. Larger networks use cert-manager or SPIFFE instead.
    """
    urls = parse_sites(sites)
    folders = init_sites(folder, urls, time.time(), parse_regions(regions, urls))
    if as_json:
        click.echo(json.dumps({"sites": {each.name: str(each) for each in folders}}))
        return
    for each in folders:
        click.echo(f"{each.name}: {each}")


@click.command("renew", epilog="Example: steppe sites renew sites")
@click.argument("folder", type=_FOLDER, metavar="DIR")
@json_option
def renew_command(folder: Path, *, as_json: bool) -> None:
    """Renew the certificates of the folder DIR of which a third of their life or less is left."""
    renewed = renew_sites(folder, time.time())
    if as_json:
        click.echo(json.dumps({"renewed": renewed}))
        return
    click.echo(f"renewed: {', '.join(renewed) or 'none was due'}")

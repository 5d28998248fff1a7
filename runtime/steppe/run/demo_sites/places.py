"""Where the sites of the demo are: their ports, certificates and run files in one folder.

DIR/sites/...             certificates and keys, as `steppe sites init` writes them
DIR/sites/NAME/run.yaml   the configuration that the site is served with
DIR/NAME                  the record of the site
"""

from __future__ import annotations

import random
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from steppe.config import RunConfig
from steppe.config.sites import GENERAL
from steppe.config.yaml_file import read_mapping
from steppe.disk import disk_errors
from steppe.load.delay_proxy import DelayedRoute
from steppe.run.demo_sites.section import EastWestSection
from steppe.run.demo_sites.weather import Days, Plant, plants_of, power_values
from steppe.sites.trust.init import STUB, init_sites

SITES_FOLDER, RUN_FILE, LOG_FILE = "sites", "run.yaml", "serve.log"
NEAREST, ANYWHERE = "nearest", "anywhere"
"""Tenants: the requests of the first stay at their own site, for it has no other region; those of
the second may go to all."""
LOOPBACK = "127.0.0.1"
_PORTS = (20_000, 32_000)
"""Outgoing connections have theirs from 32768 up, Ray's workers from 10002 to 19999."""


@dataclass(frozen=True, slots=True)
class Place:
    """One site of the demo.

    Attributes:
        name: Its name.
        config: Its own configuration, as its file has it.
        values: The values of that file.
        plants: Its wind and sun.
        gateway_port: Port of its gateway.
        sites_port: Port on which it listens for other sites.
        folder: Folder of its certificates and of its run file.
        record: Folder of its record.
    """

    name: str
    config: RunConfig
    values: Mapping[str, Any]
    plants: tuple[Plant, ...]
    gateway_port: int
    sites_port: int
    folder: Path
    record: Path

    @property
    def url(self) -> str:
        """Address of its gateway."""
        return f"http://{LOOPBACK}:{self.gateway_port}"

    @property
    def run_file(self) -> Path:
        """The configuration that it is served with."""
        return self.folder / RUN_FILE

    @property
    def log(self) -> Path:
        """What its process prints."""
        return self.folder / LOG_FILE


@dataclass(frozen=True, slots=True)
class Places:
    """All sites of the demo, and the ways between them.

    Attributes:
        section: What the folder of the demo says.
        sites: The sites by name.
        routes: The way from a site to another one, by both names.
    """

    section: EastWestSection
    sites: Mapping[str, Place]
    routes: Mapping[tuple[str, str], DelayedRoute]


def lay_out(
    source: Path, section: EastWestSection, configs: Mapping[str, RunConfig], folder: Path
) -> Places:
    """Give each site its ports and folders; nothing is written.

    Args:
        source: Folder of the sites' own files.
        section: What it says of all of them.
        configs: The configuration of each site.
        folder: Folder of the run.
    """
    ports = _FreePorts()
    home = folder / SITES_FOLDER
    sites = {}
    for name, config in configs.items():
        sites[name] = Place(
            name=name,
            config=config,
            values=read_mapping(source / f"{name}.yaml"),
            plants=plants_of(config, home / name),
            gateway_port=ports.next(),
            sites_port=ports.next(),
            folder=home / name,
            record=folder / name,
        )
    routes = {
        (a, b): DelayedRoute(ports.next(), sites[b].sites_port, section.rtt_between(a, b))
        for a in sites
        for b in sites
        if a != b
    }
    return Places(section, sites, routes)


def write_files(places: Places, now_s: float) -> None:
    """Write certificates, keys and the run file of each site.

    Args:
        places: The sites.
        now_s: Clock of this host, s since the Unix epoch.

    Raises:
        DiskFullError: No space is left.
        UsageError: The folder is not empty, or cannot be written.
    """
    first = next(iter(places.sites.values()))
    urls = {name: f"https://{LOOPBACK}:{each.sites_port}" for name, each in places.sites.items()}
    regions = {name: each.region for name, each in places.section.sites.items()}
    init_sites(first.folder.parent, urls, now_s, regions)
    for place in places.sites.values():
        for plant in place.plants:
            plant.write(Days((), 1.0), now_s)
        text = yaml.safe_dump(run_values(places, place), sort_keys=False)
        with disk_errors(place.run_file):
            place.run_file.write_text(text)


def run_values(places: Places, place: Place) -> dict[str, Any]:
    """Return the values of the configuration that a site is served with.

    Its own values, with a trace of its weather, its ports, both tenants and the other sites.
    """
    regions = sorted({each.region for each in places.section.sites.values()})
    return {
        **place.values,
        "power": power_values(place.config.power, place.plants),
        "gateway": {**place.values.get("gateway", {}), "port": place.gateway_port},
        "tenants": {"list": [{"name": NEAREST}, {"name": ANYWHERE, "regions": regions}]},
        "sites": _sites_values(places, place),
    }


def _sites_values(places: Places, place: Place) -> dict[str, Any]:
    """Return the section of a site: what `steppe sites init` wrote, and what the demo adds."""
    section, own = places.section, places.section.sites[place.name]
    written = read_mapping(place.folder / STUB)["sites"]
    peers = [
        {
            **peer,
            "url": f"https://{LOOPBACK}:{places.routes[place.name, peer['name']].port}",
            "rtt_s": section.rtt_between(place.name, peer["name"]),
        }
        for peer in written["peers"]
    ]
    return {
        **written,
        "data_classes": [GENERAL],
        "peers": peers,
        "price_per_kwh": [own.price_per_kwh],
        "gco2_per_kwh": [own.gco2_per_kwh],
        "currency": section.currency,
        "plan": section.plan.model_dump(mode="json"),
        "settle_s": section.settle_s,
    }


class _FreePorts:
    """Ports of this host that nothing listens on, each once."""

    def __init__(self) -> None:
        self._given: set[int] = set()

    def next(self) -> int:
        while True:
            port = random.randrange(*_PORTS)
            with suppress(OSError), socket.socket() as probe:
                probe.bind((LOOPBACK, port))
                if port not in self._given:
                    self._given.add(port)
                    return port

"""A whole site in a process of its own, which a test kills: gateway, replica and sites service."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import aiohttp
from tests.fixtures.running_sites import Sites
from tests.sites.test_two_sites import PausedReplica, open_site

from steppe.config.sites import SitesSection
from steppe.sites.trust.certificates import new_authority

START_S = 120.0


@dataclass(frozen=True)
class Started:
    """What a process needs to be a site.

    Attributes:
        section: Its section of the configuration.
        folder: Folder of all sites.
        surplus_w: Its surplus, W.
        after: Its replica stops in each answer after so many events.
    """

    section: SitesSection
    folder: Path
    surplus_w: float
    after: int


@dataclass(frozen=True)
class SiteProcess:
    """A site that runs.

    Attributes:
        process: Its process.
        url: Its gateway.
    """

    process: BaseProcess
    url: str

    def kill(self) -> None:
        """Kill it on the spot."""
        self.process.kill()
        self.process.join()


@contextmanager
def site_process(started: Started) -> Iterator[SiteProcess]:
    """Start a site in a process; it is killed with the block, if it still runs."""
    spawning = multiprocessing.get_context("spawn")
    ours, theirs = spawning.Pipe(duplex=False)
    process = spawning.Process(target=_run, args=(started, theirs), daemon=True)
    process.start()
    try:
        assert ours.poll(START_S), "the site starts"
        yield SiteProcess(process, ours.recv())
    finally:
        process.kill()
        process.join()


def _run(started: Started, tell: Connection) -> None:
    asyncio.run(_serve(started, tell))


async def _serve(started: Started, tell: Connection) -> None:
    async with AsyncExitStack() as stack, aiohttp.ClientSession() as session:
        authority = new_authority("not used", time.time())
        sites = Sites(started.folder, authority, {}, {}, session)
        replica = PausedReplica(f"r-{started.section.name}", after=started.after)
        site = await open_site(stack, sites, started.section, started.surplus_w, replica)
        tell.send(site.url)
        await asyncio.Event().wait()

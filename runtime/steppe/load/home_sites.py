"""Customers of several sites: each asks the gateway of its own one, all at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus

import aiohttp
import numpy as np
import orjson

from steppe.errors import UsageError
from steppe.load.arrivals import Arrival, LengthLimits
from steppe.load.client import ServerTarget
from steppe.load.replay import ReplayOptions, ReplayShare, replay
from steppe.load.results import LoadResult
from steppe.load.synthetic import SyntheticLoad

_LEAD_S = 0.5
"""Time to the first arrival, s: all loads are ready by then."""
_STATUS, _METRICS = "/steppe/v1/status", "/metrics"
_STATUS_S = 2.0
"""Longest wait for what a site says of itself, s."""
_CHANGE_S = 30.0
"""Longest wait for a change of its configuration, s."""


@dataclass(frozen=True, slots=True)
class HomeLoad:
    """What the customers of a site ask for.

    Attributes:
        site: The site.
        target: Its gateway, and the model.
        arrivals: When they ask, and for how much.
    """

    site: str
    target: ServerTarget
    arrivals: tuple[Arrival, ...]

    def of_tenant(self, tenant: str) -> HomeLoad:
        """Return the same load, asked by a tenant."""
        found = tuple(replace(arrival, tenant=tenant) for arrival in self.arrivals)
        return replace(self, arrivals=found)


def arrivals_at_homes(
    shares: Mapping[str, float],
    *,
    rate_rps: float,
    duration_s: float,
    length_scale: float,
    limits: LengthLimits,
    seed: int,
) -> dict[str, tuple[Arrival, ...]]:
    """Return the arrivals at each site: one traffic, each request at a site drawn by its share.

    Args:
        shares: Share of the customers of each site; any scale.
        rate_rps: Mean rate of all together, requests/s.
        duration_s: All are due before it, s.
        length_scale: Factor on prompt and output lengths.
        limits: What the scaled lengths are clipped to.
        seed: Seed of times, lengths and sites.
    """
    rng = np.random.default_rng(seed)
    arrivals = SyntheticLoad().generate(
        rng, rate_rps=rate_rps, duration_s=duration_s, length_scale=length_scale, limits=limits
    )
    names, weights = list(shares), np.array(list(shares.values()))
    homes = rng.choice(len(names), size=len(arrivals), p=weights / weights.sum())
    return {
        name: tuple(a for a, home in zip(arrivals, homes, strict=True) if home == at)
        for at, name in enumerate(names)
    }


async def replay_at_homes(
    loads: Sequence[HomeLoad], options: ReplayOptions
) -> dict[str, LoadResult]:
    """Send all loads at the same time; return the result of each by its site.

    Args:
        loads: The loads.
        options: How each is sent. Prompts differ between the sites, too.
    """
    loads = [load for load in loads if load.arrivals]
    begin_s = asyncio.get_running_loop().time() + _LEAD_S
    results = await asyncio.gather(
        *(
            replay(
                load.target,
                load.arrivals,
                replace(options, seed=options.seed + number),
                share=ReplayShare(begin_s=begin_s),
            )
            for number, load in enumerate(loads)
        )
    )
    return {load.site: result for load, result in zip(loads, results, strict=True)}


async def statuses(urls: Mapping[str, str]) -> dict[str, Mapping[str, object]]:
    """Return what `GET /steppe/v1/status` of each gateway answers; those that do not are left out.

    Args:
        urls: Address of the gateway of each site.
    """
    found = {site: _mapping(body) for site, body in (await _read(urls, _STATUS)).items()}
    return {site: each for site, each in found.items() if each is not None}


async def expositions(urls: Mapping[str, str]) -> dict[str, str]:
    """Return the metrics of each gateway in Prometheus' text format; those of sites that answer.

    Args:
        urls: Address of the gateway of each site.
    """
    return {site: body.decode() for site, body in (await _read(urls, _METRICS)).items()}


async def put_section(url: str, section: str, values: Mapping[str, object]) -> None:
    """Replace a section of the configuration of a run.

    Args:
        url: Address of its gateway.
        section: Name of the section.
        values: The whole section, as a file would hold it.

    Raises:
        UsageError: The run does not take it.
    """
    timeout = aiohttp.ClientTimeout(total=_CHANGE_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.put(f"{url}/steppe/v1/config/{section}", data=orjson.dumps(values)) as response,
        ):
            status, text = response.status, await response.text()
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise UsageError(f"{url}: {section} was not changed: {error}") from error
    if status != HTTPStatus.OK:
        found = " ".join(text.split())
        raise UsageError(f"{url}: {section}: asked for status 200, found {status}: {found:.200}")


async def _read(urls: Mapping[str, str], path: str) -> dict[str, bytes]:
    timeout = aiohttp.ClientTimeout(total=_STATUS_S)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        found = await asyncio.gather(*(_get(session, url + path) for url in urls.values()))
    return {site: each for site, each in zip(urls, found, strict=True) if each is not None}


async def _get(session: aiohttp.ClientSession, url: str) -> bytes | None:
    try:
        async with session.get(url) as response:
            body = await response.read()
    except (aiohttp.ClientError, TimeoutError, OSError):
        return None
    return body if response.status == HTTPStatus.OK else None


def _mapping(body: bytes) -> Mapping[str, object] | None:
    try:
        found = orjson.loads(body)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None

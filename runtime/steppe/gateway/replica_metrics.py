"""The metrics of all awake replicas as one Prometheus exposition, with a label `replica`.

Engines such as vLLM expose metrics of their own. One endpoint with all of them needs one scrape job
and no discovery of replicas, whose number and addresses change.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping

import aiohttp

from steppe.gateway.routing import Route

SCRAPE_TIMEOUT_S = 2.0
"""A replica that does not return its metrics in this time is left out, s."""

_SAMPLE = re.compile(r"([A-Za-z_:][\w:]*)(?:\{(.*)\})?( .+)")
_COMMENT = re.compile(r"# (HELP|TYPE) (\S+)")
_SUFFIX = re.compile(r"_(?:total|created|bucket|sum|count|info)$")


async def scrape_replicas(session: aiohttp.ClientSession, routes: Iterable[Route]) -> str:
    """Return the metrics of the replicas that have any and respond in time."""
    routes = list(routes)
    texts = await asyncio.gather(*(_scrape(session, route) for route in routes))
    pairs = zip(routes, texts, strict=True)
    return merge({route.replica: text for route, text in pairs if text is not None})


def merge(texts: Mapping[str, str]) -> str:
    """Return one exposition of several, each sample with the label `replica`.

    Prometheus requires the samples of a metric to follow its HELP and TYPE lines in one group.
    Samples of `_created` are left out.

    Args:
        texts: Exposition of each replica, by name.
    """
    comments: dict[str, dict[str, str]] = {}
    samples: dict[str, list[str]] = {}
    for replica, text in texts.items():
        family = ""
        for line in text.splitlines():
            comment, sample = _COMMENT.match(line), _SAMPLE.fullmatch(line)
            if comment is not None:
                family = comment[2]
                comments.setdefault(family, {}).setdefault(comment[1], line)
            elif sample is not None and not sample[1].endswith("_created"):
                name, labels, value = sample.groups()
                if _SUFFIX.sub("", name) != _SUFFIX.sub("", family):
                    family = name
                labelled = f'{name}{{replica="{replica}"{f",{labels}" if labels else ""}}}{value}'
                samples.setdefault(family, []).append(labelled)
    return "".join(
        "".join(f"{line}\n" for line in [*comments.get(family, {}).values(), *lines])
        for family, lines in samples.items()
    )


async def _scrape(session: aiohttp.ClientSession, route: Route) -> str | None:
    timeout = aiohttp.ClientTimeout(total=SCRAPE_TIMEOUT_S)
    try:
        async with session.get(f"{route.url}/metrics", timeout=timeout) as response:
            return await response.text() if response.status == 200 else None
    except (aiohttp.ClientError, TimeoutError, OSError):
        return None

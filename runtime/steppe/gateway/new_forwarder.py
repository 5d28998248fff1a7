"""The forwarder of a gateway, made of its parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import aiohttp

from steppe.gateway.client_stream import StreamTimes
from steppe.gateway.forwarder import RequestForwarder, SitesSide
from steppe.gateway.pools import Pools
from steppe.gateway.request import RequestContext
from steppe.gateway.request_tracker import RequestTracker
from steppe.gateway.settings import GatewaySettings
from steppe.gateway.sites.other_sites import OtherSites


def new_forwarder(
    settings: GatewaySettings,
    pools: Pools,
    tracker: RequestTracker,
    session: aiohttp.ClientSession,
    *,
    sites: OtherSites | None,
    now_s: Callable[[], float],
) -> RequestForwarder:
    """Return what forwards the requests of a gateway.

    Args:
        settings: Those of the gateway.
        pools: The pools of replicas.
        tracker: Counts requests that go to another model, or stay at this site.
        session: The HTTP client of replicas.
        sites: The other sites; None without any.
        now_s: Reads the monotonic clock, s.
    """

    def on_moved(context: RequestContext, model: str) -> None:
        tracker.move(context, model)
        pools.aliases[context.alias].move(model)
        if context.asked is not None:
            context.asked = replace(context.asked, model=model)

    side = None
    if sites is not None and settings.sites is not None:
        side = SitesSide(sites, settings.sites.max_wait_s, tracker.stay)
    return RequestForwarder(
        {pool.model.name: pool.gate for pool in pools},
        session,
        settings.max_wait_s,
        settings.retry_delays_s,
        times=StreamTimes(settings.write_timeout_s, settings.keep_alive_s, settings.hold_s),
        now_s=now_s,
        on_moved=on_moved,
        sites=side,
    )

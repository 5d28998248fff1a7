"""Shows the gateways of the run all that they need to choose a site."""

from __future__ import annotations

from dataclasses import replace

from aiohttp import web

from steppe.sites.service.plan_loop import PlanLoop
from steppe.sites.service.site import LocalSite
from steppe.sites.state import PATH, PeerState, SitesState, write_state


class StateApi:
    """The state of the service."""

    def __init__(self, site: LocalSite, plan: PlanLoop) -> None:
        """Show this site, and the leases of its plan."""
        self._site, self._plan = site, plan

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add its route."""
        router.add_get(PATH, self._show)

    def state(self) -> SitesState:
        """Return the state now."""
        site, section = self._site, self._site.settings.section
        now_s, peers = site.clocks.monotonic_s(), site.exchange.peers
        healths, seq, here = site.exchange.healths(now_s), site.beats.seq(now_s), site.own.view
        found = []
        for peer in section.peers:
            beat, rtt_s = peers.last(peer.name), peers.rtt_s(peer.name)
            found.append(
                PeerState(
                    peer.name,
                    peer.url,
                    peer.region,
                    healths[peer.name],
                    peer.rtt_s if rtt_s is None else rtt_s,
                    None if beat is None else beat.view,
                )
            )
        return SitesState(
            site=section.name,
            run=site.beats.run,
            seq=seq,
            period_s=section.period_s,
            here=None if here is None else replace(here, seq=seq),
            peers=tuple(found),
            leases=self._plan.leases(),
            suspects=site.barred(),
        )

    async def _show(self, _request: web.Request) -> web.Response:
        body = write_state(self.state(), self._site.clocks.monotonic_s())
        return web.Response(body=body, content_type="application/json")

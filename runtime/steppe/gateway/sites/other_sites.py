"""Sends requests to other sites.

A router chooses the site. What it says is checked here before a byte leaves: the site is one of the
configuration, at the address and in the region that the configuration has, and the tenant allows
that region. So a fault in the router, or in what it was given, moves no data out of these regions.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from prometheus_client import Metric

from steppe.config.sites import PeerSection, SitesSection
from steppe.engine.run_secret import HEADER as RUN_SECRET
from steppe.errors import ReplicaError, SteppeError
from steppe.gateway.cancel_scope import CancelScope
from steppe.gateway.delivery import Delivery
from steppe.gateway.gate_errors import RefusedError
from steppe.gateway.replica_client import (
    Headers,
    ReplicaLostError,
    ReplicaResponse,
    ReplicaUnreachableError,
    ServerTls,
    StreamedResponse,
    open_session,
    send_request,
)
from steppe.gateway.request import FAILED
from steppe.gateway.request_energy import ENERGY_HEADER, JOULES_HEADER
from steppe.gateway.routing import Route
from steppe.gateway.settings import GatewaySettings
from steppe.gateway.sites.asked import allowed_now
from steppe.gateway.sites.energy import EnergyElsewhere
from steppe.gateway.stream import find_error_status
from steppe.sites.peer import REFUSED, REVISION, End, RouterService, SiteTry, TryOutcome
from steppe.sites.view import RequestView
from steppe.tenants.tenant import Tenant

MOST_PEERS = 2
"""So many other sites are tried before a request waits here."""
STUCK_S, FIRST_S, LOOK_S = 10.0, 60.0, 1.0
"""A stream that gets nothing from a site for so long goes on elsewhere, s: after its first event,
and before; and how often that is looked at. The replica there may be paused, for want of power."""
SLOW_TOKEN_S, LEAST_TOKENS = 1.0, 1024
"""A whole answer may take so much longer for each output token that is expected, s, and for so many
at least; but not if the heartbeats of its site are missing."""
MOST_BYTES = 128 << 20
"""An answer that is longer is given up, bytes: it fills the memory of this gateway."""
SITE_HEADER = "X-Steppe-Site"
"""Header of an answer that another site has begun: its name."""
NO_SITE = "no_site"
"""Code of the 503 of a request that may not stay here while no other site takes it."""

_FAULTS = frozenset({400, 413, 415, 422})
"""Statuses that say something of the request, not of the site; a 404 is a model that it lacks."""
_SENT_HEADERS = ("accept", "content-type", "traceparent", "tracestate")
_KEPT_HEADERS = frozenset({"content-type", "cache-control", JOULES_HEADER.lower()})
_KEEPALIVE_S, _CONNECT_S, _SILENT_S = 30.0, 2.0, 8

_log = logging.getLogger(__name__)


class RefusedBySiteError(SteppeError):
    """Another site does not take a request; its client has got nothing from there."""


class SiteLostError(ReplicaLostError):
    """Another site is lost in the middle of an answer."""


@dataclass(slots=True)
class Visit:
    """A try at another site; times are s since the Unix epoch.

    Attributes:
        peer: The site.
        before: Output tokens that were known when it was sent there.
        started_epoch_s: When.
        status: What it answered; None before.
        end: How it ended.
        reason: Why the door of the site refused it; empty if it did not.
    """

    peer: SiteTry
    before: int
    started_epoch_s: float = field(default_factory=time.time)
    status: int | None = None
    end: End = "lost"
    reason: str = ""

    def outcome(self, delivery: Delivery) -> TryOutcome:
        """Return how it ended, now."""
        usage, had_it = delivery.usage, self.end in ("served", "lost", "cancelled")
        return TryOutcome(
            self.status,
            usage.prompt_tokens if had_it else 0,
            max(0, usage.output_tokens - self.before) if had_it else 0,
            self.started_epoch_s,
            time.time(),
            self.end,
            self.reason,
        )


class OtherSites:
    """Where requests may go instead of the replicas of this site.

    Use it on one event loop; it is not safe from other threads.
    """

    def __init__(
        self,
        section: SitesSection,
        router: RouterService,
        connect_timeout_s: float,
        now_s: Callable[[], float] = time.monotonic,
        present: Callable[[RequestView], RequestView] = lambda asked: asked,
    ) -> None:
        """Create it.

        Args:
            section: The sites, as they are configured.
            router: Chooses one.
            connect_timeout_s: Longest time to connect to one, s.
            now_s: Reads the monotonic clock, s.
            present: Returns a request with what its tenant allows now: it may have waited long.
        """
        self._present = present
        self._peers = {peer.name: peer for peer in section.peers}
        self._router, self._now_s = router, now_s
        self._connect_timeout_s = connect_timeout_s
        self._session: aiohttp.ClientSession | None = None
        self._scopes: set[CancelScope] = set()
        self._is_open = True
        self.energy = EnergyElsewhere()
        """What requests took at other sites."""

    async def start(self) -> None:
        """Begin."""
        self._session = open_session(
            min(self._connect_timeout_s, _CONNECT_S), keepalive_s=_KEEPALIVE_S, silent_s=_SILENT_S
        )
        await self._router.start()

    def set_url(self, url: str) -> None:
        """Set where the sites service of the run listens; empty while it starts."""
        self._router.set_url(url or None)

    def metrics(self) -> list[Metric]:
        """Return the metrics of the router."""
        return list(self._router.exposition())

    def close(self) -> None:
        """Send no new request away, because the gateway stops; those that have begun go on."""
        self._is_open = False

    def cancel_all(self) -> None:
        """End what other sites still answer, because the gateway stops."""
        for scope in tuple(self._scopes):
            scope.cancel(RefusedError("the gateway is stopping", "stopping"))

    async def stop(self) -> None:
        """Close all connections."""
        await self._router.stop()
        if self._session is not None:
            await self._session.close()

    async def serve(self, delivery: Delivery) -> web.StreamResponse | None:
        """Return the answer of another site; None if none takes the request.

        Raises:
            SiteLostError: One is lost in the middle of its answer.
            RefusedError: The gateway stops, or the stream was held for too long.
            ConnectionResetError: The client has disconnected.
        """
        has_begun = delivery.client.has_begun
        left = MOST_PEERS if has_begun else MOST_PEERS - len(delivery.tried_sites)
        while left > 0 and (peer := self._choose(delivery)) is not None:
            left -= 1
            delivery.tried_sites.add(peer.site)
            try:
                return await self._visit(delivery, peer)
            except (RefusedBySiteError, ReplicaUnreachableError) as error:
                _log.info("%s: a request goes elsewhere: %s", peer.site, error)
        return None

    def _choose(self, delivery: Delivery) -> SiteTry | None:
        """Return a site that the tenant allows; None to stay here."""
        context, tried = delivery.context, delivery.tried_sites
        if context.asked is None or not (self._is_open or delivery.client.has_begun):
            return None
        asked = self._present(context.asked)
        while (peer := self._router.choose(asked, context.engine_id, tried)) is not None:
            is_new = peer.site not in tried
            if is_new and is_allowed(peer, self._peers, asked.regions):
                return peer
            now_s = time.time()
            self._router.note(peer, TryOutcome(None, 0, 0, now_s, now_s, "cancelled"))
            if not is_new:
                return None
            allowed = ", ".join(sorted(asked.regions))
            found = f"{peer.site} at {peer.url}"
            _log.error("a request was not sent: asked for a site in %s, found %s", allowed, found)
            tried.add(peer.site)
        return None

    async def _watch(self, delivery: Delivery, site: str, scope: CancelScope) -> None:
        """End a call that gets nothing from a site, if the request can go on elsewhere."""
        sent_s = time.monotonic()
        while True:
            await asyncio.sleep(LOOK_S)
            most_s, since_s = self._longest_s(delivery, site), delivery.client.waits_since_s
            if since_s is None or time.monotonic() - max(since_s, sent_s) < most_s:
                continue
            if delivery.can_go_on:
                scope.cancel(ReplicaLostError(f"nothing came from {site} for {most_s:g} s"))
                return

    def _longest_s(self, delivery: Delivery, site: str) -> float:
        """Return for how long nothing may come from a site, s."""
        asked = delivery.context.asked
        if delivery.context.wants_stream or asked is None:
            return STUCK_S if delivery.client.has_begun else FIRST_S
        if self._router.is_lost(site):
            return FIRST_S
        return FIRST_S + SLOW_TOKEN_S * max(LEAST_TOKENS, asked.output_tokens)

    async def _visit(self, delivery: Delivery, peer: SiteTry) -> web.StreamResponse:
        assert self._session is not None, "it was started"
        context, scope = delivery.context, CancelScope()
        visit = Visit(peer, delivery.progress)
        asked = delivery.sent_to_site(_headers_for(delivery, peer), scope)
        context.sent_s, context.on_first_text = self._now_s(), lambda: None
        route, tls = Route(peer.site, peer.url, 1), ServerTls(peer.ssl, peer.site, MOST_BYTES)
        self._scopes.add(scope)
        watch = asyncio.create_task(self._watch(delivery, peer.site, scope))
        visit.end = "cancelled"  # unless it ends in another way
        try:
            async with send_request(self._session, route, asked, scope, tls) as response:
                visit.status = response.status
                visit.reason = response.headers.get(REFUSED, "")
                _raise_refusal(response, peer, delivery)
                context.site = peer.site
                _show(response, peer.site)
                sent = await delivery.relay(response)
            visit.end = "lost" if context.finish in FAILED else "served"
            return sent
        except ReplicaUnreachableError:
            visit.end = "unreachable"
            raise
        except RefusedBySiteError:
            visit.end = "refused"
            raise
        except ReplicaError as error:
            visit.end = "lost"
            context.failed_s += self._now_s() - context.sent_s
            raise SiteLostError(str(error)) from error
        finally:
            watch.cancel()
            self._scopes.discard(scope)
            outcome = visit.outcome(delivery)
            self.energy.note(context.id, peer, outcome)
            self._router.note(peer, outcome)


def is_allowed(peer: SiteTry, peers: Mapping[str, PeerSection], regions: frozenset[str]) -> bool:
    """Return whether a request may go to a site; where that is, the configuration says.

    Args:
        peer: What the router has chosen.
        peers: The other sites of the configuration, by name.
        regions: The regions that the tenant allows.
    """
    known = peers.get(peer.site)
    return known is not None and known.url == peer.url and known.region in regions


def _headers_for(delivery: Delivery, peer: SiteTry) -> Headers:
    """Return all headers of a call to another site: nothing that names the client or its tenant."""
    asked = delivery.context.asked
    headers: Headers = CIMultiDict(
        (name, value) for name in _SENT_HEADERS for value in delivery.headers.getall(name, ())
    )
    if delivery.context.tail is not None and not delivery.client.has_begun:
        headers[ENERGY_HEADER] = "true"  # that site has the meters
    if asked is not None and asked.revision is not None:
        headers[REVISION] = asked.revision
    headers.update(peer.headers)
    return headers


def _raise_refusal(response: ReplicaResponse, peer: SiteTry, delivery: Delivery) -> None:
    """Raise RefusedBySiteError for an answer that is none to the request itself."""
    status, kind = response.status, response.headers.get("Content-Type", "")
    if isinstance(response, StreamedResponse):
        status = find_error_status(response.first) or status
        is_answer = status == 200
    else:
        is_json = kind.partition(";")[0].strip().lower() == "application/json"
        is_answer = status == 200 and is_json and not delivery.context.wants_stream
    if not is_answer and (status not in _FAULTS or delivery.client.has_begun):
        raise RefusedBySiteError(f"{peer.site} answered {status}, {kind:.80}")


def _show(response: ReplicaResponse, site: str) -> None:
    """Leave the headers that are for the client, and add the name of the site."""
    for name in {name for name in response.headers if name.lower() not in _KEPT_HEADERS}:
        response.headers.popall(name)
    response.headers[SITE_HEADER] = site


def sites_of(
    settings: GatewaySettings,
    router: RouterService | None,
    now_s: Callable[[], float],
    tenant_of: Callable[[str], Tenant | None],
) -> OtherSites | None:
    """Return the other sites of a gateway; None without any.

    Args:
        settings: Those of the gateway.
        router: Chooses a site, in place of that of the settings.
        now_s: Reads the monotonic clock, s.
        tenant_of: Returns a tenant by its name, as it is now; None for an unknown one.

    Raises:
        UsageError: The certificate or a key of this site cannot be read.
    """
    section = settings.sites
    if section is None:
        return None
    if router is None:
        from steppe.sites.router import SiteRouter  # most gateways have no other sites

        secret = dict(settings.replica_headers).get(RUN_SECRET, "")
        router = SiteRouter(section, run_secret=secret, gateways=settings.gateways, now_s=now_s)
    region = section.region

    def present(asked: RequestView) -> RequestView:
        return allowed_now(asked, tenant_of(asked.tenant) or Tenant(asked.tenant), region)

    return OtherSites(section, router, settings.connect_timeout_s, now_s, present)

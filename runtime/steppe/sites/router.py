"""The object that a gateway asks: which site is to serve this request?

It reads the state of the sites service once a period, chooses, signs the token of a request that
leaves, and sends the service what became of each. While the service is silent, all stays here.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import logging
import random
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

import aiohttp
from prometheus_client import Metric

from steppe.config.sites import SitesSection
from steppe.engine.run_secret import secret_headers
from steppe.errors import SteppeError, UsageError
from steppe.ledger.signing import PrivateKey
from steppe.sites.beats.exchange import EpochS
from steppe.sites.beats.fields import SiteMessageError
from steppe.sites.notes import Notes
from steppe.sites.peer import HOP, OF_THE_REQUEST, SiteTry, TryOutcome
from steppe.sites.router_counts import RouterCounts
from steppe.sites.routing import Routing
from steppe.sites.settlement.sent import Sent
from steppe.sites.state import PATH as STATE
from steppe.sites.state import read_state
from steppe.sites.trust.tls import SiteTls, TlsFiles
from steppe.sites.trust.token import HEADER, LIFE_S, Token, sign_token
from steppe.sites.view import RequestView

PRIORITY, REQUEST_ID = "x-steppe-priority", "x-request-id"
UJ_PER_J = 1_000_000
_LEAST_TIMEOUT_S, _STOP_S = 2.0, 3.0
_PSEUDONYM_CHARS = 16

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Try:
    """A request that is at another site.

    Attributes:
        asked: What is known of it.
        most_uj: Energy that its token pays for, uJ.
    """

    asked: RequestView
    most_uj: int


class SiteRouter:
    """Chooses sites for one gateway; use it on one event loop."""

    def __init__(
        self,
        section: SitesSection,
        *,
        run_secret: str = "",
        gateways: int = 1,
        now_s: Callable[[], float] = time.monotonic,
        epoch_s: EpochS = time.time,
        rng: random.Random | None = None,
    ) -> None:
        """Load the certificate and the keys; it knows no other site before `start`.

        Args:
            section: The other sites.
            run_secret: The secret of the run, which its sites service asks for.
            gateways: How many gateways share the leases of this site.
            now_s: Reads the monotonic clock, s.
            epoch_s: The clock by which tokens end, s since the Unix epoch.
            rng: Chance; its own if None.

        Raises:
            UsageError: A file cannot be read, or holds something else.
        """
        self._section, self._now_s, self._epoch_s = section, now_s, epoch_s
        self._key = PrivateKey.read(section.token_key)
        self._tls = SiteTls(TlsFiles(section.certificate, section.key, section.authority))
        self._urls = {peer.name: peer.url for peer in section.peers}
        self._routing = Routing(
            section.name,
            {peer.name: peer.region for peer in section.peers},
            now_s=now_s(),
            rng=rng or random.Random(),
            share=1.0 / gateways,
        )
        self._most_uj = round(section.most_j * UJ_PER_J)
        self._headers = dict(secret_headers(run_secret))
        self._counts, self._notes = RouterCounts(), Notes()
        self._tries: dict[str, _Try] = {}
        self._url: str | None = None
        self._problem = ""
        self._session: aiohttp.ClientSession | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to read the state of the sites service, as soon as its URL is known."""
        timeout_s = max(_LEAST_TIMEOUT_S, self._section.period_s)
        self._session = aiohttp.ClientSession(
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=timeout_s),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._send())]

    async def stop(self) -> None:
        """Send what was noted, for a short while, and stop."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._tasks = []
        if self._session is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_S):
                await self.send_notes()
        await self._session.close()
        self._session = None

    def set_url(self, url: str | None) -> None:
        """Set where the sites service of the run listens; None: it does not run."""
        self._url = url or None
        if self._url is None:
            self._routing.forget()

    def choose(self, asked: RequestView, engine_id: str, tried: Collection[str]) -> SiteTry | None:
        """Return the site to send a request to; None if it is to stay here."""
        site, reason = self._routing.choose(asked, tried, self._now_s())
        self._counts.choose(site or self._section.name, reason)
        if site is None:
            return None
        request = f"{engine_id}.{len(tried) + 1}"
        self._tries[request] = _Try(asked, self._most_uj)
        headers = {
            HOP: "1",
            HEADER: self._signed(asked, site, request),
            PRIORITY: asked.priority,
            REQUEST_ID: request,
        }
        found = SiteTry(site, self._urls[site], self._tls.client, headers, request)
        pool = self._routing.pool_of(site, asked.model)
        if pool is None:
            return found
        per_token, per_prompt = pool.uj_per_token, pool.prompt_uj_per_token
        return replace(found, uj_per_token=per_token, prompt_uj_per_token=per_prompt)

    def note(self, peer: SiteTry, outcome: TryOutcome) -> None:
        """Note how a try ended; called once for each peer that `choose` returned."""
        tried = self._tries.pop(peer.request, None)
        if tried is None:
            return
        asked, routing, tokens = tried.asked, self._routing, outcome.output_tokens
        match outcome.end:
            case "served":
                routing.serve(asked, peer.site, tokens)
            case "cancelled":
                routing.end(asked, peer.site, tokens)
            case "refused" if outcome.reason in OF_THE_REQUEST:  # the next one is none the worse
                routing.end(asked, peer.site, tokens)
            case _:
                routing.refuse(
                    asked, peer.site, self._now_s(), status=outcome.status, output_tokens=tokens
                )
        self._counts.end(peer.site, outcome)
        self._notes.add(_note_of(peer, tried, outcome))

    def is_lost(self, site: str) -> bool:
        """Return whether the heartbeats of a site are missing; not while that is unknown."""
        return self._routing.is_lost(site, self._now_s())

    def exposition(self) -> list[Metric]:
        """Return its metrics."""
        now_s = self._now_s()
        return self._counts.metrics(
            usable=self._routing.usable,
            resting=self._routing.resting(now_s),
            sites=self._routing.regions,
            age_s=self._routing.age_s(now_s),
            moved=self._routing.moved,
            notes=self._notes,
        )

    async def read_state(self) -> None:
        """Read the state of the sites service once; a failure is logged when it begins."""
        url = self._url
        if self._session is None or url is None:
            return
        read_s = self._now_s()
        try:
            async with self._session.get(url + STATE) as answer:
                body = await answer.read()
                if answer.status != 200:
                    raise SiteMessageError(f"asked for status 200, found {answer.status}")
            if url == self._url:  # else it was of a service that is gone
                self._routing.update(read_state(body, read_s), read_s)
        except (aiohttp.ClientError, OSError, SteppeError) as error:
            self._fail(f"no state of the sites service: {type(error).__name__}: {error}")
        else:
            self._fail("")

    async def send_notes(self) -> None:
        """Send all notes; those that do not arrive are sent again the next time."""
        if self._session is not None and self._url is not None:
            await self._notes.send(self._session, self._url)

    async def _read(self) -> None:
        while True:
            await self.read_state()
            self._reload()
            await asyncio.sleep(self._section.period_s)

    async def _send(self) -> None:
        while True:
            await asyncio.sleep(self._section.period_s)
            await self.send_notes()

    def _reload(self) -> None:
        """Load a renewed certificate; the one before stays if it cannot be read."""
        try:
            if self._tls.reload():
                _log.info("the certificate of this site was loaded anew")
        except UsageError as error:
            _log.warning("%s", error)

    def _fail(self, problem: str) -> None:
        if problem and not self._problem:
            _log.warning("%s; all requests stay here", problem)
        elif self._problem and not problem:
            _log.info("the sites service answers again")
        self._problem = problem

    def _signed(self, asked: RequestView, site: str, request: str) -> str:
        """Return the token of a request."""
        issued_s = int(self._epoch_s())
        token = Token(
            home=self._section.name,
            target=site,
            tenant=self._pseudonym(asked.tenant, site),
            request=request,
            most_uj=self._most_uj,
            issued_s=issued_s,
            expires_s=issued_s + LIFE_S,
        )
        return sign_token(token, self._key)

    def _pseudonym(self, tenant: str, site: str) -> str:
        """Return what a site sees of a tenant: always the same, and another one at each site."""
        text = f"steppe tenant\0{site}\0{tenant}".encode()
        return hmac.new(self._key.seed, text, hashlib.sha256).hexdigest()[:_PSEUDONYM_CHARS]


def _note_of(peer: SiteTry, tried: _Try, outcome: TryOutcome) -> Sent:
    return Sent(
        request=peer.request,
        target=peer.site,
        tenant=tried.asked.tenant,
        model=tried.asked.model,
        prompt_tokens=outcome.prompt_tokens,
        output_tokens=outcome.output_tokens,
        started_us=round(outcome.started_epoch_s * 1e6),
        ended_us=round(outcome.ended_epoch_s * 1e6),
        end=outcome.end,
        status=outcome.status or 0,
        most_uj=tried.most_uj,
    )

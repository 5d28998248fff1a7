"""Other sites with a real TLS port on this host, and a router that a test decides for."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prometheus_client import Metric
from tests.fixtures.beating_sites import tls_of
from tests.gateway.site import Site, SiteFactory
from tests.gateway.token_replica import TokenReplica

from steppe.config.sites import SitesSection
from steppe.gateway.access import OPEN, AccessSettings
from steppe.gateway.ledger.link import LedgerLink
from steppe.sites.peer import SiteTry, TryOutcome
from steppe.sites.trust.certificates import Credential, new_authority
from steppe.sites.trust.tls import SiteTls
from steppe.sites.view import RequestView

HOME = "hohhot"
REGIONS = {HOME: "cn", "shanghai": "cn", "guizhou": "cn", "lyon": "eu"}


@dataclass
class FakeRouter:
    """Sends requests to these sites in turn, and then keeps them here."""

    peers: dict[str, SiteTry] = field(default_factory=dict)
    plan: list[str] = field(default_factory=list)
    asked: list[RequestView] = field(default_factory=list)
    tried: list[frozenset[str]] = field(default_factory=list)
    noted: list[tuple[str, TryOutcome]] = field(default_factory=list)
    url: str | None = None
    lost: set[str] = field(default_factory=set)

    def choose(self, asked: RequestView, engine_id: str, tried: Collection[str]) -> SiteTry | None:
        self.asked.append(asked)
        self.tried.append(frozenset(tried))
        return self.peers[self.plan.pop(0)] if self.plan else None

    def note(self, peer: SiteTry, outcome: TryOutcome) -> None:
        self.noted.append((peer.site, outcome))

    def is_lost(self, site: str) -> bool:
        return site in self.lost

    def exposition(self) -> Iterable[Metric]:
        return ()

    def set_url(self, url: str | None) -> None:
        self.url = url

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    @property
    def ends(self) -> list[tuple[str, str]]:
        """Where requests went, and how that ended."""
        return [(site, outcome.end) for site, outcome in self.noted]


@dataclass
class Sites:
    """The home site with its gateway, and the other sites."""

    home: Site
    router: FakeRouter
    others: dict[str, TokenReplica]


@dataclass
class SitesMaker:
    """Makes sites that a test needs."""

    folder: Path
    open_site: SiteFactory
    authority: Credential = field(default_factory=lambda: new_authority("sites", time.time()))

    def tls(self, site: str) -> SiteTls:
        """Return the certificate of a site."""
        return tls_of(self.folder, site, self.authority)

    async def __call__(
        self,
        *names: str,
        access: AccessSettings = OPEN,
        run_secret: str = "",
        max_wait_s: float = 1.0,
        certificate_of: str = "",
        ledger: LedgerLink | None = None,
        **settings: Any,
    ) -> Sites:
        """Return the home site and these others; `settings` are those of their replicas."""
        others = {name: TokenReplica(name, **settings) for name in names}
        for name, other in others.items():
            other.tls = self.tls(certificate_of or name).server
            other.may_answer.set()
            await other.start()
        tls, router = self.tls(HOME), FakeRouter()
        for name, other in others.items():
            headers = {"x-steppe-hop": "1", "x-steppe-tenant-token": "JWS", "x-request-id": "e.1"}
            router.peers[name] = SiteTry(name, other.url, tls.client, headers, "e.1")
        section = section_of({name: other.url for name, other in others.items()}, max_wait_s)
        home = await self.open_site(
            sites=section,
            router=router,
            access=access,
            run_secret=run_secret,
            ledger=ledger,
            stale_s=math.inf,
        )
        for other in others.values():
            home.stack.push_async_callback(other.stop)
        return Sites(home, router, others)


def section_of(urls: dict[str, str], max_wait_s: float = 1.0) -> SitesSection:
    """Return the section of the home site."""
    peers: Sequence[dict[str, Any]] = [
        {"name": name, "url": url, "region": REGIONS[name], "token_keys": ["k"]}
        for name, url in urls.items()
    ]
    return SitesSection.model_validate(
        {
            "name": HOME,
            "region": REGIONS[HOME],
            "certificate": "c.pem",
            "key": "k.pem",
            "authority": "a.pem",
            "token_key": "t.pem",
            "peers": list(peers),
            "max_wait_s": max_wait_s,
        }
    )

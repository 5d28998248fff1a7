"""Where a gateway sends a request that another site is to serve, and how that ended."""

from __future__ import annotations

import ssl
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from prometheus_client import Metric

from steppe.config.tenants import SITE_TENANT
from steppe.sites.view import RequestView

__all__ = [
    "CONVERSATION",
    "HOP",
    "OF_THE_REQUEST",
    "REFUSED",
    "REVISION",
    "SITE_TENANT",
    "End",
    "Router",
    "RouterService",
]

HOP = "x-steppe-hop"
"""Header of a call that another site has sent on: `1`. Such a call is not sent on again."""
REVISION = "x-steppe-revision"
"""Header with the revision of a model that a client insists on."""
CONVERSATION = "x-steppe-conversation"
"""Header with the key of a conversation, if the body has none."""

REFUSED = "x-steppe-refused"
"""Header of an answer of the door of a site, with the reason: the gateway there has not had the
call, or could not take it. The home site serves it, or asks another one."""
OF_THE_REQUEST = frozenset(
    {"body_too_large", "not_json", "other_revision", "path_not_allowed", "too_much_energy"}
)
"""Reasons of a refusal that say nothing of the site, but of the request."""

End = Literal["served", "refused", "lost", "cancelled", "unreachable"]


@dataclass(frozen=True, slots=True)
class SiteTry:
    """One try of a request at another site.

    Attributes:
        site: Name of the site.
        url: Where it listens for sites: `https://HOST:PORT`, without a path.
        ssl: TLS context with the certificate of this site, for a client.
        headers: Headers for this try alone: hop, token, priority and `x-request-id`.
        request: Id of this try, which the token and the receipt of that site name.
        uj_per_token: Energy per output token that the site shows, uJ; 0 if unknown.
        prompt_uj_per_token: Energy per prompt token that it shows, uJ.
    """

    site: str
    url: str
    ssl: ssl.SSLContext = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    request: str
    uj_per_token: float = 0.0
    prompt_uj_per_token: float = 0.0


@dataclass(frozen=True, slots=True)
class TryOutcome:
    """How a try at another site ended.

    Attributes:
        status: HTTP status that it answered; None without an answer.
        prompt_tokens: Prompt tokens that it computed or found in its cache; 0 if it served nothing.
        output_tokens: Output tokens that came from it.
        started_epoch_s: When the request was sent there, s since the Unix epoch.
        ended_epoch_s: When the answer ended, s since the Unix epoch.
        end: `served`: the answer is complete, or the client's own fault (4xx). `refused`: it
            answered 401, 403, 429 or 5xx before the first byte. `lost`: the connection broke, or
            the engine failed, in the middle. `cancelled`: the client has left, or this gateway has
            stopped. `unreachable`: it took no connection, so it never had the request.
        reason: Why the door of the site refused it (`REFUSED`); empty if it did not.
    """

    status: int | None
    prompt_tokens: int
    output_tokens: int
    started_epoch_s: float
    ended_epoch_s: float
    end: End
    reason: str = ""


class Router(Protocol):
    """Chooses the site of each request; `SiteRouter(section, run_secret=...)` is one."""

    def choose(self, asked: RequestView, engine_id: str, tried: Collection[str]) -> SiteTry | None:
        """Return the site to send a request to; None if it is to stay here.

        The caller sends it there, and calls `note` for each peer that it got.

        Args:
            asked: What is known of it. `asked.output_tokens` are those that are still missing.
            engine_id: Id of the request, made by this site; the id of a try is made from it.
            tried: Sites that refused or lost it; none of them is chosen.
        """
        ...

    def note(self, peer: SiteTry, outcome: TryOutcome) -> None:
        """Note how a try ended; called once for each peer that `choose` returned."""
        ...


class RouterService(Router, Protocol):
    """A router with what it needs while a gateway runs."""

    def is_lost(self, site: str) -> bool:
        """Return whether the heartbeats of a site are missing."""
        ...

    async def start(self) -> None:
        """Begin to read the state of the sites service, as soon as its URL is known."""
        ...

    async def stop(self) -> None:
        """Send what was noted and stop."""
        ...

    def exposition(self) -> Iterable[Metric]:
        """Return its metrics for Prometheus."""
        ...

    def set_url(self, url: str | None) -> None:
        """Set where the sites service of the run listens; None: it does not run."""
        ...

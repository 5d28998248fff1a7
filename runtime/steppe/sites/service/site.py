"""What the parts of the sites service share."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from aiohttp import web

from steppe.ledger.entry_log import EntryLog
from steppe.ledger.signing import PublicKey
from steppe.sites.beats.exchange import Exchange, ExchangeRules, OwnBeats
from steppe.sites.beats.message import NO_GRANTS, Beat
from steppe.sites.beats.peers import BeatSettings, PeerTable
from steppe.sites.check import tls_of, token_keys
from steppe.sites.own_view import OwnView
from steppe.sites.service.forward import LocalGateway
from steppe.sites.service.note_book import SentBook
from steppe.sites.service.settings import SitesServiceSettings
from steppe.sites.trust.suspects import Suspect
from steppe.sites.trust.tls import SiteTls


@dataclass(frozen=True, slots=True)
class Clocks:
    """The clocks of a service.

    Attributes:
        monotonic_s: By which everything ages, s.
        epoch_s: For certificates, prices and people, s since the Unix epoch.
    """

    monotonic_s: Callable[[], float] = time.monotonic
    epoch_s: Callable[[], float] = time.time


HOST_CLOCKS = Clocks()


@dataclass(frozen=True, slots=True)
class LocalSite:
    """This site, for the parts of its service.

    Attributes:
        settings: How the service is set up.
        clocks: Its clocks.
        tls: Its certificate.
        keys: The keys of the tokens of each other site.
        gateway: The gateway of the run.
        own: What this site shows of itself.
        beats: Its beats.
        exchange: Their exchange with other sites.
        sent: What was sent to other sites.
        grants: Deferrable work that this site takes of others, output tokens per second by site and
            model.
        suspects: What is held against other sites, by name; a part may change it.
        on_beat: Called with each beat of another site that was taken; a part may add to it.
        log: The log of the ledger; None without a ledger.
    """

    settings: SitesServiceSettings
    clocks: Clocks
    tls: SiteTls
    keys: Mapping[str, tuple[PublicKey, ...]]
    gateway: LocalGateway
    own: OwnView
    beats: OwnBeats
    exchange: Exchange
    sent: SentBook
    grants: dict[str, Mapping[str, float]] = field(default_factory=dict)
    suspects: dict[str, Suspect] = field(default_factory=dict)
    on_beat: list[Callable[[Beat], None]] = field(default_factory=list)
    log: EntryLog | None = None

    @property
    def name(self) -> str:
        """Its name."""
        return self.settings.section.name

    def barred(self) -> dict[str, float]:
        """Return the sites that get no new work, and until when by the monotonic clock, s.

        A site that gives no records is barred until an hour of it fits: here, for one more period.
        """
        now_s = self.clocks.monotonic_s()
        next_s = now_s + self.settings.section.settle_s
        return {
            name: suspect.until_s if suspect.until_s > now_s else next_s
            for name, suspect in self.suspects.items()
            if suspect.is_barred(now_s)
        }


def local_site(
    settings: SitesServiceSettings, clocks: Clocks, sent: SentBook, log: EntryLog | None
) -> LocalSite:
    """Return this site.

    Args:
        settings: How the service is set up.
        clocks: Its clocks.
        sent: What was sent to other sites.
        log: The log of the ledger; None without a ledger.

    Raises:
        ConfigError: A certificate or a key cannot be used.
    """
    section = settings.section
    tls, keys = tls_of(section, clocks.epoch_s()), token_keys(section)
    own = OwnView(section, settings.models)
    beats = OwnBeats(own.shown, secrets.token_hex(8), section.period_s, clocks.epoch_s)
    grants: dict[str, Mapping[str, float]] = {}
    on_beat: list[Callable[[Beat], None]] = []

    def call_all(beat: Beat) -> None:
        for each in on_beat:
            each(beat)

    rules = ExchangeRules(
        {peer.name: peer.region for peer in section.peers},
        lambda site: grants.get(site, NO_GRANTS),
        call_all,
    )
    peers = PeerTable(keys, beats.run, BeatSettings(period_s=section.period_s))
    return LocalSite(
        settings=settings,
        clocks=clocks,
        tls=tls,
        keys=keys,
        gateway=LocalGateway(
            settings.gateway_url, settings.secret_headers, settings.gateway_certificate
        ),
        own=own,
        beats=beats,
        exchange=Exchange(section.name, beats, peers, rules),
        sent=sent,
        grants=grants,
        on_beat=on_beat,
        log=log,
    )


class SitePart(Protocol):
    """A part of the door for other sites."""

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add its routes; each checks the certificate of its caller."""
        ...

    async def start(self) -> None:
        """Begin.

        Raises:
            UsageError: It cannot run as it is configured.
        """
        ...

    async def stop(self) -> None:
        """End."""
        ...

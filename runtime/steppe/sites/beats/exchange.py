"""One site's side of the exchange of beats, without the network: its own beats, and those it takes.

The number of an own beat follows from the time: a site that cannot send still counts, so that what
another site has heard of it grows old.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from steppe.sites.beats.fields import SiteMessageError
from steppe.sites.beats.message import (
    MOST_TTL_MS,
    NO_GRANTS,
    TTL_MS,
    Beat,
    read_beat,
    write_beat,
    write_snapshot,
)
from steppe.sites.beats.peers import Health, PeerTable
from steppe.sites.view import SiteView

_TTL_PERIODS = 10

EpochS = Callable[[], float]
"""Reads the clock of this host, s since the Unix epoch."""


class OwnBeats:
    """The beats of this site: a new one each period, from what it shows of itself."""

    def __init__(
        self, read_view: Callable[[], SiteView], run: str, period_s: float, epoch_s: EpochS
    ) -> None:
        """Begin with number 1 at the first call.

        Args:
            read_view: Returns what the site shows of itself.
            run: 16 hexadecimal digits, by chance.
            period_s: Time between two beats, s.
            epoch_s: The clock that a beat shows to people.
        """
        self._read_view, self._epoch_s = read_view, epoch_s
        self._run, self._period_s = run, period_s
        # Not shorter than the time after which three missed beats lose a site.
        self._ttl_ms = round(min(max(TTL_MS, _TTL_PERIODS * period_s * 1e3), MOST_TTL_MS))
        self._start_s: float | None = None
        self._made, self._snapshot = 0, b""

    @property
    def run(self) -> str:
        """Their run."""
        return self._run

    def seq(self, now_s: float) -> int:
        """Return the number of the beat of now; `now_s` never falls."""
        if self._start_s is None:
            self._start_s = now_s
        return 1 + int((now_s - self._start_s) / self._period_s)

    def snapshot(self, now_s: float) -> bytes:
        """Return the beat of now, without what is for one receiver only."""
        seq = self.seq(now_s)
        if seq != self._made:
            view = replace(self._read_view(), seq=seq, received_s=now_s)
            at_us = round(self._epoch_s() * 1e6)
            self._snapshot, self._made = write_snapshot(view, self._run, at_us, self._ttl_ms), seq
        return self._snapshot


def _ignore(_beat: Beat) -> None:
    pass


@dataclass(frozen=True, slots=True)
class ExchangeRules:
    """What a run adds to the exchange of beats.

    Attributes:
        regions: Where sites lie in law, as the configuration has it: a beat that names another
            region is refused.
        grants_for: Returns the deferrable work that this site takes from another one, output tokens
            per second by model.
        on_beat: Called with each beat that was taken.
    """

    regions: Mapping[str, str] = field(default_factory=dict)
    grants_for: Callable[[str], Mapping[str, float]] = lambda _site: NO_GRANTS
    on_beat: Callable[[Beat], None] = _ignore


class Exchange:
    """Takes beats of other sites, and makes those for them."""

    def __init__(
        self, site: str, own: OwnBeats, peers: PeerTable, rules: ExchangeRules = ExchangeRules()
    ) -> None:
        """Keep its parts.

        Args:
            site: Name of this site.
            own: Its beats.
            peers: What it knows of the others.
            rules: What a run adds.
        """
        self.site, self.peers, self._own, self._rules = site, peers, own, rules

    def take(self, body: bytes, peer: str, now_s: float) -> None:
        """Take up a beat that a site has sent.

        Args:
            body: What was received.
            peer: The site, as its certificate names it.
            now_s: Monotonic clock of this host, s.

        Raises:
            MessageError: It is no beat, of another site or region, or for another site.
            StaleBeatError: There is a newer one.
        """
        beat = read_beat(body, now_s)
        if beat.site != peer:
            raise SiteMessageError(f"beat.site: asked for {peer}, found {beat.site}")
        if beat.to != self.site:
            raise SiteMessageError(f"beat.to: asked for {self.site}, found {beat.to}")
        region = self._rules.regions.get(peer, beat.view.region)
        if beat.view.region != region:
            raise SiteMessageError(f"beat.region: asked for {region}, found {beat.view.region}")
        self.peers.receive(beat, self._own.seq(now_s))
        self._rules.on_beat(beat)

    def beat_for(self, peer: str, now_s: float) -> bytes:
        """Return the beat for a site."""
        peers = self.peers
        return write_beat(
            self._own.snapshot(now_s),
            peer,
            peers.newest(peer),
            peers.measured_s(peer),
            self._rules.grants_for(peer),
        )

    def healths(self, now_s: float) -> dict[str, Health]:
        """Return which sites may get work, and why others may not."""
        return self.peers.healths(now_s)

    def live(self, now_s: float) -> list[SiteView]:
        """Return what is known of the sites that may get work."""
        return self.peers.live(now_s)

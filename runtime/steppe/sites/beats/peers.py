"""What a site knows of each other one, from beats: pure, the time is passed in.

A site is lost after three missed beats. A site that comes back has to be heard three times in a
row; one that is lost again and again is damped as a route that flaps is (RFC 2439): each loss adds
a penalty, which halves every minute, and above a limit the site stays out until the penalty is low.
A site whose beats come but that no longer gets ours gets no work either: an answer would not come
back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from steppe.errors import SteppeError
from steppe.sites.beats.message import Beat, Origin
from steppe.sites.view import SiteView

RTTS = 100
"""Round trips of which the least is taken."""
_EARLIER_RUNS = 16


class Health(StrEnum):
    """Whether a site may get work, and why not."""

    LIVE = "live"
    UNHEARD = "unheard"
    LOST = "lost"
    RETURNING = "returning"
    DAMPED = "damped"
    ONE_WAY = "one_way"


class StaleBeatError(SteppeError):
    """A beat is not newer than the last one of its site, or is of a run that has ended."""


@dataclass(frozen=True, slots=True)
class BeatSettings:
    """When a site is lost, and when it may come back.

    Attributes:
        period_s: Time between two beats, s.
        missed: So many beats in a row that do not come, and a site is lost.
        returns: So many beats in a row, and it is back.
        half_life_s: The penalty of losses halves in this time, s.
        damp_at: Penalty from which it is damped; each loss adds 1.
        free_at: Penalty below which it is free again.
    """

    period_s: float = 1.0
    missed: int = 3
    returns: int = 3
    half_life_s: float = 60.0
    damp_at: float = 2.5
    free_at: float = 1.0

    @property
    def lost_after_s(self) -> float:
        """Age of the last beat at which its site is lost, s: half a period for the jitter."""
        return (self.missed + 0.5) * self.period_s


@dataclass(frozen=True, slots=True)
class _Damping:
    """The penalty of a site that flaps.

    Attributes:
        penalty: Penalty at `at_s`.
        at_s: Time of the last loss, s.
        is_damped: Whether it was damped then.
    """

    penalty: float = 0.0
    at_s: float = 0.0
    is_damped: bool = False

    def penalty_at(self, now_s: float, settings: BeatSettings) -> float:
        """Return the penalty now."""
        return float(self.penalty * 0.5 ** ((now_s - self.at_s) / settings.half_life_s))

    def after_loss(self, now_s: float, settings: BeatSettings) -> _Damping:
        """Return it after one more loss."""
        # A cap, so that the longest time out is some minutes, however often it flapped.
        penalty = min(self.penalty_at(now_s, settings) + 1, 4 * settings.damp_at)
        return _Damping(penalty, now_s, self.damps(now_s, settings) or penalty >= settings.damp_at)

    def damps(self, now_s: float, settings: BeatSettings) -> bool:
        """Return whether the site stays out."""
        return self.is_damped and self.penalty_at(now_s, settings) >= settings.free_at


@dataclass(slots=True)
class Peer:
    """What is known of one site.

    Attributes:
        beat: Its last beat; None before the first one.
        in_row: Beats in a row since it was last lost.
        losses: How often it was lost.
        rtts_s: Last round trips, s.
        earlier: Runs of it that have ended.
        damping: The penalty of its losses.
        is_lost: Whether it is lost now.
        hears_us: Whether its last beat named one of our newest ones.
    """

    beat: Beat | None = None
    in_row: int = 0
    losses: int = 0
    rtts_s: deque[float] = field(default_factory=lambda: deque(maxlen=RTTS))
    earlier: deque[str] = field(default_factory=lambda: deque(maxlen=_EARLIER_RUNS))
    damping: _Damping = field(default_factory=_Damping)
    is_lost: bool = False
    hears_us: bool = False

    @property
    def rtt_s(self) -> float | None:
        """Least round trip of the last 100, s; what the peer measured if we have none."""
        if self.rtts_s:
            return min(self.rtts_s)
        return None if self.beat is None else self.beat.rtt_s


class PeerTable:
    """The other sites, as their beats show them."""

    def __init__(self, names: Iterable[str], run: str, settings: BeatSettings) -> None:
        """Know their names, and nothing else.

        Args:
            names: The other sites.
            run: The run of this site's own beats.
            settings: When a site is lost.
        """
        self._peers = {name: Peer() for name in sorted(names)}
        self._run, self._settings = run, settings

    @property
    def names(self) -> tuple[str, ...]:
        """The other sites."""
        return tuple(self._peers)

    def receive(self, beat: Beat, own_seq: int) -> None:
        """Take up a beat; the same one again changes nothing.

        Args:
            beat: The beat, received at `beat.view.received_s`.
            own_seq: Number of our newest beat then.

        Raises:
            KeyError: Its site is not in the table.
            StaleBeatError: There is a newer one.
        """
        peer, now_s = self._peers[beat.site], beat.view.received_s
        if peer.beat is not None and peer.beat.origin == beat.origin:
            return
        _check_newer(peer, beat)
        self._lose_if_late(peer, now_s)
        peer.in_row, peer.is_lost = (1 if peer.is_lost else peer.in_row + 1), False
        if peer.beat is not None and peer.beat.origin.run != beat.origin.run:
            peer.earlier.append(peer.beat.origin.run)
        peer.beat, peer.hears_us = beat, self._hears_us(beat, own_seq)

    def note_rtt(self, site: str, rtt_s: float) -> None:
        """Note how long an exchange with a site took."""
        self._peers[site].rtts_s.append(rtt_s)

    def newest(self, site: str) -> Origin | None:
        """Return the newest beat of a site; None before the first one."""
        beat = self._peers[site].beat
        return None if beat is None else beat.origin

    def measured_s(self, site: str) -> float | None:
        """Return the least of the last round trips to a site that we measured, s."""
        return min(self._peers[site].rtts_s, default=None)

    def last(self, site: str) -> Beat | None:
        """Return the last beat of a site; None before the first one."""
        return self._peers[site].beat

    def rtt_s(self, site: str) -> float | None:
        """Return the least round trip to a site, s; None before one was measured."""
        return self._peers[site].rtt_s

    def losses(self, site: str) -> int:
        """Return how often a site was lost."""
        return self._peers[site].losses

    def age_s(self, site: str, now_s: float) -> float | None:
        """Return the age of the last beat of a site, s; None before the first one."""
        beat = self._peers[site].beat
        return None if beat is None else now_s - beat.view.received_s

    def health(self, site: str, now_s: float) -> Health:
        """Return whether a site may get work; `now_s` is the monotonic clock of this host."""
        peer = self._peers[site]
        self._lose_if_late(peer, now_s)
        if peer.beat is None:
            return Health.UNHEARD
        if peer.is_lost:
            return Health.LOST
        if peer.damping.damps(now_s, self._settings):
            return Health.DAMPED
        if peer.losses and peer.in_row < self._settings.returns:
            return Health.RETURNING
        return Health.LIVE if peer.hears_us else Health.ONE_WAY

    def healths(self, now_s: float) -> dict[str, Health]:
        """Return the health of all sites."""
        return {name: self.health(name, now_s) for name in self._peers}

    def live(self, now_s: float) -> list[SiteView]:
        """Return what is known of the sites that may get work."""
        return [
            peer.beat.view
            for name, peer in self._peers.items()
            if self.health(name, now_s) is Health.LIVE and peer.beat is not None
        ]

    def _hears_us(self, beat: Beat, own_seq: int) -> bool:
        """Return whether the sender of a beat has one of our last beats.

        Both numbers are ours: no clock of another host is read.
        """
        heard = beat.heard
        if heard is None or heard.run != self._run:
            return own_seq <= self._settings.missed
        return own_seq - heard.seq <= self._settings.missed

    def _lose_if_late(self, peer: Peer, now_s: float) -> None:
        if peer.beat is None or peer.is_lost:
            return
        longest_s = min(self._settings.lost_after_s, peer.beat.ttl_s)
        lost_s = peer.beat.view.received_s + longest_s
        if now_s > lost_s:
            peer.is_lost, peer.in_row, peer.losses = True, 0, peer.losses + 1
            peer.damping = peer.damping.after_loss(lost_s, self._settings)


def _check_newer(peer: Peer, beat: Beat) -> None:
    if peer.beat is None:
        return
    last, new = peer.beat.origin, beat.origin
    if new.run in peer.earlier:
        raise StaleBeatError(f"{beat.site}: beat of run {new.run}, which has ended")
    if new.run == last.run and new.seq < last.seq:
        raise StaleBeatError(f"{beat.site}: asked for a beat after {last.seq}, found {new.seq}")

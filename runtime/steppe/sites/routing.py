"""Where the requests of one gateway go: what it knows of the sites, and what it has sent there.

`decide` is a pure function of this. Here is its memory: requests since the last heartbeats, what is
left of the quotas, conversations, and sites that refused. It knows nothing of networks.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Literal, NamedTuple

from steppe.sites.beats.peers import Health
from steppe.sites.decide import Reason, decide
from steppe.sites.pins import Pins
from steppe.sites.prepared import PreparedSites, Weights
from steppe.sites.quotas import Quotas
from steppe.sites.state import SitesState
from steppe.sites.view import PoolView, RequestView, SiteView

MOST_TRIES = 2
"""A request goes to at most so many other sites."""
STALE_PERIODS = 3.0
"""A state that is older gives no other site, heartbeats."""
MISSED_PERIODS = 4.5
"""A site whose heartbeat is older gets nothing new: the service calls it lost at 3.5 periods, and
its state is read once a period."""
FIRST_REST_S, LONGEST_REST_S = 2.0, 60.0
"""A site that refused gets nothing new for so long: twice as long each time, until it serves."""
OF_THIS_REQUEST = 403
"""A refusal with this status may be because of the request: the next one does not rest longer."""

USUAL_WEIGHTS = Weights()

_log = logging.getLogger(__name__)

Why = Reason | Literal["alone", "tried"]


class Destination(NamedTuple):
    """Where a request goes.

    Attributes:
        site: Name of the other site; None if it stays here.
        reason: Why, as in `Choice`; `alone`: nothing recent is known of other sites; `tried`: as
            many have had it as may.
    """

    site: str | None
    reason: Why


class _Rest(NamedTuple):
    """A site that refused.

    Attributes:
        until_s: Nothing new goes there before, s.
        lasts_s: How long that is, s.
    """

    until_s: float
    lasts_s: float


class Routing:
    """Chooses the site of each request.

    Attributes:
        regions: The other sites of the configuration, and where each lies in law.
        moved: Conversations that moved to another site.
    """

    def __init__(
        self,
        here: str,
        regions: Mapping[str, str],
        *,
        now_s: float,
        rng: random.Random,
        share: float = 1.0,
        weights: Weights = USUAL_WEIGHTS,
    ) -> None:
        """Begin alone, until the first state.

        Args:
            here: Name of this site.
            regions: The other sites of the configuration, and where each lies in law.
            now_s: Now, by the clock of all times here, s.
            rng: Chance.
            share: Part of the leases of this site that this gateway may use.
            weights: What the parts of a cost are worth.
        """
        self.regions, self.moved = dict(regions), 0
        self._here, self._names = here, (here, *regions)
        self._rng, self._share, self._weights = rng, share, weights
        self._quotas, self._pins = Quotas(self._names, now_s), Pins()
        self._state: SitesState | None = None
        self._read_s, self._stale_s = -math.inf, 0.0
        self._sites: PreparedSites | None = None
        self._rests: dict[str, _Rest] = {}
        self._refused: dict[str, float] = {}
        self._misplaced: set[str] = set()
        self._usable: frozenset[str] = frozenset()

    @property
    def usable(self) -> frozenset[str]:
        """The other sites that may get work by the last state."""
        return self._usable

    def age_s(self, now_s: float) -> float:
        """Return how old the last state is, s; infinite before the first."""
        return now_s - self._read_s

    def resting(self, now_s: float) -> frozenset[str]:
        """Return the sites that refused lately."""
        return frozenset(site for site, rest in self._rests.items() if rest.until_s > now_s)

    def is_lost(self, site: str, now_s: float) -> bool:
        """Return whether a recent state says that the heartbeats of a site are missing."""
        if self._state is None or self.age_s(now_s) > self._stale_s:
            return False
        lost = (peer.site for peer in self._state.peers if peer.health is Health.LOST)
        return site in lost

    def pool_of(self, site: str, model: str) -> PoolView | None:
        """Return what another site last showed of its replicas of a model; None without any."""
        peers = () if self._state is None else self._state.peers
        views = (peer.view for peer in peers if peer.site == site)
        return next((view.pools.get(model) for view in views if view is not None), None)

    def update(self, state: SitesState, read_s: float) -> None:
        """Take a state of the sites service.

        Args:
            state: The state.
            read_s: When it was asked for, s.
        """
        is_new_run = self._state is None or state.run != self._state.run
        self._state, self._read_s = state, read_s
        self._stale_s = STALE_PERIODS * state.period_s
        resting = self.resting(read_s)
        self._refused = {site: self._rests[site].until_s for site in resting}
        peers = self._peers(state, read_s)
        self._usable = frozenset(peers)
        if state.here is None or state.here.site != self._here:
            self._sites = None
            return
        self._sites = PreparedSites(
            self._names,
            state.here,
            peers,
            {peer.site: peer.rtt_s for peer in state.peers},
            self._weights,
            before=None if is_new_run else self._sites,
            missed_s=MISSED_PERIODS * state.period_s,
        )
        self._quotas.advance(read_s)
        self._quotas.grant(
            replace(
                lease,
                output_tps=lease.output_tps * self._share,
                ramp_tps2=lease.ramp_tps2 * self._share,
            )
            for lease in state.leases
            if lease.site in self.regions
        )

    def forget(self) -> None:
        """Know nothing of other sites until the next state: the service does not run."""
        self._sites, self._usable, self._read_s = None, frozenset(), -math.inf

    def choose(self, asked: RequestView, tried: Collection[str], now_s: float) -> Destination:
        """Return where a request goes, and count it there.

        Args:
            asked: What is known of it.
            tried: Sites that it does not go to again.
            now_s: Now, s.
        """
        sites = self._sites
        if sites is None or now_s - self._read_s > self._stale_s:
            return Destination(None, "alone")
        if len(tried) >= MOST_TRIES:
            return Destination(None, "tried")
        conversation, refused = asked.conversation, self._refused
        pin = self._pins.find(conversation, now_s) if conversation is not None else None
        if tried:
            refused = refused | dict.fromkeys(tried, math.inf)
        site, reason = decide(
            asked, sites, self._quotas, pin=pin, refused=refused, now_s=now_s, rng=self._rng
        )
        if site is None:
            return Destination(None, reason)
        sites.take(asked, site)
        if conversation is not None:
            if pin is not None and pin.site != site:
                self.moved += 1
            cached_tokens = asked.prompt_tokens + asked.output_tokens
            self._pins.keep(conversation, site, cached_tokens, now_s)
        if site == self._here:
            return Destination(None, reason)
        self._quotas.spend(site, asked.model, asked.priority, asked.output_tokens)
        return Destination(site, reason)

    def serve(self, asked: RequestView, site: str, output_tokens: int) -> None:
        """Note that a site has answered a request, with so many output tokens."""
        self._rests.pop(site, None)
        self._refused.pop(site, None)
        self._settle(asked, site, output_tokens)

    def end(self, asked: RequestView, site: str, output_tokens: int) -> None:
        """Note that a request ended at a site, and by no fault of it."""
        self._settle(asked, site, output_tokens)

    def refuse(
        self,
        asked: RequestView,
        site: str,
        now_s: float,
        *,
        status: int | None,
        output_tokens: int = 0,
    ) -> None:
        """Note that a site refused a request or lost it: nothing new goes there for a while.

        Args:
            asked: The request.
            site: The site.
            now_s: Now, s.
            status: HTTP status of its answer; None without one.
            output_tokens: Output tokens that came before.
        """
        rest = self._rests.get(site)
        if rest is not None and rest.until_s > now_s:
            lasts_s = rest.lasts_s  # of a request that was there before it began to rest
        elif status == OF_THIS_REQUEST or rest is None:
            lasts_s = FIRST_REST_S
        else:
            lasts_s = min(2.0 * rest.lasts_s, LONGEST_REST_S)
        self._rests[site] = _Rest(now_s + lasts_s, lasts_s)
        self._refused[site] = now_s + lasts_s
        if asked.conversation is not None:
            pin = self._pins.find(asked.conversation, now_s)
            if pin is not None and pin.site == site:
                self._pins.drop(asked.conversation)
        self._settle(asked, site, output_tokens)

    def _settle(self, asked: RequestView, site: str, output_tokens: int) -> None:
        """Put the tokens that came in the place of those that were expected."""
        differs = output_tokens - asked.output_tokens
        if differs:
            self._quotas.spend(site, asked.model, asked.priority, differs)

    def _peers(self, state: SitesState, now_s: float) -> dict[str, SiteView]:
        """Return the views of the other sites that may get work.

        One that claims another region than the configuration says gets none.
        """
        found = {}
        for site, view in state.usable(now_s).items():
            region = self.regions.get(site)
            if region is None or view.site != site:
                continue
            if view.region == region:
                found[site] = view
                self._misplaced.discard(site)
            elif site not in self._misplaced:
                self._misplaced.add(site)
                _log.warning("%s: asked for region %s, found %s", site, region, view.region)
        return found

"""The part of a simulated gateway that chooses the site of a request.

The routing, the table of other sites, plans and grants are those of live sites. Simpler policies
take the place of the routing alone.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from dataclasses import replace

from steppe.errors import InfeasibleError
from steppe.sim.sites.policies import ChoiceInputs, RoutingPolicy, Steppe
from steppe.sim.sites.settings import SiteSettings, SitesSettings
from steppe.sites.beats.message import Beat, Origin
from steppe.sites.beats.peers import BeatSettings, PeerTable, StaleBeatError
from steppe.sites.grants import DEFERRABLE, grants_of
from steppe.sites.pins import Pins
from steppe.sites.plan.inputs import PlanInputs
from steppe.sites.prepared import PreparedSites, Weights
from steppe.sites.quotas import Quotas
from steppe.sites.routing import MISSED_PERIODS, MOST_TRIES, Destination, Routing
from steppe.sites.service.planning import Planning
from steppe.sites.state import PeerState, SitesState
from steppe.sites.view import RequestView, SiteView

REST_S = 2.0
"""With a simple policy, a site that refused gets nothing new for so long, s."""
TTL_S = 60.0


class PolicyRouting:
    """A simple policy in the place of the live routing: without quotas."""

    def __init__(
        self, names: tuple[str, ...], policy: RoutingPolicy, weights: Weights, rng: random.Random
    ) -> None:
        """Begin without a state.

        Args:
            names: Names of all sites, its own first.
            policy: The policy.
            weights: What the parts of a cost are worth.
            rng: Chance.
        """
        self._names, self._policy, self._weights = names, policy, weights
        self._rng, self._known = rng, None
        self._refused: dict[str, float] = {}

    _known: ChoiceInputs | None

    def update(self, state: SitesState, read_s: float) -> None:
        """Take the last heartbeats."""
        if state.here is None:
            return
        before = self._known
        sites = PreparedSites(
            self._names,
            state.here,
            state.usable(read_s),
            {peer.site: peer.rtt_s for peer in state.peers},
            self._weights,
            before=None if before is None else before.sites,
            missed_s=MISSED_PERIODS * state.period_s,
        )
        self._known = ChoiceInputs(
            sites, Quotas(self._names, read_s), Pins(), self._rng, self._refused
        )

    def choose(self, asked: RequestView, tried: Collection[str], now_s: float) -> Destination:
        """Return where a request goes, and count it there."""
        known = self._known
        if known is None:
            return Destination(None, "alone")
        if len(tried) >= MOST_TRIES:
            return Destination(None, "tried")
        site, reason = self._policy.choose(asked, known, now_s)
        if site is None:
            return Destination(None, reason)
        known.sites.take(asked, site)
        return Destination(None if site == self._names[0] else site, reason)

    def refuse(
        self,
        asked: RequestView,
        site: str,
        now_s: float,
        *,
        status: int | None,
        output_tokens: int = 0,
    ) -> None:
        """Note that a site refused a request."""
        self._refused[site] = now_s + REST_S

    def serve(self, asked: RequestView, site: str, output_tokens: int) -> None:
        """Note that a site has answered a request."""
        self._refused.pop(site, None)


class SiteRouter:
    """What one site knows of the others, and its choices.

    Attributes:
        name: Name of its site.
        peers: What it knows of each other site.
        here: What its own site showed last; None before the first heartbeat.
    """

    def __init__(self, settings: SiteSettings, of_all: SitesSettings, rng: random.Random) -> None:
        """Begin without any heartbeat.

        Args:
            settings: Its site.
            of_all: All sites.
            rng: Chance.
        """
        others = [site for site in of_all.sites if site.name != settings.name]
        names = (settings.name, *(site.name for site in others))
        self.name, self._others = settings.name, others
        self._settings, self._of_all = settings, of_all
        self._rtt_s = {
            site.name: of_all.rtt_s[way]
            for site in others
            if (way := (settings.name, site.name)) in of_all.rtt_s
        }
        self._run = f"{[site.name for site in of_all.sites].index(settings.name) + 1:016x}"
        self.peers = PeerTable(names[1:], self._run, BeatSettings(period_s=of_all.beat_s))
        self.here: SiteView | None = None
        self._seq = 0
        policy = of_all.routing()
        self._routing: Routing | PolicyRouting
        if isinstance(policy, Steppe):
            regions = {site.name: site.region for site in others}
            self._routing = Routing(
                settings.name, regions, now_s=0.0, rng=rng, weights=of_all.weights
            )
        else:
            self._routing = PolicyRouting(names, policy, of_all.weights, rng)
        self._plans = policy.needs_plan
        self._planning = Planning(settings.name, of_all.plan.period_s, of_all.plan.lease_s)
        self._granted: dict[str, Mapping[str, float]] = {}
        self._suspects: dict[str, float] = {}
        self._state: SitesState | None = None
        self._is_read = True
        self.deferrable_tps = 0.0
        """Output tokens per second of deferrable work that leases let it send now."""

    def advance(self, view: SiteView, now_s: float) -> None:
        """Take what its own site shows; plan, and grant, as the sites service does each period."""
        self.here, self._seq = view, view.seq
        live = [v for v in self.peers.live(now_s) if self._suspects.get(v.site, now_s) <= now_s]
        self._plan(view, live, now_s)
        names = [each.site for each in live]
        leases = self._planning.leases(names, self._granted, now_s) if self._plans else ()
        self.deferrable_tps = sum(each.output_tps for each in leases if each.priority == DEFERRABLE)
        healths = self.peers.healths(now_s)
        seen = {each.site: each for each in live}
        peers = tuple(
            PeerState(s.name, "", s.region, healths[s.name], self._rtt_s[s.name], seen.get(s.name))
            for s in self._others
            if s.name in self._rtt_s
        )
        self._state = SitesState(
            self.name, self._run, view.seq, self._of_all.beat_s, view, peers, leases,
            dict(self._suspects),
        )  # fmt: skip
        self._is_read = False

    def beats(self, view: SiteView, now_s: float) -> dict[str, Beat]:
        """Return the heartbeat for each other site.

        Args:
            view: What they shall see.
            now_s: Now, s.
        """
        grants = grants_of(view, self.peers.live(now_s)) if self._plans else {}
        return {
            site: Beat(
                site, Origin(self._run, view.seq), self.peers.newest(site), rtt_s,
                round(1e6 * self._settings.day.trace_s(now_s)), TTL_S, view, grants.get(site, {}),
            )
            for site, rtt_s in self._rtt_s.items()
        }  # fmt: skip

    def hear(self, beat: Beat, now_s: float) -> None:
        """Take the heartbeat of another site; one that is too old is dropped."""
        try:
            self.peers.receive(replace(beat, view=replace(beat.view, received_s=now_s)), self._seq)
        except StaleBeatError:
            return
        self._granted[beat.site] = beat.grants

    def suspect(self, site: str, until_s: float) -> None:
        """Send nothing new to a site until a time, s."""
        self._suspects[site] = until_s

    def choose(self, asked: RequestView, tried: Collection[str], now_s: float) -> Destination:
        """Return where a request goes; `Destination.site` is None if it stays."""
        if not self._is_read and self._state is not None:
            self._routing.update(self._state, now_s)
            self._is_read = True
        return self._routing.choose(asked, tried, now_s)

    def serve(self, asked: RequestView, site: str, output_tokens: int) -> None:
        """Note that another site has answered a request."""
        self._routing.serve(asked, site, output_tokens)

    def refuse(
        self,
        asked: RequestView,
        site: str,
        now_s: float,
        status: int | None,
        output_tokens: int = 0,
    ) -> None:
        """Note that another site refused a request, or lost it after some output tokens."""
        self._routing.refuse(asked, site, now_s, status=status, output_tokens=output_tokens)

    def _plan(self, view: SiteView, live: list[SiteView], now_s: float) -> None:
        """Make a plan if it is due."""
        if not self._plans:
            return
        ttft_s = {self._settings.model: self._settings.slo.ttft_s}
        step_s = self._of_all.plan.step_s
        inputs = PlanInputs(view, tuple(live), self._rtt_s, ttft_s, step_s)
        if not self._planning.is_due(inputs, now_s):
            return
        last = self._planning.begin(inputs, now_s)
        try:
            plan = inputs.plan(last)
        except InfeasibleError:
            return  # the last one holds for a while
        self._planning.take(plan, now_s)

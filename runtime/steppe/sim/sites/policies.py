"""Which site runs a request: the decision of `steppe.sites`, and simpler ones beside it.

Each site has a policy of its own, with its own memory. All of them keep the law: no request goes to
a site that lacks the model or that its tenant does not allow. A site that is not heard, or that has
refused lately, gets nothing new.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Protocol, get_args

import numpy as np

from steppe.config.several_sites import RoutingName
from steppe.sites.decide import FORBIDDEN, Choice, decide
from steppe.sites.pins import Pins
from steppe.sites.prepared import Bools, Candidates, Floats, PreparedSites
from steppe.sites.quotas import Quotas
from steppe.sites.view import RequestView

ROUTINGS: tuple[RoutingName, ...] = get_args(RoutingName)


@dataclass(slots=True)
class ChoiceInputs:
    """What a site knows when it chooses a site for a request.

    Attributes:
        sites: The last heartbeats, this site first.
        quotas: What may still be sent to the others.
        pins: Where conversations are.
        rng: Chance.
        refused: Sites that refused lately, and until when nothing new goes there, s.
    """

    sites: PreparedSites
    quotas: Quotas
    pins: Pins
    rng: random.Random
    refused: dict[str, float] = field(default_factory=dict)

    @property
    def here(self) -> str:
        """Name of this site."""
        return self.sites.names[0]


class RoutingPolicy(Protocol):
    """How one site chooses the site of each request."""

    @property
    def needs_plan(self) -> bool:
        """Whether it sends no more than the leases of a plan allow."""
        ...

    def choose(self, asked: RequestView, known: ChoiceInputs, now_s: float) -> Choice:
        """Return the site of a request; `Choice.site` is None if it may run at none.

        Args:
            asked: What is known of the request.
            known: What its site knows.
            now_s: Now, s.
        """
        ...


def may_run(asked: RequestView, known: ChoiceInputs, now_s: float) -> Bools:
    """Return which sites have the model, are allowed, are heard and have not refused lately."""
    sites = known.sites
    usable = sites.candidates(asked).allowed & (now_s - sites.received_s <= sites.missed_s)
    for name, until_s in known.refused.items():
        if until_s > now_s and name in sites.index:
            usable[sites.index[name]] = False
    if asked.hops:
        usable[1:] = False
    return usable


def has_room(found: Candidates, sites: PreparedSites) -> Bools:
    """Return which sites have tokens per second and watts for one more request."""
    return (found.room_tps >= found.rate_tps) & (sites.room_w >= found.rate_w)


def best_of(asked: RequestView, known: ChoiceInputs, usable: Bools, costs: Floats) -> Choice:
    """Return the usable site with the lowest cost, of equal ones the first.

    Without a usable one the request waits at its own site, if it may run there.
    """
    if usable.any():
        index = int(np.where(usable, costs, np.inf).argmin())
        return Choice(known.sites.names[index], "hop" if asked.hops else "cost")
    allowed = known.sites.candidates(asked).allowed
    if allowed[0]:
        return Choice(known.here, "full")
    return Choice(None, "full") if allowed.any() else FORBIDDEN


@dataclass(frozen=True, slots=True)
class LocalOnly:
    """Each request stays at its own site."""

    needs_plan: bool = False

    def choose(self, asked: RequestView, known: ChoiceInputs, now_s: float) -> Choice:
        """Return this site."""
        allowed = known.sites.candidates(asked).allowed
        return Choice(known.here, "cost") if allowed[0] else FORBIDDEN


@dataclass(frozen=True, slots=True)
class Nearest:
    """The nearest site that has room: its own, until that is full."""

    needs_plan: bool = False

    def choose(self, asked: RequestView, known: ChoiceInputs, now_s: float) -> Choice:
        """Return the site with the shortest round trip of those with room."""
        sites = known.sites
        usable = may_run(asked, known, now_s) & has_room(sites.candidates(asked), sites)
        return best_of(asked, known, usable, sites.rtt_s)


@dataclass(slots=True)
class RoundRobin:
    """All sites in turn, as far as they have room.

    Attributes:
        turn: Number of requests so far.
    """

    needs_plan: bool = False
    turn: int = 0

    def choose(self, asked: RequestView, known: ChoiceInputs, now_s: float) -> Choice:
        """Return the next site."""
        sites = known.sites
        usable = may_run(asked, known, now_s)
        roomy = usable & has_room(sites.candidates(asked), sites)
        order = (np.arange(len(sites.names)) - self.turn) % len(sites.names)
        self.turn += 1
        return best_of(asked, known, roomy if roomy.any() else usable, order.astype(float))


@dataclass(frozen=True, slots=True)
class LeastQueue:
    """The site at which the fewest requests wait; of those the one with the most room."""

    needs_plan: bool = False

    def choose(self, asked: RequestView, known: ChoiceInputs, now_s: float) -> Choice:
        """Return the site with the shortest queue at its last heartbeat."""
        found = known.sites.candidates(asked)
        waiting = np.array([0.0 if pool is None else pool.waiting for pool in found.pools])
        full = 1.0 - np.clip(found.room_tps * found.per_capacity, 0.0, 1.0)
        usable = may_run(asked, known, now_s)
        return best_of(asked, known, usable, waiting + 0.999 * full)


@dataclass(frozen=True, slots=True)
class Greenest:
    """The site with the most surplus at its last heartbeat.

    It does not count what was sent there since: all sites choose the same one.
    """

    needs_plan: bool = False

    def choose(self, asked: RequestView, known: ChoiceInputs, now_s: float) -> Choice:
        """Return the site with the most surplus."""
        views = known.sites.views
        surplus_w = np.array([0.0 if view is None else view.surplus_w for view in views])
        return best_of(asked, known, may_run(asked, known, now_s), -surplus_w)


@dataclass(frozen=True, slots=True)
class Steppe:
    """The decision that live gateways make: `steppe.sites.decide`, with pins and leases."""

    needs_plan: bool = True

    def choose(self, asked: RequestView, known: ChoiceInputs, now_s: float) -> Choice:
        """Return the site by masks and costs."""
        pin = known.pins.find(asked.conversation, now_s)
        return decide(
            asked,
            known.sites,
            known.quotas,
            pin=pin,
            refused=known.refused,
            now_s=now_s,
            rng=known.rng,
        )


def routing_of(name: RoutingName) -> RoutingPolicy:
    """Return a new policy for one site."""
    match name:
        case "local":
            return LocalOnly()
        case "nearest":
            return Nearest()
        case "round_robin":
            return RoundRobin()
        case "least_queue":
            return LeastQueue()
        case "greenest":
            return Greenest()
        case "steppe":
            return Steppe()

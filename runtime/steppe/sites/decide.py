"""Which site runs a request: a pure function of what is known at that moment.

First what must hold: model and revision, the regions and data class of the tenant, a recent
heartbeat, no recent refusal, room, headroom, quota, deadline, at most one hop. Of the sites left

    interactive  the SLO, then surplus, then cost, then distance
    standard     the lowest cost of time, energy and carbon, with a bonus for surplus and for the
                 site of the conversation
    deferrable   what the plan has a quota for, else this site

Of equally good sites two are drawn at random, and the one with more room is taken ("The power of
two choices in randomized load balancing", Mitzenmacher, 2001). So the gateways do not all choose
the same one.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from steppe.sites.pins import Pin, breaks
from steppe.sites.prepared import Bools, Candidates, Floats, PreparedSites
from steppe.sites.quotas import Quotas
from steppe.sites.view import RequestView

EQUAL_SHARE = 0.02
"""Costs within this share of the lowest are equally good."""

PROMPT_SHARE = 0.05
"""Energy of a prompt token over that of an output token, assumed where a site does not state it."""

Reason = Literal["hop", "pinned", "green", "slo", "cost", "plan", "full", "forbidden"]


class Choice(NamedTuple):
    """Where a request goes.

    Attributes:
        site: Name of the site; None if it may run at none.
        reason: `hop`: it came from another site. `pinned`: its conversation is there. `green`: on
            surplus. `slo`: this site cannot serve it in time. `cost`: the lowest. `plan`: the plan
            of deferrable work. `full`: no site has room; this one queues it if it may.
            `forbidden`: no
            site may serve it.
    """

    site: str | None
    reason: Reason


FORBIDDEN = Choice(None, "forbidden")


def decide(
    asked: RequestView,
    sites: PreparedSites,
    quotas: Quotas,
    *,
    pin: Pin | None,
    refused: Mapping[str, float],
    now_s: float,
    rng: random.Random,
) -> Choice:
    """Return the site for a request.

    Args:
        asked: What is known of it.
        sites: The last heartbeats.
        quotas: What may still be sent.
        pin: Where its conversation is; None without one.
        refused: Sites that refused lately, and until when nothing new goes there, s.
        now_s: Now, by the clock of the heartbeats, s.
        rng: Chance.
    """
    found = sites.candidates(asked)
    if asked.hops:
        return Choice(sites.names[0], "hop") if found.allowed[0] else FORBIDDEN
    usable = _usable(asked, sites, found, quotas, pin, now_s=now_s)
    for name, until_s in refused.items():
        if until_s > now_s and name in sites.index:
            usable[sites.index[name]] = False
    if asked.priority == "deferrable":
        choice = _planned(sites, usable, found, rng)
    else:
        choice = _best(asked, sites, found, usable, pin, now_s=now_s, rng=rng)
    if choice is not None:
        return choice
    if found.allowed[0]:
        return Choice(sites.names[0], "full")
    return Choice(None, "full") if found.allowed.any() else FORBIDDEN


def _usable(
    asked: RequestView,
    sites: PreparedSites,
    found: Candidates,
    quotas: Quotas,
    pin: Pin | None,
    *,
    now_s: float,
) -> Bools:
    """Return which sites may take the request now."""
    usable: Bools = found.room_tps >= found.rate_tps
    usable &= sites.room_w >= found.rate_w
    within = quotas.allow(asked.model, asked.priority, asked.output_tokens)
    if pin is not None and asked.priority != "deferrable" and pin.site in sites.index:
        owed = quotas.may_owe(pin.site, asked.model, asked.priority, asked.output_tokens)
        within[sites.index[pin.site]] |= owed
    usable &= within
    if now_s - sites.oldest_s > sites.missed_s:
        usable &= now_s - sites.received_s <= sites.missed_s
    if asked.deadline_s is not None:
        usable &= found.first_s + asked.output_tokens * found.tpot_s <= asked.deadline_s
    return usable


def _planned(
    sites: PreparedSites, usable: Bools, found: Candidates, rng: random.Random
) -> Choice | None:
    """Return another site with a quota, else this one; None if none is usable."""
    others = usable[1:].nonzero()[0]
    if others.size:
        return Choice(sites.names[_less_loaded(others + 1, found, rng)], "plan")
    return Choice(sites.names[0], "plan") if usable[0] else None


def _best(
    asked: RequestView,
    sites: PreparedSites,
    found: Candidates,
    usable: Bools,
    pin: Pin | None,
    *,
    now_s: float,
    rng: random.Random,
) -> Choice | None:
    """Return the best site, or that of the conversation; None if none is usable."""
    green = sites.surplus_w >= found.rate_w
    held = -1 if pin is None else sites.index.get(pin.site, -1)
    if pin is None or held < 0 or not usable[held]:
        pin = None
    if asked.priority == "interactive":
        margin, costs = 0.0, np.where(green, found.green_rank, found.grid_rank)
    else:
        margin, costs = EQUAL_SHARE, _money(asked, found, green, sites.weights.green)
        if pin is not None:
            costs[held] -= sites.weights.pinned
    costs = np.where(usable, costs, np.inf)
    lowest = float(costs[costs.argmin()])
    if lowest == math.inf:
        return None
    equal = (costs <= lowest + margin * abs(lowest)).nonzero()[0]
    index = _less_loaded(equal, found, rng)
    if pin is not None and _stays(asked, found, green, (held, index), pin, now_s=now_s):
        return Choice(pin.site, "pinned")
    return Choice(sites.names[index], _reason(found, usable, green, index))


def _money(asked: RequestView, found: Candidates, green: Bools, bonus: float) -> Floats:
    """Return the cost of a request at each site; energy from surplus costs nothing."""
    of_each = np.array((1.0, asked.output_tokens, asked.prompt_tokens))
    money = found.money.dot(of_each)
    count = len(green)
    costs: Floats = money[:count] + np.where(green, -bonus, money[count:])
    return costs


def _less_loaded(equal: NDArray[np.int64], found: Candidates, rng: random.Random) -> int:
    """Return the one with more room of two sites that are drawn at random."""
    count = len(equal)
    if count == 1:
        return int(equal[0])
    first = int(rng.random() * count)
    second = (first + 1 + int(rng.random() * (count - 1))) % count
    one, other = int(equal[first]), int(equal[second])
    room = found.room_tps[one] * found.per_capacity[one]
    return one if room >= found.room_tps[other] * found.per_capacity[other] else other


def _stays(
    asked: RequestView,
    found: Candidates,
    green: Bools,
    from_to: tuple[int, int],
    pin: Pin,
    *,
    now_s: float,
) -> bool:
    """Return whether a conversation stays where it is although another site is better."""
    held, best = from_to
    if held == best:
        return True
    if asked.priority == "interactive" and found.keeps_slo[best] and not found.keeps_slo[held]:
        return False
    now_j, then_j = (
        0.0 if green[index] else asked.output_tokens * float(found.joules[index, 0])
        for index in from_to
    )
    output_j, prompt_j = found.joules[best].tolist()
    lost_j = min(pin.cached_tokens, asked.prompt_tokens) * (prompt_j or PROMPT_SHARE * output_j)
    return not breaks(pin, now_j - then_j, lost_j, now_s)


def _reason(found: Candidates, usable: Bools, green: Bools, index: int) -> Reason:
    """Return why a site is the best."""
    if green[index]:
        return "green"
    return "slo" if index and not (usable[0] and found.keeps_slo[0]) else "cost"

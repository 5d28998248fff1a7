"""Rivals of Steppe's choice of a site, each a small class.

They know what the beats of the last step showed and what they sent since. XWind and SkyWalker are
ours after the papers (arXiv 2605.23348 and 2505.24095), not their code.
"""

from __future__ import annotations

import random

import numpy as np
from numpy.typing import NDArray

from sites_model import Parcel, Sites
from sites_replica import SiteTable
from sites_world import HOUR_S, World

Floats = NDArray[np.float64]
XWIND_EVERY_S, XWIND_SMOOTH = 10.0, 0.5
BUSY_SHARE = 0.95
"""A site whose engines are fuller has pending requests."""


class Rival:
    """What rivals have in common: the last beats, and what was sent since.

    Args:
        world: The world.
        table: What each site does.
    """

    def __init__(self, world: World, table: SiteTable) -> None:
        self.table, self.trips_s = table, world.rtt_s
        self.near = np.argsort(world.rtt_s, axis=1).tolist()
        self.fill: list[float] = [0.0] * world.case.sites
        self._per_request: list[float] = self.fill

    def begin(self, sites: Sites) -> None:
        """Take the beats: how full the engines of each site are."""
        room = self.table.capacity_rps * sites.stay_s
        self.fill = (sites.in_flight / room).tolist()
        self._per_request = (1.0 / room).tolist()

    def sent(self, parcel: Parcel, site: int) -> None:
        """Count what was sent until the next beats."""
        self.fill[site] += parcel.requests * self._per_request[site]


class LocalOnly(Rival):
    """Every request stays at home."""

    def choose(self, parcel: Parcel, refused: int) -> int:
        """Return home."""
        return parcel.origin


class Nearest(Rival):
    """The nearest site with room: home, as long as it has."""

    def choose(self, parcel: Parcel, refused: int) -> int:
        """Return the nearest one."""
        near = self.near[parcel.origin]
        return next((s for s in near if s != refused and self.fill[s] < 1.0), parcel.origin)


class RoundRobin(Rival):
    """All sites in turn."""

    def __init__(self, world: World, table: SiteTable) -> None:
        super().__init__(world, table)
        self._next = list(range(world.case.sites))

    def choose(self, parcel: Parcel, refused: int) -> int:
        """Return the next one of this home."""
        self._next[parcel.origin] = (self._next[parcel.origin] + 1) % len(self._next)
        return self._next[parcel.origin]


class LeastQueue(Rival):
    """The site whose engines are least full."""

    def choose(self, parcel: Parcel, refused: int) -> int:
        """Return it."""
        return min(range(len(self.fill)), key=self.fill.__getitem__)


class GreenestFirst(Rival):
    """The site with the largest surplus in the last beats that has room."""

    def begin(self, sites: Sites) -> None:
        """Rank the sites by surplus."""
        super().begin(sites)
        surplus_w = sites.renewable_w - sites.draw_w
        self._ranked: list[int] = np.argsort(-surplus_w).tolist()

    def choose(self, parcel: Parcel, refused: int) -> int:
        """Return the greenest one: all homes see the same one."""
        room = (s for s in self._ranked if s != refused and self.fill[s] < 1.0)
        return next(room, parcel.origin)


class DayAhead(Rival):
    """Shares of each hour from the forecast of the day before, which no one corrects.

    Args:
        world: The world.
        table: What each site does.
        shares: Share of each home's load that each site gets, (hours, home, site).
        seed: Of chance.
    """

    def __init__(self, world: World, table: SiteTable, shares: Floats, seed: int) -> None:
        super().__init__(world, table)
        self._sums, self._rng = np.cumsum(shares, axis=2), random.Random(seed)
        self._now: list[Floats] = list(self._sums[0])

    def begin(self, sites: Sites) -> None:
        """Take the shares of the hour."""
        super().begin(sites)
        self._now = list(self._sums[int(sites.now_s // HOUR_S)])

    def choose(self, parcel: Parcel, refused: int) -> int:
        """Return a site by the shares; home if it has no room."""
        if refused >= 0:
            return parcel.origin
        sums = self._now[parcel.origin]
        return min(int(np.searchsorted(sums, self._rng.random())), len(sums) - 1)


class SkyWalkerLike(Rival):
    """Selective pushing: home until requests are pending there, then where the prefix is cached.

    A site is pushed to only while it has no pending requests; a conversation stays where it is.
    """

    def choose(self, parcel: Parcel, refused: int) -> int:
        """Return home, the site of the prefix, or the least full one without pending requests."""
        fill = self.fill
        if parcel.held >= 0 and parcel.held != refused and fill[parcel.held] < BUSY_SHARE:
            return parcel.held
        if fill[parcel.origin] < BUSY_SHARE:
            return parcel.origin
        idle = [s for s, share in enumerate(fill) if share < BUSY_SHARE and s != refused]
        return min(idle, key=fill.__getitem__, default=parcel.origin)


class XWindLike(Rival):
    """Weights from latency, use of the KV cache and queue, adapted every 10 s.

    As at its wind sites, the capacity of a site is what its wind and sun feed now; a little is left
    where there is none, for the grid is there.
    """

    def __init__(self, world: World, table: SiteTable, seed: int) -> None:
        super().__init__(world, table)
        self._rng, self._due_s = random.Random(seed), 0.0
        self._weights = np.ones(world.case.sites)
        self._sums: list[Floats] = []

    def begin(self, sites: Sites) -> None:
        """Adapt the weights."""
        super().begin(sites)
        if sites.now_s < self._due_s:
            return
        self._due_s = sites.now_s + XWIND_EVERY_S
        table = self.table
        fed_w = np.maximum(table.base_w, sites.renewable_w)
        fed_rps = np.interp(fed_w, table.draw_w, table.load_rps)
        use = np.minimum(1.0, np.array(self.fill))
        score = np.maximum(0.05 * table.capacity_rps, fed_rps) * (1.0 - use) / (1 + sites.wait_s)
        self._weights += XWIND_SMOOTH * (score / max(float(score.max()), 1e-9) - self._weights)
        near = (self._weights + 1e-6) / (1.0 + self.trips_s)
        self._sums = list(np.cumsum(near / near.sum(axis=1, keepdims=True), axis=1))

    def choose(self, parcel: Parcel, refused: int) -> int:
        """Return a site by the weights."""
        sums = self._sums[parcel.origin]
        return min(int(np.searchsorted(sums, self._rng.random())), len(sums) - 1)

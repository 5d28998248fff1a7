"""The sites as arrays: made once per heartbeat, so that a decision is a few array operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from steppe.sites.view import PoolView, RequestView, SiteView

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

MISSED_S = 3.0
"""A site whose last heartbeat is older gets nothing new: three were missed, of one a second."""
J_PER_KWH = 3.6e6
MICRO = 1e-6
CHEAP_STEP, NEAR_STEP_S = 0.1, 0.005
"""Costs that differ by less than this share of the median are equally cheap; times that differ by
less are equally near."""
GRID_RANK, SLOW_RANK = 1e9, 1e10
"""What a site without surplus, and one that misses the SLO, adds to its rank."""
MISS_STEP_S = 0.1
"""Of sites that miss the SLO the fastest is best: by so much it must be faster."""
WORST_STEP = 3e4
"""Costs and times are told apart up to so many steps."""


@dataclass(frozen=True, slots=True)
class Weights:
    """What the parts of the cost of a request are worth, in the currency of the sites.

    Attributes:
        money_per_s: A second until the first token.
        energy_share: How much of the price of grid energy counts.
        money_per_g: A gram of CO2.
        green: A request that runs on surplus.
        pinned: A request that stays where its conversation is.
    """

    money_per_s: float = 1e-4
    energy_share: float = 1.0
    money_per_g: float = 1e-4
    green: float = 5e-5
    pinned: float = 1e-4


@dataclass(frozen=True, slots=True)
class Candidates:
    """The sites for requests of one kind, one element for each site, this one first.

    Attributes:
        allowed: Whether model, revision, region and data class fit.
        pools: The pool of each site; None without one.
        room_tps: What each pool may still add, output tokens per second; falls with each request.
        rate_tps: What one request adds; infinite where it is not allowed.
        rate_w: Power of one request, W.
        first_s: Expected time to the first token, with the way there, s.
        tpot_s: Expected time per output token, s.
        keeps_slo: Whether a site is expected to keep the SLO.
        green_rank: Rank with surplus for the request; the lowest is best.
        grid_rank: Rank without.
        joules: Energy by output tokens and prompt tokens, J.
        money: Cost of time, and below it that of energy from the grid, by 1, output tokens and
            prompt tokens.
        per_capacity: One over the capacity of each pool, s per output token.
    """

    allowed: Bools
    pools: tuple[PoolView | None, ...]
    room_tps: Floats
    rate_tps: Floats
    rate_w: Floats
    first_s: Floats
    tpot_s: Floats
    keeps_slo: Bools
    green_rank: Floats
    grid_rank: Floats
    joules: Floats
    money: Floats
    per_capacity: Floats


class _Taken(NamedTuple):
    """What requests since a heartbeat add to a pool.

    Attributes:
        output_tps: Output tokens per second.
        draw_w: Power, W.
    """

    output_tps: float
    draw_w: float


class PreparedSites:
    """All sites at one moment. Only `take` changes it.

    Attributes:
        here: This site.
        names: Names of all sites, this one first.
        weights: What the parts of a cost are worth.
        room_w: How much more each site may draw, W; falls with each request.
        surplus_w: How much of that is surplus, W; falls too.
        received_s: When each heartbeat came, s.
        oldest_s: When the oldest of the other sites' came, s.
        missed_s: A site whose last heartbeat is older gets nothing new, s.
    """

    def __init__(
        self,
        names: Sequence[str],
        here: SiteView,
        peers: Mapping[str, SiteView],
        rtt_s: Mapping[str, float],
        weights: Weights = Weights(),
        *,
        before: PreparedSites | None = None,
        missed_s: float = MISSED_S,
    ) -> None:
        """Take the last heartbeats.

        Args:
            names: Names of all sites, this one first: the order of all arrays.
            here: This site.
            peers: The other sites by name; those without a heartbeat are missing.
            rtt_s: Round trip to each of them, s; a site without one is left out.
            weights: What the parts of a cost are worth.
            before: The arrays before these: what went to a site since counts on until its next
                heartbeat. None at first.
            missed_s: A site whose last heartbeat is older gets nothing new, s.
        """
        assert names[0] == here.site, f"asked for {here.site} first, found {names[0]}"
        self.here, self.names, self.weights = here, tuple(names), weights
        self.missed_s = missed_s
        known = {name: view for name, view in peers.items() if name in rtt_s} | {here.site: here}
        self.views = tuple(known.get(name) for name in names)
        self.index = {name: index for index, name in enumerate(names)}
        self._rtt_s = np.array([0.0, *(rtt_s.get(name, np.inf) for name in names[1:])])
        self.room_w = self._of_sites(lambda view: view.headroom_w, 0.0)
        self.surplus_w = self._of_sites(lambda view: view.surplus_w, 0.0)
        np.minimum(self.surplus_w, self.room_w, out=self.surplus_w)
        self._taken: dict[tuple[str, str, str], _Taken] = {}
        if before is not None:
            self._carry(before)
        self.received_s = self._of_sites(lambda view: view.received_s, -np.inf)
        self.received_s[0] = np.inf
        heard = self.received_s[np.isfinite(self.received_s)]
        self.oldest_s = float(heard.min()) if heard.size else np.inf
        self._money_per_j = self._prices()
        self._candidates: dict[tuple[object, ...], Candidates] = {}

    @property
    def rtt_s(self) -> Floats:
        """Round trip to each site, s; 0 to this one, infinite where it is not known."""
        return self._rtt_s

    def candidates(self, asked: RequestView) -> Candidates:
        """Return the sites for a request; they are computed once for each kind of request."""
        key = (
            asked.model, asked.revision, asked.regions, asked.data_class, asked.ttft_s,
            asked.tpot_s,
        )  # fmt: skip
        found = self._candidates.get(key)
        if found is None:
            found = self._candidates[key] = self._make(asked)
        return found

    def take(self, asked: RequestView, site: str, count: float = 1.0) -> None:
        """Note that a request goes to a site: it counts until the next heartbeat from there.

        Args:
            asked: What is known of it.
            site: Where it goes.
            count: How many such requests go there.
        """
        index = self.index[site]
        chosen = self.candidates(asked)
        pool = chosen.pools[index]
        if pool is None or not chosen.allowed[index]:
            return
        rate_tps = count * float(chosen.rate_tps[index])
        rate_w = count * float(chosen.rate_w[index])
        key = site, pool.model, pool.revision
        taken = self._taken.get(key, _Taken(0.0, 0.0))
        self._taken[key] = _Taken(taken.output_tps + rate_tps, taken.draw_w + rate_w)
        for each in self._candidates.values():
            if each.pools[index] is pool:
                each.room_tps[index] -= rate_tps
        self.room_w[index] -= rate_w
        self.surplus_w[index] -= rate_w

    def _carry(self, before: PreparedSites) -> None:
        """Take over what went to sites that have sent no heartbeat since."""
        for key, taken in before._taken.items():
            index, old = self.index.get(key[0]), before.index[key[0]]
            view, last = None if index is None else self.views[index], before.views[old]
            if index is None or view is None or last is None or view.seq != last.seq:
                continue
            self._taken[key] = taken
            self.room_w[index] -= taken.draw_w
            self.surplus_w[index] -= taken.draw_w

    def _of_sites(self, number: Callable[[SiteView], float], missing: float) -> Floats:
        return np.array([missing if v is None else number(v) for v in self.views], dtype=float)

    def _prices(self) -> Floats:
        """Return what a joule from the grid costs; the highest price for other currencies."""
        weights, prices = self.weights, []
        for view in self.views:
            comparable = view is not None and view.currency == self.here.currency
            price = view.price_micro[0] * MICRO if view and comparable and view.price_micro else 0.0
            carbon_g = view.gco2[0] if view is not None and view.gco2 else 0.0
            known = weights.energy_share * price if comparable else np.nan
            prices.append((known, weights.money_per_g * carbon_g))
        energy, carbon = np.array(prices).T
        energy[np.isnan(energy)] = np.nanmax(energy)
        money: Floats = (energy + carbon) / J_PER_KWH
        return money

    def _make(self, asked: RequestView) -> Candidates:
        """Return the sites for a kind of request."""
        pools = tuple(
            None if view is None else view.pool_of(asked.model, asked.revision)
            for view in self.views
        )
        allowed = np.array([
            view is not None and pool is not None and view.region in asked.regions
            and asked.data_class in view.data_classes
            for view, pool in zip(self.views, pools, strict=True)
        ])  # fmt: skip
        first_s = self._rtt_s + _of(pools, lambda pool: pool.ttft_s)
        tpot_s = _of(pools, lambda pool: pool.tpot_s)
        joules = MICRO * np.stack(
            [_of(pools, lambda p: p.uj_per_token), _of(pools, lambda p: p.prompt_uj_per_token)], 1
        )
        rate_tps = 1.0 / np.maximum(tpot_s, 1e-6)
        keeps = (first_s <= asked.ttft_s) & (tpot_s <= asked.tpot_s)
        misses = SLOW_RANK * (1.0 + _steps(first_s, MISS_STEP_S))
        slow = np.where(keeps, 0.0, misses) + _steps(first_s, NEAR_STEP_S)
        cheap = _cheap_steps(joules[:, 0] * self._money_per_j, allowed)
        thrifty = _cheap_steps(joules[:, 0], allowed)
        return Candidates(
            allowed, pools,
            room_tps=self._room(pools),
            rate_tps=np.where(allowed, rate_tps, np.inf),
            rate_w=np.where(allowed, rate_tps * joules[:, 0], np.inf),
            first_s=first_s,
            tpot_s=tpot_s,
            keeps_slo=keeps,
            green_rank=slow + thrifty * WORST_STEP,
            grid_rank=slow + cheap * WORST_STEP + GRID_RANK,
            joules=joules,
            money=self._money(first_s, pools, joules),
            per_capacity=1.0 / np.maximum(_of(pools, lambda pool: pool.capacity_tps), 1e-6),
        )  # fmt: skip

    def _room(self, pools: Sequence[PoolView | None]) -> Floats:
        """Return what pools may still add, also after requests since the heartbeats."""
        room_tps = _of(pools, lambda pool: pool.free_tps)
        for (site, model, revision), taken in self._taken.items():
            index = self.index[site]
            pool = pools[index]
            if pool is not None and (pool.model, pool.revision) == (model, revision):
                room_tps[index] -= taken.output_tps
        return room_tps

    def _money(self, first_s: Floats, pools: Sequence[PoolView | None], joules: Floats) -> Floats:
        """Return the cost of time above that of energy, by 1, output and prompt tokens."""
        none, per_s = np.zeros(len(pools)), self.weights.money_per_s
        prompt_s = _of(pools, lambda pool: pool.prompt_s_per_token)
        waits_s = np.where(np.isfinite(first_s), first_s, 0.0)
        time = np.stack([per_s * waits_s, none, per_s * prompt_s], 1)
        energy = np.concatenate([none[:, None], joules * self._money_per_j[:, None]], 1)
        return np.concatenate([time, energy])


def _of(pools: Sequence[PoolView | None], number: Callable[[PoolView], float]) -> Floats:
    """Return a number of each pool; 0 without a pool."""
    return np.array([0.0 if pool is None else number(pool) for pool in pools], dtype=float)


def _steps(values: Floats, step: float) -> Floats:
    """Return values in whole steps, from 0 to below `WORST_STEP`."""
    return np.clip(np.floor(values / step), 0.0, WORST_STEP - 1)


def _cheap_steps(costs: Floats, allowed: Bools) -> Floats:
    """Return costs above the least one in whole steps of a share of the median."""
    if not allowed.any():
        return np.zeros(len(costs))
    step = max(CHEAP_STEP * float(np.median(np.abs(costs[allowed]))), 1e-18)
    return _steps(costs - costs[allowed].min(), step)

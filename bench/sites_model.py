"""Sites of modelled replicas under a policy: a fluid of requests, in parcels that are each routed.

A site has hundreds of requests in its engines at once, so their number is nearly what is expected:
it follows the fluid of what comes and what ends. What comes to a site in a step is cut into
parcels; a policy chooses the site of each, as if it were one request. A request stays for the time
that its tokens take; beyond the capacity it waits. Its time to the first token is

    round trip + wait for capacity + rest of the step that runs + wait for other prompts + prompt

with the table of the site (`sites_replica`); the wait for other prompts is drawn from the tail of
an M/G/1 queue, from the same number for all policies. A prompt that goes on with a conversation
counts less where the rest of it was computed in the last 10 minutes. A site without room refuses:
one other choice, then home.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sites_replica import LENGTHS, SiteTable
from sites_world import HOUR_S, PREFIX, World

Floats = NDArray[np.float64]
KEPT_S = 600.0
"""How long a prefix stays in a cache."""
KWH = 3.6e6


class Parcel(NamedTuple):
    """Requests of one kind that come to a site in a step.

    Attributes:
        origin: Their home.
        slot: Their conversation, among the open ones of their home.
        fresh: Whether they begin it.
        requests: How many.
        prompt_tokens: Prompt tokens of each.
        held: The site that computed the rest of the conversation last; -1 for none.
    """

    origin: int
    slot: int
    fresh: bool
    requests: float
    prompt_tokens: int
    held: int


@dataclass(frozen=True, slots=True)
class Sites:
    """What is true of all sites at the begin of a step; arrays over sites.

    Attributes:
        step: Number of the step.
        now_s: Time since the begin, s.
        in_flight: Mean requests that are served or wait.
        load_rps: Mean requests per second that are served.
        wait_s: Wait for capacity, s.
        stay_s: Time in the engine, s.
        draw_w: Draw, W.
        renewable_w: Own wind and sun, W.
    """

    step: int
    now_s: float
    in_flight: Floats
    load_rps: Floats
    wait_s: Floats
    stay_s: Floats
    draw_w: Floats
    renewable_w: Floats


class Policy(Protocol):
    """Chooses a site for each parcel."""

    def begin(self, sites: Sites) -> None:
        """Take the beats of a step."""

    def choose(self, parcel: Parcel, refused: int) -> int:
        """Return the site of a parcel; `refused` is one that has no room, -1 without."""

    def sent(self, parcel: Parcel, site: int) -> None:
        """Note where a parcel went."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a policy did; arrays of (steps, sites) or of parcels in their order.

    Attributes:
        load_rps: Mean requests per second that are served.
        wait_s: Wait for capacity at the end of the step, s.
        target: Site of each parcel, (steps, sites, parcels).
        hit: Whether its prefix was cached there.
        refused: Parcels that a site refused.
    """

    load_rps: Floats
    wait_s: Floats
    target: NDArray[np.int64]
    hit: NDArray[np.bool_]
    refused: int


def run(world: World, table: SiteTable, policy: Policy) -> Run:
    """Run a world under a policy."""
    return _Model(world, table, policy).run()


class _Model:
    """The state of a run."""

    def __init__(self, world: World, table: SiteTable, policy: Policy) -> None:
        case, count = world.case, world.case.sites
        self.world, self.table, self.policy = world, table, policy
        self.in_flight, self.load_rps = np.zeros(count), np.zeros(count)
        self.stay_s, self.wait_s = table.stay_s(self.load_rps), np.zeros(count)
        self.cached_s = np.full((count, world.open_slots, count), -np.inf).tolist()
        self.held = np.full((count, world.open_slots), -1).tolist()
        self.refused, self.weights = 0, case.weights
        size = (case.steps, count, case.parcels)
        self.target, self.hit = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=bool)
        self.loads, self.waits = np.zeros((2, case.steps, count))

    def run(self) -> Run:
        for step in range(self.world.case.steps):
            self._step(step)
        return Run(self.loads, self.waits, self.target, self.hit, self.refused)

    def _step(self, step: int) -> None:
        world, step_s = self.world, self.world.case.step_s
        now_s = step * step_s
        draw_w = np.interp(self.load_rps, self.table.load_rps, self.table.draw_w)
        self.policy.begin(
            Sites(step, now_s, self.in_flight, self.load_rps, self.wait_s, self.stay_s, draw_w,
                  world.renewable_w[step])
        )  # fmt: skip
        left = np.exp(-step_s / self.stay_s)
        stays = self.stay_s * (1 - left) / step_s
        came = self._route(step, now_s, (self.in_flight * left).tolist(), stays.tolist())
        kept = self.in_flight * left + came * stays
        most = self.table.capacity_rps * step_s
        self.in_flight = np.maximum(kept, self.in_flight + came - most)
        room = self.table.capacity_rps * self.stay_s
        self.wait_s = np.maximum(0.0, self.in_flight - room) / self.table.capacity_rps
        self.load_rps = np.minimum(self.in_flight / self.stay_s, self.table.capacity_rps)
        self.stay_s = self.table.stay_s(self.load_rps)
        self.loads[step], self.waits[step] = self.load_rps, self.wait_s

    def _route(self, step: int, now_s: float, live: list[float], stays: list[float]) -> Floats:
        """Route the parcels of a step, and return what each site got, mean requests."""
        world, count = self.world, self.world.case.sites
        room = (self.table.capacity_rps * self.stay_s).tolist()
        came, saved = [0.0] * count, self.table.prompt_share * PREFIX
        sizes = np.outer(world.requests[step], self.weights).tolist()
        slots, begins = world.slots[step].tolist(), world.case.begins
        prompts = world.prompts[step].tolist()
        for number in range(world.case.parcels):
            is_fresh = number < begins
            for turn in range(count):
                at = (turn + step) % count
                slot = slots[at][number]
                if is_fresh:
                    self.held[at][slot] = -1
                    self.cached_s[at][slot] = [-np.inf] * count
                parcel = Parcel(at, slot, is_fresh, sizes[at][number], prompts[at][number],
                                self.held[at][slot])  # fmt: skip
                site = self._place(parcel, live, room)
                hit = now_s - self.cached_s[at][slot][site] <= KEPT_S
                work = parcel.requests * (1.0 - saved * hit)
                came[site] += work
                live[site] += work * stays[site]
                self.cached_s[at][slot][site], self.held[at][slot] = now_s, site
                self.target[step, at, number], self.hit[step, at, number] = site, hit
        return np.array(came)

    def _place(self, parcel: Parcel, live: list[float], room: list[float]) -> int:
        """Return the site that takes a parcel."""
        policy, refused = self.policy, -1
        site = policy.choose(parcel, -1)
        if site != parcel.origin and live[site] >= room[site]:
            self.refused, refused = self.refused + 1, site
            site = policy.choose(parcel, refused)
            if site != parcel.origin and live[site] >= room[site]:
                self.refused += 1
                site = parcel.origin
        policy.sent(parcel, site)
        return site


def scores(world: World, table: SiteTable, done: Run) -> dict[str, float]:
    """Return what a run is judged by: the whole time, idle power included."""
    draw_w = np.interp(done.load_rps, table.load_rps, table.draw_w)
    step_s = world.case.step_s
    green_w = np.minimum(draw_w, world.renewable_w)
    grid_w = draw_w - green_w
    hours = (np.arange(world.case.steps) * step_s / HOUR_S).astype(int) % 24
    grid_kwh = grid_w * step_s / KWH
    weight = world.requests[:, :, None] * world.case.weights
    home = done.target == np.arange(world.case.sites)[:, None]
    on = np.broadcast_to(np.arange(world.case.parcels) >= world.case.begins, weight.shape)
    ttft_s = first_s(world, table, done)
    every = weight.sum()
    return {
        "green_share": float(green_w.sum() / draw_w.sum()),
        "energy_kwh": float(draw_w.sum() * step_s / KWH),
        "grid_kwh": float(grid_kwh.sum()),
        "unused_kwh": float((world.renewable_w - green_w).sum() * step_s / KWH),
        "cost": float((grid_kwh * world.price[:, hours].T).sum()),
        "carbon_kg": float((grid_kwh * world.gco2).sum() / 1e3),
        "p50_ttft_s": quantile(ttft_s, weight, 0.5),
        "p99_ttft_s": quantile(ttft_s, weight, 0.99),
        "moved_share": float(weight[~home].sum() / every),
        "cached_share": float((weight * done.hit * PREFIX).sum() / every),
        "cache_loss": float(1 - weight[on & done.hit].sum() / weight[on].sum()),
        "refused_share": done.refused / done.target.size,
        "full_share": float((done.wait_s > 0).mean()),
    }


def first_s(world: World, table: SiteTable, done: Run) -> Floats:
    """Return the time to the first token of each parcel, s."""
    steps = np.arange(world.case.steps)[:, None, None]
    load_rps = done.load_rps[steps, done.target]
    at = table.load_rps
    step_s, prompt_s, wait_s, busy = (
        np.interp(load_rps, at, values)
        for values in (table.step_s, table.prompt_s, table.wait_s, table.busy)
    )
    computed = world.prompts * (1 - PREFIX * done.hit) / LENGTHS.prompt_tokens
    queued_s = wait_s * np.log(np.maximum(1.0, busy / np.maximum(world.chance, 1e-9)))
    trip_s = world.rtt_s[np.arange(world.case.sites)[:, None], done.target]
    found: Floats = trip_s + done.wait_s[steps, done.target] + 1.5 * step_s + queued_s
    found += computed * prompt_s + np.floor(computed * LENGTHS.prompt_tokens / 2048) * step_s
    return found


def quantile(values: Floats, weight: Floats, share: float) -> float:
    """Return a quantile of weighted values."""
    order = np.argsort(values, axis=None)
    below = np.cumsum(weight.ravel()[order])
    place = int(np.searchsorted(below, share * below[-1]))
    return float(values.ravel()[order[min(place, len(order) - 1)]])

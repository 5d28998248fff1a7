"""What a site knows of a site: of itself, and of another one from its last heartbeat."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from steppe.control.ticket import PRIORITIES

JOULES_PER_WH = 3600.0


class Expected(NamedTuple):
    """Power that a site expects in a quarter of an hour.

    Attributes:
        start_s: Begin, Unix time by the clock of that site, s.
        p10_w: More than this comes with 90 % probability, W.
        p50_w: Median, W.
        p90_w: Less than this comes with 90 % probability, W.
    """

    start_s: float
    p10_w: float
    p50_w: float
    p90_w: float


class PoolPoint(NamedTuple):
    """An operating point of all replicas of a pool together.

    Attributes:
        output_tps: Output tokens per second at saturation.
        draw_w: Draw, W.
    """

    output_tps: float
    draw_w: float


@dataclass(frozen=True, slots=True)
class PoolView:
    """The replicas of one model at a site.

    Attributes:
        model: Name of the model, as clients ask for it.
        revision: Revision of its weights.
        free_tps: Output tokens per second that the pool could add now.
        waiting: Requests that wait.
        ttft_s: Recent 95th percentile of the time to the first token at that gateway, s; with the
            time in its queue.
        tpot_s: Recent mean time per output token, s.
        uj_per_token: Energy per output token, microjoules.
        points: At most 8 operating points, by rising draw.
        prompt_uj_per_token: Energy of a prompt token that is not cached, microjoules; 0 if it is
            part of `uj_per_token`.
        prompt_s_per_token: Time that a prompt token adds which is not cached, s; 0 if it is part of
            `ttft_s`.
    """

    model: str
    revision: str
    free_tps: float
    waiting: int
    ttft_s: float
    tpot_s: float
    uj_per_token: float
    points: tuple[PoolPoint, ...] = ()
    prompt_uj_per_token: float = 0.0
    prompt_s_per_token: float = 0.0

    @property
    def capacity_tps(self) -> float:
        """Most output tokens per second of the pool."""
        return max((point.output_tps for point in self.points), default=self.free_tps)


class Demand(NamedTuple):
    """Requests of one kind that come to a site from its own customers.

    Attributes:
        model: Their model.
        priority: Their class.
        regions: Regions that their tenants allow.
        data_class: Class of their data.
        output_tps: Output tokens per second.
    """

    model: str
    priority: str
    regions: frozenset[str]
    data_class: str
    output_tps: float


@dataclass(frozen=True, slots=True)
class SiteView:
    """A site as its last heartbeat showed it.

    Attributes:
        site: Its name.
        seq: Number of the heartbeat; rises.
        received_s: When it came, by the monotonic clock of the site that received it, s.
        budget_w: Power that it may draw, W.
        draw_w: Power that it draws, W.
        headroom_w: How much more it may draw, W.
        surplus_w: Part of the headroom that its own wind and sun give, W.
        storage_wh: Energy in its battery, watt-hours, as the protocol has it.
        forecast: The next 16 quarters of an hour.
        price_micro: Price of energy from the grid in the next 24 hours, millionths of `currency`
            per kilowatt-hour.
        gco2: Carbon of that energy, grams per kilowatt-hour.
        currency: ISO 4217 code.
        region: Where it lies in law: what the `regions` of tenants name.
        data_classes: Classes of data that it may process.
        pools: Its pools by name.
        demand: What its own customers ask for, wherever it is served.
    """

    site: str
    seq: int
    received_s: float
    budget_w: float
    draw_w: float
    headroom_w: float
    surplus_w: float
    storage_wh: float
    forecast: tuple[Expected, ...]
    price_micro: tuple[int, ...]
    gco2: tuple[float, ...]
    currency: str
    region: str
    data_classes: frozenset[str]
    pools: Mapping[str, PoolView] = field(default_factory=dict)
    demand: tuple[Demand, ...] = ()

    @property
    def capacity_tps(self) -> float:
        """Most output tokens per second of all pools."""
        return sum(pool.capacity_tps for pool in self.pools.values())

    def pool_of(self, model: str, revision: str | None) -> PoolView | None:
        """Return the pool that serves a model, of any revision if None; None if there is none."""
        for pool in self.pools.values():
            if pool.model == model and revision in (None, pool.revision):
                return pool
        return None


@dataclass(frozen=True, slots=True)
class RequestView:
    """What is known of a request when its site is chosen.

    Attributes:
        model: Name of the model.
        revision: Revision that the client insists on; None for any.
        priority: One of `PRIORITIES`.
        regions: Regions that its tenant allows.
        data_class: Class of its data.
        prompt_tokens: Prompt tokens.
        output_tokens: Output tokens that are expected.
        conversation: Key of its conversation; None without one.
        deadline_s: It must have ended within this time, s; None without one.
        ttft_s: Longest time to the first token of its SLO, s.
        tpot_s: Longest time per output token of its SLO, s.
        hops: How many sites have sent it on: at most one may.
        tenant: Its tenant, as this site calls it; other sites never see the name.
    """

    model: str
    revision: str | None
    priority: str
    regions: frozenset[str]
    data_class: str
    prompt_tokens: int
    output_tokens: int
    conversation: str | None = None
    deadline_s: float | None = None
    ttft_s: float = math.inf
    tpot_s: float = math.inf
    hops: int = 0
    tenant: str = "default"

    def __post_init__(self) -> None:
        """Check the class."""
        assert self.priority in PRIORITIES, self.priority

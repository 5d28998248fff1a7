"""Which variant serves an alias: the best one while the watts are enough, a smaller one if not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from steppe.control.plan import Plan
from steppe.control.policy.goals import SPARE_SHARE
from steppe.control.policy.planner import Planner
from steppe.control.pools import Pool, ShareBudget
from steppe.control.shortage_forecast import covering_w
from steppe.control.state import AliasLoad, Observation

Shares = Mapping[str, float]
"""The share of each model in the requests for an alias; they sum to 1."""

HALVINGS = 6
"""How finely the level is sought: to 1/64."""
RETURN_PER_S = 0.05
"""Fastest return to better variants, levels in a second: their replicas have to wake."""
RETURN_SLACK = 0.03
"""Watts that must be free for a return, share of the budget, so that a level does not flap."""
UNSERVED = 100.0
"""What demand weighs that a pool has no replicas for, times the draw that would serve it."""
BACKLOG_S = 10.0
"""Time in which waiting requests are to be served, s: plans that come too short show in them."""
MOST_LOADED = 0.9
"""Most of a pool's output at the SLO that is planned for it, share."""


def shares_at(level: float, variants: tuple[str, ...]) -> dict[str, float]:
    """Return the share of each variant at a level.

    Args:
        level: 0: the first serves all; 1: the last does. Between them two neighbours share.
        variants: The models, best first.
    """
    at = level * (len(variants) - 1)
    lower = min(int(at), len(variants) - 2)
    shares = dict.fromkeys(variants, 0.0)
    shares[variants[lower]] = lower + 1 - at
    shares[variants[lower + 1]] = at - lower
    return shares


@dataclass(slots=True)
class ChooseVariants:
    """A policy that gives each alias a share by variant before the budget is divided.

    All aliases are at one level between the first and the last of their variants: the lowest at
    which the watts cover the demand of all pools at their SLOs. If no level is enough, it is the
    one that needs the least: it serves the most requests. Requests that require the first variant
    stay with it. The level rises at once, and returns slowly.

    Attributes:
        policy: Divides the budget among the pools.
        aliases: The variants of each alias, best first.
        level: The present level.
        decided_s: Time of the last decision, s; None before the first.
        reserves: Capacity beyond the demand that the SLO needed lately, by pool, share.
    """

    policy: ShareBudget
    aliases: Mapping[str, tuple[str, ...]]
    level: float = 0.0
    decided_s: float | None = None
    reserves: dict[str, float] = field(default_factory=dict)

    def decide(self, observation: Observation) -> Plan:
        """Return a plan with a share by variant for each alias."""
        self.level = self._next_level(observation)
        self.decided_s = observation.now_s
        tps = self._demands(observation, self.level)
        parts = {
            name: replace(part, demand_tps=tps[name]) for name, part in observation.pools.items()
        }
        plan = self.policy.decide(replace(observation, pools=parts))
        self.reserves = {name: part.learned.reserve for name, part in plan.pools.items()}
        variants = {name: shares_at(self.level, of) for name, of in self.aliases.items()}
        return replace(plan, variants=variants)

    def _next_level(self, observation: Observation) -> float:
        wanted = self._lowest(observation, 0.0)
        if wanted >= self.level:
            return wanted
        wanted = min(self.level, self._lowest(observation, RETURN_SLACK))
        since_s = 0.0 if self.decided_s is None else observation.now_s - self.decided_s
        return max(wanted, self.level - RETURN_PER_S * since_s)

    def _lowest(self, observation: Observation, slack: float) -> float:
        """Return the lowest level that the watts cover; if none is, the one that needs least."""
        budget_w = observation.gpu_budget_w * (1 - slack)
        needs_w = {level: self._need_w(observation, level) for level in (0.0, 1.0)}
        if needs_w[0.0] <= budget_w:
            return 0.0
        low, high = 0.0, 1.0
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            needs_w[middle] = self._need_w(observation, middle)
            if needs_w[middle] <= budget_w or needs_w[high] > needs_w[middle]:
                high = middle
            else:
                low = middle
        return high if needs_w[high] <= budget_w else min(needs_w, key=lambda at: needs_w[at])

    def _need_w(self, observation: Observation, level: float) -> float:
        """Return the draw that covers the demand at a level, W, more if pools cannot serve it."""
        demands = self._demands(observation, level)
        return sum(
            self._pool_w(self.policy.pools[name], part, demands[name], self.reserves.get(name, 0.0))
            for name, part in observation.pools.items()
        )

    @staticmethod
    def _pool_w(pool: Pool, part: Observation, demand_tps: float, reserve: float) -> float:
        usable, full = part.counts.usable, pool.frontier.full
        need_tps = demand_tps * (1 + SPARE_SHARE + reserve)
        most_tps = MOST_LOADED * usable * full.output_tps
        beyond_tps = max(0.0, need_tps - most_tps)
        others_w = Planner(pool.frontier, pool.drain_w).others_w(part, may_drain=False)
        # Demand that the pool cannot serve weighs far more than any watts that serve it.
        beyond_w = UNSERVED * beyond_tps * full.draw_w / full.output_tps
        return covering_w(pool.frontier, usable, min(need_tps, most_tps)) + others_w + beyond_w

    def _demands(self, observation: Observation, level: float) -> dict[str, float]:
        """Return the demand of each pool at a level, output tokens per second."""
        loads = observation.aliases
        tps = {name: part.demand_tps for name, part in observation.pools.items()}
        for load in loads.values():
            for name, of_model_tps in load.by_model.items():
                tps[name] = max(0.0, tps[name] - of_model_tps)
        for alias, variants in self.aliases.items():
            if alias not in loads:
                continue
            load = loads[alias]
            tps[variants[0]] += load.required_tps
            free_tps = load.tps - load.required_tps + _backlog_tps(observation, load)
            for name, share in shares_at(level, variants).items():
                tps[name] += share * free_tps
        return tps


def _backlog_tps(observation: Observation, load: AliasLoad) -> float:
    """Return the output that serves the waiting requests of an alias soon, tokens per second."""
    tokens = 0.0
    for name, of_model_tps in load.by_model.items():
        part = observation.pools[name]
        if part.waiting and part.lengths is not None and part.demand_tps > 0:
            of_alias = part.waiting * of_model_tps / part.demand_tps
            tokens += of_alias * part.lengths.output_tokens
    return tokens / BACKLOG_S

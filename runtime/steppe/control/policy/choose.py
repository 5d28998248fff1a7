"""From the configuration to the policy, with its memory around it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from steppe.config import ControlSection, HorizonSection
from steppe.control.horizon.bounds import Foresight, HorizonBounds, HorizonForecast
from steppe.control.horizon.inputs import HorizonTerms
from steppe.control.policy.baselines import (
    ClocksAndReplicas,
    ClocksOnly,
    FullClocks,
    NameplateCeiling,
    PowerCapOnly,
    Reactive,
    ReplicasOnly,
)
from steppe.control.policy.damping import Ramp, ScaleDownDelay
from steppe.control.policy.decode_only_draw import DecodeOnlyDraw, ReclaimUnderdraw
from steppe.control.policy.draw_feedback import DrawFeedback
from steppe.control.policy.full_batches import FullBatches, full_batches
from steppe.control.policy.margin import Margin
from steppe.control.policy.policies import (
    SLO_SHARE,
    BoundedPolicy,
    FollowBudget,
    Policy,
    SaveEnergy,
    at_slo,
    at_slo_if_any,
)
from steppe.control.policy.raise_batch_limits import RaiseBatchLimits
from steppe.control.policy.sticky_batch_limits import StickyBatchLimits
from steppe.frontier.pareto import Frontier
from steppe.power.battery import BatteryView


@dataclass(frozen=True, slots=True)
class PoolFacts:
    """What a policy must know of its pool; seconds are those of the run.

    Attributes:
        frontier: Operating points of one replica.
        replicas: How many there are when none is lost.
        tpot_s: The SLO's longest time per output token, s.
        max_wait_s: How long a request may wait, s.
        forecast: Forecast of the budget for the GPUs.
        store: The battery, if there is one.
        speedup: Seconds of trace in a second of the run.
    """

    frontier: Frontier
    replicas: int
    tpot_s: float
    max_wait_s: float
    forecast: Foresight
    store: BatteryView | None = None
    speedup: float = 1.0


def make_policy(control: ControlSection, pool: PoolFacts) -> Policy:
    """Return the policy that a configuration asks for.

    Every policy that keeps its draw to the budget, all but `full_clocks`, `nameplate` and
    `reactive`, has the same feedback, margin and ramp; every one that moves the number of
    replicas, but for `full_clocks` and `nameplate`, has the same dwell. `clocks_and_replicas` and
    `follow_budget` use points that keep the SLO, if any point does. Only `follow_budget` and
    `save_energy` reclaim the underdraw of full replicas (`ReclaimUnderdraw`), raise batch limits
    within the budget (`RaiseBatchLimits`) and, with a horizon, plan a day ahead (`HorizonBounds`).
    Only `follow_budget` prefers full batches (`FullBatches`) and keeps batch limits where others
    gain little (`StickyBatchLimits`). Benchmarks compare the policies with these stages.

    Raises:
        InfeasibleError: No operating point keeps the SLO of `save_energy`.
    """
    policy: Policy
    frontier = pool.frontier
    match control.policy:
        case "follow_budget":
            kept = at_slo_if_any(frontier, pool.tpot_s)
            policy = _following(control, pool, _follow_budget(pool, kept), kept)
        case "save_energy":
            kept = at_slo(frontier, pool.tpot_s, SLO_SHARE)
            save = SaveEnergy(kept, frontier.drain.draw_w, control.utilisation)
            policy = _following(control, pool, save, kept)
        case "full_clocks":
            policy = FullClocks(frontier)
        case "power_cap":
            policy = _damped(control, pool, PowerCapOnly(frontier, _given(control.least_cap_w)))
        case "clocks":
            policy = _damped(control, pool, ClocksOnly(frontier))
        case "replicas":
            policy = _damped(control, pool, ScaleDownDelay(ReplicasOnly(frontier), control.dwell_s))
        case "clocks_and_replicas":
            kept = at_slo_if_any(frontier, pool.tpot_s)
            both = ScaleDownDelay(ClocksAndReplicas(kept), control.dwell_s)
            policy = _damped(control, pool, both)
        case "nameplate":
            policy = NameplateCeiling(frontier, _given(control.nameplate_w))
        case "reactive":
            policy = ScaleDownDelay(Reactive(frontier), control.dwell_s)
    return policy


def _given(value: float | None) -> float:
    assert value is not None, "the config asks for it with this policy"
    return value


def _follow_budget(pool: PoolFacts, kept: Frontier) -> BoundedPolicy:
    drain_w = pool.frontier.drain.draw_w
    full = FollowBudget(full_batches(kept), drain_w)
    return StickyBatchLimits(FullBatches(FollowBudget(kept, drain_w), full), kept)


def _following(
    control: ControlSection, pool: PoolFacts, inner: BoundedPolicy, frontier: Frontier
) -> Policy:
    dip = DecodeOnlyDraw()
    damped = _damped(control, pool, _planned(control, pool, ReclaimUnderdraw(inner, dip), frontier))
    return replace(damped, dip=dip)


def _damped(control: ControlSection, pool: PoolFacts, inner: Policy) -> DrawFeedback:
    rise_w_per_s = control.ramp_up_share * pool.replicas * pool.frontier.full.draw_w
    ramped = Ramp(inner, rise_w_per_s, control.period_s)
    margin = Margin(control.margin_share, control.over_share)
    least_w = pool.frontier.floor.draw_w
    return DrawFeedback(ramped, margin, pool.frontier.asleep_w, awake_w=least_w)


def _planned(
    control: ControlSection, pool: PoolFacts, inner: BoundedPolicy, frontier: Frontier
) -> Policy:
    section = control.horizon
    if section is not None:
        every_s = max(control.period_s, section.every_s / pool.speedup)
        inner = HorizonBounds(inner, _day_ahead(section, pool, frontier), every_s)
    return RaiseBatchLimits(ScaleDownDelay(inner, control.dwell_s), frontier)


def _day_ahead(section: HorizonSection, pool: PoolFacts, frontier: Frontier) -> HorizonForecast:
    """Return who looks ahead, with the points that may be used.

    In steps of the run, as the battery's limits and the patience are.
    """
    asked, patience_s = (section.wake_j, section.step_s / pool.speedup), pool.max_wait_s
    terms = HorizonTerms(frontier, pool.replicas, *asked, patience_s=patience_s)
    if pool.store is None:
        return HorizonForecast(terms, pool.forecast, section.steps, section.low_share)
    terms, store = replace(terms, battery=pool.store.battery), pool.store
    return HorizonForecast(terms, store.forecast, section.steps, section.low_share, store.stored_j)

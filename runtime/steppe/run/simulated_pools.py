"""The simulation of several models on one power budget."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from steppe.config import PoolSection, PowerSection, RunConfig
from steppe.control.batch_policy import BatchPool, BatchTerms, PlanBatch
from steppe.control.policy.goals import at_slo_if_any
from steppe.control.policy.make import make_policy
from steppe.control.policy.policy import Foresight, Policy, PoolFacts
from steppe.control.pool_moves import MovablePool, MovePools
from steppe.control.pools import Pool, ShareBudget
from steppe.control.reconcile import DrainRule
from steppe.control.shortage_forecast import ShortagePoints
from steppe.control.sleep_ladder import ladder_of
from steppe.control.variants import ChooseVariants
from steppe.errors import ConfigError
from steppe.frontier.pareto import Frontier
from steppe.grid.controller.known_pools import KnownPool
from steppe.load.arrivals import Arrival
from steppe.power.budget import PowerBudget, budget_from_config
from steppe.power.supply import with_rating
from steppe.report.records import Slo
from steppe.run.check_slo import check_slo, warn_of_slow_fleet
from steppe.run.check_supply import deepest_asleep_w, modelled_rating_w, warn_of_early_end
from steppe.run.frontier_subject import subject_of
from steppe.run.simulated_fleet import (
    frontier_for,
    simulated_fleet,
    warn_of_args,
    warn_of_assumptions,
)
from steppe.run.simulated_load import arrivals_for, warn_of_lengths, with_lengths_of_load
from steppe.run.warnings import Warn
from steppe.sim.batch_jobs import jobs_of
from steppe.sim.build import require_room
from steppe.sim.fleet_settings import FleetSettings
from steppe.sim.grid_events import GridScenario
from steppe.sim.pooled_fleet import PooledSettings
from steppe.sim.run import Failure, Scenario

STOPPED_WAKE_S = 60.0
"""Time to load a model, s, if the configuration states none: that of `fleet.sleep`."""


@dataclass(frozen=True, slots=True)
class SimulatedPool:
    """One of several models of a simulation.

    Attributes:
        config: The configuration of this model alone.
        fleet: Its replicas.
        frontier: Operating points of one of them.
        arrivals: Its requests.
    """

    config: RunConfig
    fleet: FleetSettings
    frontier: Frontier
    arrivals: tuple[Arrival, ...]

    @property
    def full_w(self) -> float:
        """Draw of all its replicas at the full point, W."""
        return self.fleet.replicas * self.frontier.full.draw_w


@dataclass(frozen=True, slots=True)
class PooledScenario:
    """A simulation of several models.

    Attributes:
        config: The configuration, with the rating of all GPUs.
        scenario: What happens.
        frontiers: Operating points of one replica of each model.
        requests: Number of requests.
    """

    config: RunConfig
    scenario: Scenario
    frontiers: Mapping[str, Frontier]
    requests: int


def slo_of(config: RunConfig) -> Slo:
    """Return the times that requests must keep, those of each model where they differ."""
    slo = Slo(config.slo.ttft_s, config.slo.tpot_s)
    if len(config.models) < 2:
        (alone,) = config.pools.values()
        return Slo(alone.slo.ttft_s, alone.slo.tpot_s)
    of_models = {n: Slo(alone.slo.ttft_s, alone.slo.tpot_s) for n, alone in config.pools.items()}
    of_models |= {alias: of_models[variants[0]] for alias, variants in config.aliases.items()}
    return replace(slo, of_models={n: of for n, of in of_models.items() if of != slo})


def pooled_scenario(config: RunConfig, warn: Warn) -> PooledScenario:
    """Return what a simulation of several models needs.

    Args:
        config: The configuration.
        warn: Takes what the user should know about the run, a line each.

    Raises:
        ConfigError: The configuration cannot be simulated.
        ModelError: A model on a modelled GPU is not known.
        TraceError: A supply or request trace cannot be read.
    """
    _check_failures(config)
    pools = {
        name: simulated_pool(name, number, alone, warn, _load_s(config, section))
        for number, ((name, alone), section) in enumerate(
            zip(config.pools.items(), config.models, strict=True)
        )
    }
    rated = config.model_copy(update={"power": _rated(config.power, pools)})
    fleet = PooledSettings({name: pool.fleet for name, pool in pools.items()})
    budget = budget_from_config(rated.power, rated.site, nodes=fleet.nodes)
    warn_of_early_end(rated.power, budget, rated.sim.duration_s, warn)
    refuse_useless_budget(rated, pools, budget)
    scenario = scenario_of_pools(rated, pools, budget)
    frontiers = {name: pool.frontier for name, pool in pools.items()}
    requests = sum(len(pool.arrivals) for pool in pools.values())
    return PooledScenario(rated, scenario, frontiers, requests)


def _load_s(config: RunConfig, section: PoolSection) -> float:
    """Return the time to load a model on GPUs of another one, s."""
    stopped = (sleep.wake_s for sleep in config.fleet.sleep if sleep.kind == "stopped")
    return section.load_s or next(stopped, None) or STOPPED_WAKE_S


def _check_failures(config: RunConfig) -> None:
    replicas = sum(model.replicas for model in config.models)
    for part in config.sim.failures:
        if part.replica > replicas:
            raise ConfigError(f"sim.failures: replica {part.replica} of {replicas} does not exist")


def simulated_pool(
    name: str, number: int, config: RunConfig, warn: Warn, load_s: float = STOPPED_WAKE_S
) -> SimulatedPool:
    """Return the replicas, operating points and requests of one model.

    Args:
        name: Name of the model.
        number: Its place among the models; their requests come at different times.
        config: The configuration of this model alone.
        warn: Takes what the user should know, a line each.
        load_s: Time to load its model on GPUs of another one, s.
    """

    def of_model(line: str) -> None:
        warn(f"{name}: {line}")

    load = config.load.model_copy(update={"seed": config.load.seed + number})
    sim = config.sim.model_copy(update={"failures": ()})  # they name replicas of all models
    settings = with_lengths_of_load(config.model_copy(update={"load": load, "sim": sim}))
    fleet = simulated_fleet(settings)
    gpus = config.fleet.gpus_per_replica
    fleet = replace(fleet, place=replace(fleet.place, gpus=gpus, load_s=load_s))
    frontier = frontier_for(settings, fleet.kind)
    check_slo(settings, frontier, of_model)
    warn_of_args(config.engine, of_model)
    warn_of_assumptions(config, of_model)
    warn_of_lengths(config, of_model)
    arrivals = arrivals_for(settings, frontier.full.output_tps * fleet.replicas, of_model)
    require_room(fleet.kind.engine, arrivals)
    offered_tps = sum(arrival.output_tokens for arrival in arrivals) / settings.sim.duration_s
    warn_of_slow_fleet(settings, frontier, fleet.replicas, offered_tps, of_model)
    return SimulatedPool(settings, fleet, frontier, _named(config, name, arrivals))


def _named(config: RunConfig, name: str, arrivals: tuple[Arrival, ...]) -> tuple[Arrival, ...]:
    """Return requests with the model, or the alias, that they ask for."""
    load = config.load
    if load.alias is None:
        return tuple(replace(arrival, model=name) for arrival in arrivals)
    rng = np.random.default_rng((load.seed, len(arrivals)))
    required = (rng.random(len(arrivals)) < load.required_share).tolist()
    return tuple(
        replace(arrival, model=load.alias, required=requires)
        for arrival, requires in zip(arrivals, required, strict=True)
    )


def scenario_of_pools(
    config: RunConfig, pools: Mapping[str, SimulatedPool], budget: PowerBudget
) -> Scenario:
    """Return the run of several models on a budget, from their parts."""
    rules = {n: DrainRule(p.frontier.drain, config.control.drain_s) for n, p in pools.items()}
    points = {n: ShortagePoints.of(p.frontier, p.config.slo.tpot_s) for n, p in pools.items()}
    return Scenario(
        fleet=PooledSettings({name: pool.fleet for name, pool in pools.items()}, config.aliases),
        policy=PlanBatch(
            with_moves(config, pools, policy_of_pools(pools, budget, config.aliases)),
            [_batch_pool(name, pool) for name, pool in pools.items()],
            BatchTerms.of(config, budget),
        ),
        drain_rule=next(iter(rules.values())),
        budget=budget,
        points=ShortagePoints.of_pools(points),
        arrivals=merged(pools),
        duration_s=config.sim.duration_s,
        failures=tuple(Failure(part.at_s, part.replica - 1) for part in config.sim.failures),
        lead_s=config.control.lead_s,
        pool_rules=rules,
        jobs=tuple(job for n, p in pools.items() for job in jobs_of(p.config.load, n)),
        seed=config.load.seed,
        grid=GridScenario.of(config, {name: _known(name, p) for name, p in pools.items()}),
    )


def _known(name: str, pool: SimulatedPool) -> KnownPool:
    ladder = ladder_of(pool.fleet.kind.rungs, pool.frontier)
    return KnownPool(pool.frontier, name, ladder)


def _batch_pool(name: str, pool: SimulatedPool) -> BatchPool:
    kept = at_slo_if_any(pool.frontier, pool.config.slo.tpot_s)
    return BatchPool(name, kept, pool.fleet.replicas)


def policy_of_pools(
    pools: Mapping[str, SimulatedPool],
    budget: PowerBudget,
    aliases: Mapping[str, tuple[str, ...]],
) -> Policy:
    """Return the policy that divides a budget among pools, each with the policy of its own."""
    full_w = sum(pool.full_w for pool in pools.values())
    policy = ShareBudget(
        {name: _pool_of(pool, budget, pool.full_w / full_w) for name, pool in pools.items()}
    )
    return ChooseVariants(policy, aliases) if aliases else policy


def with_moves(config: RunConfig, pools: Mapping[str, SimulatedPool], policy: Policy) -> Policy:
    """Return the policy, with moves of replicas between pools if the configuration allows any."""
    sections = dict(zip(pools, config.models, strict=True))
    if all(section.least == section.most for section in sections.values()):
        return policy
    return MovePools(policy, {n: _movable(pool, sections[n]) for n, pool in pools.items()})


def _movable(pool: SimulatedPool, section: PoolSection) -> MovablePool:
    return MovablePool(
        frontier=at_slo_if_any(pool.frontier, pool.config.slo.tpot_s),
        drain_w=pool.frontier.drain.draw_w,
        value=section.weight,
        gpus=(str(subject_of(pool.config).gpu), section.gpus_per_replica),
        least=section.least,
        most=section.most,
        load_s=pool.fleet.place.load_s,
        load_w=pool.fleet.kind.transitions.draw_w,
    )


def _pool_of(pool: SimulatedPool, budget: PowerBudget, share: float) -> Pool:
    """Return a pool, whose part of the forecast is that of its full draw in the one of all."""
    config, frontier = pool.config, pool.frontier
    facts = PoolFacts.of(config, frontier, pool.fleet.replicas, budget, pool.fleet.kind.rungs)
    facts = replace(facts, forecast=_part_of(budget.forecast, share))
    kept = at_slo_if_any(frontier, config.slo.tpot_s)
    return Pool(kept, frontier.drain.draw_w, make_policy(facts), config.model.weight)


def _part_of(forecast: Foresight, share: float) -> Foresight:
    def part(now_s: float, horizon_s: float, step_s: float) -> list[tuple[float, float]]:
        return [(at_s, share * watts) for at_s, watts in forecast(now_s, horizon_s, step_s)]

    return part


def merged(pools: Mapping[str, SimulatedPool]) -> Iterator[Arrival]:
    """Yield the requests of all models in the order of their arrival."""
    return heapq.merge(*(pool.arrivals for pool in pools.values()), key=lambda a: a.at_s)


def _rated(power: PowerSection, pools: Mapping[str, SimulatedPool]) -> PowerSection:
    """Return a power section whose shares of the GPUs' rating have that of all GPUs."""
    rated_w = [modelled_rating_w(pool.config, pool.fleet.replicas) for pool in pools.values()]
    known_w = [watts for watts in rated_w if watts is not None]
    return with_rating(power, sum(known_w) if len(known_w) == len(rated_w) else None)


def refuse_useless_budget(
    config: RunConfig, pools: Mapping[str, SimulatedPool], budget: PowerBudget
) -> None:
    """Refuse a budget that never exceeds what all sleeping replicas draw.

    Raises:
        ConfigError: It never does.
    """
    asleep_w = sum(
        pool.fleet.replicas * deepest_asleep_w(pool.config, pool.frontier.asleep_w)
        for pool in pools.values()
    )
    if config.control.policy != "full_clocks" and budget.most_gpu_w <= asleep_w:
        raise ConfigError(
            f"power.supply: asked for more than the {asleep_w:.0f} W of all sleeping replicas of "
            f"{len(pools)} models, found at most {budget.most_gpu_w:.0f} W for the GPUs: raise the "
            "supply, or lower models[].replicas"
        )

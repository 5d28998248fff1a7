"""The budget: can it ever exceed what the fleet draws asleep?"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from steppe.config import EmulatedSection, ModelledSection, RunConfig, SignalSupply
from steppe.errors import ConfigError, ModelError, UsageError
from steppe.frontier.file import read_frontier
from steppe.power.budget import budget_from_config
from steppe.power.signal import Fresh, Missing, Reading
from steppe.power.signal_file import SignalFile, SignalReader
from steppe.power.supply import needs_rating, with_rating
from steppe.roofline.files import read_gpu_spec, spec_name
from steppe.roofline.lengths import RequestLengths
from steppe.run.check_supply import deepest_asleep_w
from steppe.run.doctor.finding import Finding, Level
from steppe.run.doctor.gpu_facts import GpuFacts
from steppe.sim.build import modelled_replica

GROUP = "budget"


@dataclass(frozen=True, slots=True)
class SleepDraw:
    """What a sleeping replica draws.

    Attributes:
        watts: The draw, W.
        source: Where it comes from: `measured`, `emulated` or `modelled`.
    """

    watts: float
    source: str


def check_budget(config: RunConfig, nodes: Sequence[Sequence[GpuFacts]]) -> list[Finding]:
    """Return whether the budget of a run can ever let a replica work.

    Args:
        config: The run.
        nodes: The GPUs of each host; those with memory errors do not count.
    """
    sound = _sound(nodes)
    replicas = _replicas(config, sound)
    used = [gpu for gpus in sound for gpu in gpus][: replicas * config.fleet.gpus_per_replica]
    if not used:
        return []
    limits_w = [gpu.highest_w for gpu in used]
    rated_w = None if None in limits_w else math.fsum(w for w in limits_w if w is not None)
    if needs_rating(config.power) and rated_w is None:
        text = "share_of_rated, and a GPU reports no highest board power limit"
        return [Finding(GROUP, "supply", Level.FATAL, text, "give rated_w beside share")]
    power = with_rating(config.power, rated_w)
    most_w = budget_from_config(power, config.site, nodes=len(nodes)).most_gpu_w
    asleep = sleep_draw(config, used[0])
    return [_most(config, most_w, replicas, asleep), *_signals(config)]


def _replicas(config: RunConfig, nodes: Sequence[Sequence[GpuFacts]]) -> int:
    room = sum(len(gpus) // config.fleet.gpus_per_replica for gpus in nodes)
    wanted = config.fleet.replicas
    return room if wanted == "all" else min(room, wanted)


def check_room(config: RunConfig, nodes: Sequence[Sequence[GpuFacts]]) -> Finding:
    """Return whether the GPUs hold the replicas that are asked for."""
    each, wanted = config.fleet.gpus_per_replica, config.fleet.replicas
    sound = _sound(nodes)
    room = sum(len(gpus) // each for gpus in sound)
    broken = sum(map(len, nodes)) - sum(map(len, sound))
    text = f"asked for {wanted}, room for {room} on {sum(map(len, sound))} GPUs, {each} for each"
    if broken:
        text += f"; {broken} with memory errors left out"
    if room and (wanted == "all" or wanted <= room):
        return Finding(GROUP, "replicas", Level.OK, text)
    # The fleet starts with the replicas for which there is room.
    whole = sum(len(gpus) // each for gpus in nodes)
    level = Level.WARNING if room and wanted != "all" and wanted <= whole else Level.FATAL
    advice = "lower fleet.replicas or fleet.gpus_per_replica, or add GPUs"
    return Finding(GROUP, "replicas", level, text, advice)


def _sound(nodes: Sequence[Sequence[GpuFacts]]) -> list[list[GpuFacts]]:
    """Return the GPUs of each host without those that have memory errors."""

    def is_broken(gpu: GpuFacts) -> bool:
        return gpu.health is not None and bool(gpu.health.memory_faults)

    return [[gpu for gpu in gpus if not is_broken(gpu)] for gpus in nodes]


def sleep_draw(config: RunConfig, gpu: GpuFacts) -> SleepDraw | None:
    """Return what a replica on such GPUs draws asleep; None if nothing says it."""
    if config.frontier.file is not None:
        try:
            frontier = read_frontier(config.frontier.file)
        except ConfigError:
            return None
        return SleepDraw(frontier.asleep_w, frontier.source)
    try:
        device = config.device
        if not isinstance(device, EmulatedSection):
            device = ModelledSection(kind="modelled", gpu=spec_name(gpu.name))
        modelled = config.model_copy(update={"device": device})
        return SleepDraw(
            modelled_replica(modelled, RequestLengths(1, 1)).model.asleep_w, "modelled"
        )
    except (ConfigError, ModelError, UsageError):
        return _without_model(config, gpu)


def _without_model(config: RunConfig, gpu: GpuFacts) -> SleepDraw | None:
    """Return the draw of GPUs with a context, whose model the roofline does not know."""
    try:
        spec = read_gpu_spec(spec_name(gpu.name))
    except ConfigError:
        return None
    return SleepDraw(config.fleet.gpus_per_replica * (spec.bare_w + spec.context_w), "modelled")


def _most(config: RunConfig, most_w: float, replicas: int, asleep: SleepDraw | None) -> Finding:
    most = "any, by a signal" if math.isinf(most_w) else f"at most {most_w:.0f} W"
    text = f"{most} for the GPUs"
    if asleep is None:
        return Finding(GROUP, "supply", Level.UNKNOWN, f"{text}; the sleeping draw is not known")
    whole_w = replicas * deepest_asleep_w(config, asleep.watts)
    text += f"; asleep the fleet of {replicas} draws {whole_w:.0f} W ({asleep.source})"
    if most_w <= whole_w and config.control.policy != "full_clocks":
        advice = "raise power.supply, or lower fleet.replicas: nothing could ever run"
        return Finding(GROUP, "supply", Level.FATAL, text, advice)
    return Finding(GROUP, "supply", Level.OK, text)


def _signals(config: RunConfig) -> list[Finding]:
    """Read the signal files once."""
    return [
        _signal(part, config.power.stale_s, config.power.fallback_w)
        for part in (*config.power.supply, *config.power.limits)
        if isinstance(part, SignalSupply)
    ]


def _signal(part: SignalSupply, stale_s: float, fallback_w: float) -> Finding:
    reading: Reading = SignalReader(SignalFile(part.path, stale_s, time.time)).read()
    advice = (
        f"have it rewritten every {stale_s / 3:.0f} s; until then the budget is {fallback_w:g} W"
    )
    match reading:
        case Fresh(watts=watts, age_s=age_s):
            text = f"{part.path}: {watts:g} W, {age_s:.0f} s old"
            return Finding(GROUP, "signal", Level.OK, text)
        case Missing(reason=reason):
            return Finding(GROUP, "signal", Level.WARNING, f"{reason}", advice)
        case stale:
            text = f"{part.path} is {stale.age_s:.0f} s old"
            return Finding(GROUP, "signal", Level.WARNING, text, advice)

"""What `steppe bench sweep` measures: the replicas of a config, or a server behind a URL."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace

from rich.console import Console

from steppe.config import RunConfig
from steppe.device.inventory import has_admin_capability
from steppe.device.nvml import NvmlGpu
from steppe.energy.meter import REST_S, EnergyTotal, choose_gpus
from steppe.errors import UsageError
from steppe.fleet.driver.driver import FleetDriver
from steppe.fleet.driver.fleet_actors import FleetActors
from steppe.fleet.messages import ReplicaTotals
from steppe.load.arrivals import Arrival
from steppe.load.client import Target, served_models
from steppe.load.replay import ReplayOptions
from steppe.measure.provenance import Provenance
from steppe.measure.sweep.client_subject import ClientSubject
from steppe.measure.sweep.fleet_sweep import SETTLE_S, measure_draw_w, measure_rest
from steppe.measure.sweep.gpu_watch import GpuWatch
from steppe.measure.sweep.result import RestWatts
from steppe.measure.sweep.saturate import Saturation, saturated
from steppe.measure.sweep.subject import Rig
from steppe.run.gpu_provenance import provenance_of, refuse_shared
from steppe.run.host_meter import (
    clock_setter,
    metering,
    see_gpus,
)
from steppe.run.live import running_fleet, served_name

DEFAULT_LONGEST = 2048


@dataclass(frozen=True, slots=True)
class Ready:
    """Everything that a sweep needs of what it measures.

    Attributes:
        rigs: The replicas, alike.
        rest: What they draw without work.
        provenance: What the results rest on.
        clocks_mhz: SM clocks that can be set, rising, MHz; empty without that knob.
        largest_batch: Largest batch limit that makes sense.
        longest_tokens: Longest prompt and output together, tokens.
        counts_steps: Whether engine steps are counted, so that curves can be fitted.
    """

    rigs: tuple[Rig, ...]
    rest: RestWatts
    provenance: Provenance
    clocks_mhz: tuple[int, ...]
    largest_batch: int
    longest_tokens: int
    counts_steps: bool


class FleetSubject:
    """One replica of a running fleet."""

    def __init__(self, actors: FleetActors, name: str) -> None:
        self._actors, self._name = actors, name

    def set_point(self, clock_mhz: int, batch_limit: int) -> None:
        """Set the limits and wait until the node has them."""
        self._actors.set_point(self._name, clock_mhz, batch_limit)

    def reading(self) -> ReplicaTotals:
        """Return totals and state now."""
        return self._actors.reading(self._name)


@contextmanager
def fleet_ready(config: RunConfig, replicas: str, seed: int, console: Console) -> Generator[Ready]:
    """Bring up the fleet of a config for a sweep.

    Args:
        config: The run; its power budget plays no part.
        replicas: `one`, or `all` to share the points out.
        seed: Seed of lengths and prompts.
        console: Where to say what happens.

    Raises:
        UsageError: Another process is on the GPUs already.
    """
    gpus = see_gpus(config)
    refuse_shared(gpus)
    bare_w = _bare_w(gpus)
    with running_fleet(config, console) as driver:
        names = list(driver.actors.placements)
        names = names[:1] if replicas == "one" else names
        rest = _rest(driver.actors, names, bare_w, config.fleet.gpus_per_replica)
        yield Ready(
            rigs=tuple(_fleet_rig(driver, config, name, gpus) for name in names),
            rest=rest,
            provenance=_fleet_provenance(driver, config, names, gpus, seed),
            clocks_mhz=driver.actors.clocks_mhz(names[0]),
            largest_batch=config.engine.max_batch_limit,
            longest_tokens=config.model.max_model_len or DEFAULT_LONGEST,
            counts_steps=True,
        )


def _fleet_rig(driver: FleetDriver, config: RunConfig, name: str, gpus: Sequence[NvmlGpu]) -> Rig:
    target = Target(driver.actors.replica_url(name), served_name(config))
    indices = driver.actors.placements[name].gpu_indices
    own = [gpu for gpu in gpus if gpu.index in indices]
    watch = GpuWatch(own) if own else None
    return Rig(
        name=name,
        subject=FleetSubject(driver.actors, name),
        look=watch.look if watch else _see_nothing,
        saturate=functools.partial(_saturate, target),
        expected_processes=max(1, (watch.most_processes() or 1) if watch else 1),
    )


def _saturate(
    target: Target, arrivals: Sequence[Arrival], concurrency: int, seed: int
) -> AbstractContextManager[Saturation]:
    return saturated([target], arrivals, concurrency, ReplayOptions(seed=seed))


def _see_nothing() -> None:
    """Look at GPUs of another host: nothing can be seen from here."""


def _rest(actors: FleetActors, names: list[str], bare_w: float | None, gpus_each: int) -> RestWatts:
    """Measure loaded idle at a free clock, then at the lowest, then asleep."""
    highest = max(actors.clocks_mhz(names[0]), default=0)
    for name in names:
        actors.set_point(name, highest, 1)
    time.sleep(SETTLE_S)
    loaded_idle_w = measure_draw_w(actors, names, REST_S)
    low = measure_rest(actors, names)
    return RestWatts(
        bare_w=None if bare_w is None else bare_w * gpus_each,
        loaded_idle_w=loaded_idle_w,
        floor_idle_w=low.idle_w,
        asleep_w=low.asleep_w,
    )


def _bare_w(gpus: Sequence[NvmlGpu]) -> float | None:
    """Return the mean draw of a GPU that nobody uses, W."""
    if not gpus:
        return None
    with metering(gpus) as meter:
        return meter.mean_w() / len(gpus)


def _fleet_provenance(
    driver: FleetDriver,
    config: RunConfig,
    names: Sequence[str],
    gpus: Sequence[NvmlGpu],
    seed: int,
) -> Provenance:
    used = {i for name in names for i in driver.actors.placements[name].gpu_indices}
    own = [gpu for gpu in gpus if gpu.index in used]
    found = provenance_of(own, config.model.name, config.engine.kind, seed)
    if own:
        return found
    cards = {gpu.name for node in driver.actors.nodes.values() for gpu in node.info.gpus}
    source = "emulated" if driver.actors.energy_source == "emulated" else "measured"
    return replace(found, gpus=tuple(sorted(cards)), energy_source=source)


@dataclass(frozen=True, slots=True)
class UrlAsked:
    """A server to measure from outside.

    Attributes:
        url: Its address.
        model: Model to ask for; its first if None.
        gpus: Indices of its GPUs on this host; all if empty.
        seed: Seed of lengths and prompts.
        largest_batch: Most clients at once.
        longest_tokens: Longest prompt and output together, tokens.
    """

    url: str
    model: str | None
    gpus: tuple[int, ...]
    seed: int
    largest_batch: int
    longest_tokens: int


@contextmanager
def url_ready(asked: UrlAsked) -> Generator[Ready]:
    """Meter the GPUs here of a server that runs already.

    Its loaded idle is measured; bare and asleep would need it stopped.

    Raises:
        UsageError: It cannot be reached or lacks the model, or its GPUs are not here.
    """
    offered = asyncio.run(served_models(asked.url))
    model = asked.model or (offered[0] if offered else None)
    if model not in offered or model is None:
        raise UsageError(f"{asked.url}: asked for model {model}, found {', '.join(offered)}")
    gpus = choose_gpus(asked.gpus)
    watch = GpuWatch(gpus)
    expected = max(1, watch.most_processes() or 1)
    with metering(gpus) as meter, clock_setter(gpus) as set_clock:
        subject = ClientSubject(Target(asked.url, model), meter, set_clock, ReplayOptions())
        yield Ready(
            rigs=(Rig("server", subject, watch.look, subject.saturate, expected),),
            rest=RestWatts(loaded_idle_w=_idle_w(meter)),
            provenance=provenance_of(gpus, model, asked.url, asked.seed),
            clocks_mhz=gpus[0].capabilities.sm_clocks_mhz if has_admin_capability() else (),
            largest_batch=asked.largest_batch,
            longest_tokens=asked.longest_tokens,
            counts_steps=False,
        )


def _idle_w(meter: EnergyTotal) -> float:
    time.sleep(SETTLE_S)
    return meter.mean_w()

"""What `steppe bench sweep` measures: the replicas of a config, or a server behind a URL."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace

from rich.console import Console

from steppe.config import RunConfig
from steppe.device.inventory import has_admin_capability
from steppe.device.nvml import NvmlGpu
from steppe.energy.meter import choose_gpus
from steppe.errors import UsageError
from steppe.fleet.driver.driver import FleetDriver
from steppe.fleet.driver.fleet_actors import FleetActors
from steppe.load.arrivals import Arrival
from steppe.load.client import ServerTarget, model_limits
from steppe.load.generators import SEQUENCE_TPS, LoadGenerators, load_generators
from steppe.load.replay import ReplayOptions
from steppe.measure.provenance import Provenance
from steppe.measure.sweep.client_subject import ClientSubject
from steppe.measure.sweep.gpu_sensors import GpuSensors
from steppe.measure.sweep.idle import SETTLE_S, measure_idle_draw_w, measure_rest
from steppe.measure.sweep.result import RestWatts
from steppe.measure.sweep.saturate import Saturation, saturated
from steppe.measure.sweep.subject import Rig
from steppe.run.expected_rate import expected_tps
from steppe.run.fleet_subject import FleetSubject, no_sensors
from steppe.run.gpu_provenance import provenance_of, refuse_shared
from steppe.run.host_meter import clock_setter, config_gpus, metering
from steppe.run.running_fleet import running_fleet

DEFAULT_LONGEST = 2048


@dataclass(frozen=True, slots=True)
class SweepTarget:
    """What a sweep measures, ready to be measured.

    Attributes:
        rigs: The replicas, alike.
        gpus_per_replica: GPUs that share the model in each; None where that is not known.
        rest: Their draw without work.
        provenance: Provenance of the results.
        clocks_mhz: SM clocks that can be set, rising, MHz; empty without that knob.
        largest_batch: Largest batch limit that makes sense.
        longest_tokens: Longest prompt and output together, tokens.
        request_limit: The same as the server states it, tokens; None where it does not.
        counts_steps: Whether engine steps are counted, so that curves can be fitted.
        tokens_per_step: Most tokens that an engine computes in a step; None if unknown.
    """

    rigs: tuple[Rig, ...]
    gpus_per_replica: int | None
    rest: RestWatts
    provenance: Provenance
    clocks_mhz: tuple[int, ...]
    largest_batch: int
    longest_tokens: int
    request_limit: int | None
    counts_steps: bool
    tokens_per_step: int | None = None


@contextmanager
def fleet_target(
    config: RunConfig, replicas: str, seed: int, console: Console
) -> Generator[SweepTarget]:
    """Start the fleet of a config for a sweep.

    Args:
        config: The run; its power budget plays no part.
        replicas: `one`, or `all` to share the points.
        seed: Seed of lengths and prompts.
        console: Takes progress messages.

    Raises:
        UsageError: Another process is on the GPUs already.
    """
    gpus = config_gpus(config)
    refuse_shared(gpus)
    bare_w = _bare_w(gpus)
    with running_fleet(config, console) as driver:
        names = driver.actors.ready
        names = names[:1] if replicas == "one" else alike(driver.actors, names, console)
        cards = cards_of(driver.actors, names[0])
        rest = _rest([FleetSubject(driver.actors, name) for name in names])
        if bare_w is not None:
            rest = replace(rest, bare_w=bare_w * config.fleet.gpus_per_replica)
        limit = config.model.max_model_len or _request_limit(driver, config, names[0])
        with _generators(expected_tps(config, set(cards)), len(names), console) as g:
            yield SweepTarget(
                rigs=tuple(_fleet_rig(driver, config, name, gpus, g) for name in names),
                gpus_per_replica=config.fleet.gpus_per_replica,
                rest=rest,
                provenance=_fleet_provenance(driver, config, names, gpus, seed),
                clocks_mhz=driver.actors.clocks_mhz(names[0]),
                largest_batch=config.engine.max_batch_limit,
                longest_tokens=limit or DEFAULT_LONGEST,
                request_limit=limit,
                counts_steps=True,
                tokens_per_step=config.engine.max_tokens_per_step,
            )


def cards_of(fleet: FleetActors, name: str) -> tuple[str, ...]:
    """Return what NVML calls the GPUs of a replica, sorted."""
    placement = fleet.placements[name]
    gpus = fleet.nodes[placement.node_id].info.gpus
    return tuple(sorted(gpu.name for gpu in gpus if gpu.index in placement.gpu_indices))


def alike(fleet: FleetActors, names: Sequence[str], console: Console) -> list[str]:
    """Return the replicas whose GPUs are those of the first: only equal ones share the points.

    Args:
        fleet: The fleet.
        names: Its replicas; at least one.
        console: Takes a line about those that are left out.
    """
    cards = cards_of(fleet, names[0])
    kept = [name for name in names if cards_of(fleet, name) == cards]
    if left_out := len(names) - len(kept):
        console.print(
            f"{left_out} of {len(names)} replicas are left out, because their GPUs are no "
            f"{', '.join(sorted(set(cards)))}: sweep them with a config of their own",
            highlight=False,
            soft_wrap=True,
        )
    return kept


@contextmanager
def _generators(
    replica_tps: float, replicas: int, console: Console
) -> Generator[LoadGenerators | None]:
    """Start the processes that send the load; none where one thread is enough."""
    with load_generators(replica_tps * replicas) as generators:
        if generators is not None:
            console.print(
                f"{generators.count} processes send the load, because a replica is expected to "
                f"send up to {replica_tps:,.0f} output tokens/s",
                highlight=False,
                soft_wrap=True,
            )
        yield generators


def _fleet_rig(
    driver: FleetDriver,
    config: RunConfig,
    name: str,
    gpus: Sequence[NvmlGpu],
    generators: LoadGenerators | None,
) -> Rig:
    target = ServerTarget(
        driver.actors.calls.url(name), config.model.client_name, driver.actors.replica_headers
    )
    indices = driver.actors.placements[name].gpu_indices
    own = [gpu for gpu in gpus if gpu.index in indices]
    sensors = GpuSensors(own) if own else None

    def saturate(
        arrivals: Sequence[Arrival], concurrency: int, seed: int
    ) -> AbstractContextManager[Saturation]:
        options = ReplayOptions(seed=seed)
        return saturated([target], arrivals, concurrency, options, generators=generators)

    return Rig(
        name=name,
        subject=FleetSubject(driver.actors, name),
        read_sensors=sensors.read if sensors else no_sensors,
        saturate=saturate,
        expected_processes=max(1, (sensors.most_processes() or 1) if sensors else 1),
    )


def _request_limit(driver: FleetDriver, config: RunConfig, name: str) -> int | None:
    """Return the longest request that a replica takes, tokens; None if it does not state one."""
    limits = asyncio.run(model_limits(driver.actors.calls.url(name), driver.actors.replica_headers))
    return limits.get(config.model.client_name)


def _rest(replicas: Sequence[FleetSubject]) -> RestWatts:
    """Measure loaded idle at a free clock, then at the lowest, then asleep."""
    clocks_mhz = replicas[0].clocks_mhz
    loaded_idle_w = measure_idle_draw_w(replicas, max(clocks_mhz, default=0))
    rest = measure_rest(replicas, min(clocks_mhz, default=0))
    return replace(rest, loaded_idle_w=loaded_idle_w)


def _bare_w(gpus: Sequence[NvmlGpu]) -> float | None:
    """Return the mean draw of a GPU that no process uses, W."""
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
    provenance = provenance_of(own, config.model.name, config.engine.kind, seed)
    if own:
        return provenance
    cards = {gpu.name for node in driver.actors.nodes.values() for gpu in node.info.gpus}
    source = "emulated" if driver.actors.energy_source == "emulated" else "measured"
    return replace(provenance, gpus=tuple(sorted(cards)), energy_source=source)


@dataclass(frozen=True, slots=True)
class ServerOptions:
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
def server_target(server: ServerOptions, console: Console) -> Generator[SweepTarget]:
    """Meter the GPUs here of a server that runs already.

    Its loaded idle draw is measured; bare and asleep would need it stopped.

    Args:
        server: The server.
        console: Takes progress messages.

    Raises:
        UsageError: It cannot be reached or lacks the model, or its GPUs are not here.
    """
    offered = asyncio.run(model_limits(server.url))
    model = server.model or next(iter(offered), None)
    if model not in offered or model is None:
        raise UsageError(f"{server.url}: asked for model {model}, found {', '.join(offered)}")
    gpus = choose_gpus(server.gpus)
    sensors = GpuSensors(gpus)
    expected = max(1, sensors.most_processes() or 1)
    with (
        metering(gpus) as meter,
        clock_setter(gpus) as set_clock,
        _generators(server.largest_batch * SEQUENCE_TPS, 1, console) as generators,
    ):
        target = ServerTarget(server.url, model)
        subject = ClientSubject(target, meter, set_clock, ReplayOptions(), generators)
        time.sleep(SETTLE_S)
        yield SweepTarget(
            rigs=(Rig("server", subject, sensors.read, subject.saturate, expected),),
            gpus_per_replica=len(server.gpus) or None,
            rest=RestWatts(loaded_idle_w=meter.mean_w()),
            provenance=provenance_of(gpus, model, server.url, server.seed),
            clocks_mhz=gpus[0].capabilities.sm_clocks_mhz if has_admin_capability() else (),
            largest_batch=server.largest_batch,
            longest_tokens=server.longest_tokens,
            request_limit=offered[model],
            counts_steps=False,
        )

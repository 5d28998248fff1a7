"""The frontier of a running fleet, measured on all its replicas at once before it serves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext

from steppe.config import RunConfig, SweepSection
from steppe.errors import ReplicaError
from steppe.fleet.driver.fleet_actors import FleetActors
from steppe.frontier.fit import FrontierFit
from steppe.frontier.pareto import Frontier
from steppe.load.client import ServerTarget
from steppe.measure.sweep.frontier import fit_points, fitted_frontier
from steppe.measure.sweep.idle import measure_rest
from steppe.measure.sweep.point import REAL_TIME, PointTiming, lengths_around, outstanding
from steppe.measure.sweep.result import PointResult, Setting
from steppe.measure.sweep.saturate import saturated
from steppe.measure.sweep.subject import Rig
from steppe.measure.sweep.sweep import run_sweep
from steppe.run.fleet_subject import FleetSubject, no_sensors
from steppe.run.quick_sweep import WARM_UP_S, dense_offer, quick_plan, quick_settings


def sweep_fleet(
    actors: FleetActors,
    config: RunConfig,
    section: SweepSection,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    timing: PointTiming = REAL_TIME,
) -> tuple[Frontier, FrontierFit]:
    """Measure the frontier of a running fleet on its own replicas, which share the points.

    Args:
        actors: The fleet; it serves no other requests meanwhile.
        config: The run.
        section: The points and the lengths of the requests.
        on_progress: Takes the number of points that are done, and of all.
        timing: A clock and a way to wait.

    Returns:
        The frontier, and the fit that it lies on.

    Raises:
        ReplicaError: No replica gave a token.
        DeviceError: A meter failed.
        InfeasibleError: Fewer than three points gave tokens.
    """
    largest = config.engine.max_batch_limit
    replicas = [FleetSubject(actors, name) for name in actors.ready]
    supported = replicas[0].clocks_mhz
    points = _measure(
        replicas,
        [
            ServerTarget(actors.calls.url(name), config.model.client_name, actors.replica_headers)
            for name in actors.ready
        ],
        quick_settings(supported, section, largest),
        window_s=section.window_s,
        on_progress=on_progress,
        timing=timing,
    )
    fit = fit_points(points)
    rest = measure_rest(replicas, min(supported, default=0), timing.sleep)
    source = "emulated" if actors.energy_source == "emulated" else "measured"
    return fitted_frontier(fit, rest, source, dense_offer(supported, section, largest)), fit


def _measure(
    replicas: Sequence[FleetSubject],
    targets: Sequence[ServerTarget],
    settings: Sequence[Setting],
    *,
    window_s: float,
    on_progress: Callable[[int, int], None],
    timing: PointTiming,
) -> list[PointResult]:
    """Measure every point; the largest batch comes first, so that later ones only hold requests."""
    plan, first = quick_plan(window_s), settings[0]
    points: list[PointResult] = []

    def keep(point: PointResult) -> None:
        points.append(point)
        on_progress(len(points), len(settings))

    for replica in replicas:
        replica.set_point(first.clock_mhz, first.batch_limit)
    with saturated(targets, lengths_around(first, seed=0), outstanding(first)) as load:
        timing.sleep(WARM_UP_S)
        rigs = [
            Rig(r.name, r, no_sensors, lambda *_, load=load: nullcontext(load)) for r in replicas
        ]
        on_progress(0, len(settings))
        run_sweep(rigs, settings, plan, keep, timing)
    if not any(window.output_tokens for point in points for window in point.windows):
        raise ReplicaError("asked for a sweep, found no output token in any window")
    return points

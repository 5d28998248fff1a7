"""A simulation of several sites: from its file to its record folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np

from steppe.config import RunConfig
from steppe.config.several_sites import (
    FalseSurplusFault,
    FaultSection,
    FlappingFault,
    OneWayFault,
    RoutingName,
    SeveralSitesConfig,
    SimulatedSiteSection,
    SiteDownFault,
    StaleFault,
    WanCutFault,
    load_several_sites,
)
from steppe.errors import ConfigError
from steppe.load.arrivals import Arrival
from steppe.run.simulation import Simulation, prepare, with_options
from steppe.run.warnings import Warn
from steppe.sim.sites import faults as of
from steppe.sim.sites.policies import routing_of
from steppe.sim.sites.settings import (
    GridTerms,
    PlanTimes,
    SiteSettings,
    SitesSettings,
    TenantTerms,
    TraceDay,
)

HOURS = 24
BLOCKS = 1 << 44
"""Hashes of prompts of one site; those of the next site begin there."""


@dataclass(frozen=True, slots=True)
class SitesSimulation:
    """A simulation of several sites that is ready to run, once.

    Attributes:
        config: What is simulated.
        sites: The simulation of each site alone, by its name.
        settings: All sites.
    """

    config: SeveralSitesConfig
    sites: Mapping[str, Simulation]
    settings: SitesSettings

    @property
    def requests(self) -> int:
        """Number of requests of all clients."""
        return sum(each.requests for each in self.sites.values())


def prepare_sites(
    path: Path,
    warn: Warn,
    *,
    duration_s: float | None = None,
    routing: RoutingName | None = None,
    seed: int | None = None,
) -> SitesSimulation:
    """Read everything that a simulation of several sites needs.

    Args:
        path: The file.
        warn: Takes what the user should know about the run, a line each.
        duration_s: Length of the run, s; `sim.duration_s` of the first site by default.
        routing: How sites are chosen; `routing` of the file by default.
        seed: Seed of the loads and of all other chance; those of the file by default.

    Raises:
        ConfigError: The file is not valid, or a site cannot be simulated.
    """
    config, runs = load_several_sites(path)
    if routing is not None:
        config = config.model_copy(update={"routing": routing})
    lasts_s = duration_s or next(iter(runs.values())).sim.duration_s
    simulations, sites = {}, []
    for index, section in enumerate(config.sites):
        run = _shifted(runs[section.name], section, f"{path}: site {section.name}")
        run = with_options(run, lasts_s, None if seed is None else seed + index)
        simulation = prepare(run, partial(_warn_of, section.name, warn))
        simulations[section.name] = simulation
        sites.append(_site(config, section, simulation, index))
    return SitesSimulation(config, simulations, _settings(config, sites, lasts_s, seed or 0))


def _warn_of(site: str, warn: Warn, line: str) -> None:
    warn(f"{site}: {line}")


def _shifted(run: RunConfig, section: SimulatedSiteSection, source: str) -> RunConfig:
    """Return the run of a site, with its load later in the day.

    Raises:
        ConfigError: It cannot be one of several.
    """
    if len(run.models) > 1:
        raise ConfigError(f"{source}: asked for one model, found {len(run.models)}")
    hour = (run.load.daily_peak_hour + section.load_shift_h) % HOURS
    return run.model_copy(update={"load": run.load.model_copy(update={"daily_peak_hour": hour})})


def _site(
    config: SeveralSitesConfig, section: SimulatedSiteSection, simulation: Simulation, index: int
) -> SiteSettings:
    run, scenario = simulation.config, simulation.scenario
    assert isinstance(scenario.arrivals, tuple), "a simulation has all of its requests"
    arrivals = _of_tenants(config, scenario.arrivals, index, run.load.seed)
    output = [arrival.output_tokens for arrival in arrivals]
    everywhere = frozenset(site.region for site in config.sites)
    tenants = {
        tenant.name: TenantTerms(frozenset(tenant.regions or (section.region,)), tenant.data_class)
        for tenant in config.tenants
    }
    start = run.power.start or datetime(2000, 1, 1)
    return SiteSettings(
        name=section.name,
        region=section.region,
        data_classes=frozenset(section.data_classes),
        scenario=replace(scenario, arrivals=arrivals),
        control_s=run.control.period_s,
        model=run.model.client_name,
        frontier=simulation.frontier,
        slo=simulation.slo,
        grid=GridTerms(
            tuple(round(1e6 * price) for price in section.price_per_kwh),
            section.gco2_per_kwh,
            config.currency,
        ),
        day=TraceDay(start.hour + start.minute / 60, run.power.speedup),
        tenants=tenants,
        else_tenant=TenantTerms(everywhere, "general"),
        output_tokens=float(np.mean(output)) if output else 200.0,
    )


def _of_tenants(
    config: SeveralSitesConfig, arrivals: tuple[Arrival, ...], index: int, seed: int
) -> tuple[Arrival, ...]:
    """Return requests with their tenants, drawn by their shares; conversations keep theirs."""
    names = [tenant.name for tenant in config.tenants]
    shares = [tenant.share for tenant in config.tenants]
    rest = max(0.0, 1.0 - sum(shares))
    rng = np.random.default_rng((seed, index))
    drawn = rng.choice(len(names) + 1, len(arrivals), p=np.array([*shares, rest]))
    of_talk: dict[int, int] = {}
    found = []
    for arrival, number in zip(arrivals, drawn.tolist(), strict=True):
        talk = arrival.conversation
        place = of_talk.setdefault(talk, number) if talk else number
        tenant = names[place] if place < len(names) else arrival.tenant
        blocks = tuple(index * BLOCKS + block for block in arrival.hash_ids)
        found.append(replace(arrival, tenant=tenant, hash_ids=blocks))
    return tuple(found)


def _settings(
    config: SeveralSitesConfig, sites: list[SiteSettings], duration_s: float, seed: int
) -> SitesSettings:
    trips = {}
    for trip in config.rtt:
        one, other = trip.between
        trips[one, other] = trips[other, one] = trip.rtt_s
    plan = config.plan
    return SitesSettings(
        sites=tuple(sites),
        rtt_s=trips,
        routing=partial(routing_of, config.routing),
        duration_s=duration_s,
        beat_s=config.period_s,
        max_wait_s=config.max_wait_s,
        plan=PlanTimes(plan.period_s, plan.step_s, plan.lease_s),
        faults=tuple(_fault(fault) for fault in config.faults),
        seed=seed,
    )


def _fault(section: FaultSection) -> of.Fault:
    span = of.Span(section.from_s, section.to_s)
    match section:
        case SiteDownFault(site=site):
            return of.SiteDown(site, span)
        case WanCutFault(between=(one, other)):
            return of.WanCut(one, other, span)
        case OneWayFault(origin=origin, target=target):
            return of.OneWay(origin, target, span)
        case FlappingFault(site=site, half_s=half_s):
            return of.FlappingBeats(site, span, half_s)
        case StaleFault(site=site):
            return of.StaleBeats(site, span)
        case FalseSurplusFault(site=site, surplus_w=surplus_w):
            return of.FalseSurplus(site, span, surplus_w)

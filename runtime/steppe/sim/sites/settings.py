"""Several sites in one virtual time: what each of them is, and what lies between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from steppe.frontier.pareto import Frontier
from steppe.report.records import Slo
from steppe.sim.run import Scenario
from steppe.sim.sites.faults import Fault
from steppe.sim.sites.policies import RoutingPolicy
from steppe.sites.prepared import Weights

SECONDS_PER_HOUR, HOURS = 3600.0, 24


@dataclass(frozen=True, slots=True)
class TenantTerms:
    """What the requests of a tenant may do.

    Attributes:
        regions: Regions that they may go to.
        data_class: Class of their data.
    """

    regions: frozenset[str]
    data_class: str


@dataclass(frozen=True, slots=True)
class TraceDay:
    """The hour of the day at a time of the run; a day may pass faster than it does.

    Attributes:
        begin_hour: Hour of the day at which the run begins, h.
        speedup: Seconds of the day in a second of the run.
    """

    begin_hour: float = 0.0
    speedup: float = 1.0

    def trace_s(self, now_s: float) -> float:
        """Return the time that has passed on the day's clock, s."""
        return now_s * self.speedup

    def hour_at(self, now_s: float) -> int:
        """Return the hour of the day, 0 to 23."""
        return int(self.begin_hour + self.trace_s(now_s) / SECONDS_PER_HOUR) % HOURS


@dataclass(frozen=True, slots=True)
class GridTerms:
    """What energy from the grid costs at a site, in each hour of a day.

    Attributes:
        price_micro: Price, millionths of `currency` per kilowatt-hour.
        gco2: Carbon, grams of CO2 per kilowatt-hour.
        currency: ISO 4217 code.
    """

    price_micro: tuple[int, ...]
    gco2: tuple[float, ...]
    currency: str = "EUR"


@dataclass(frozen=True, slots=True)
class SiteSettings:
    """One site.

    Attributes:
        name: Its name.
        region: Where it lies in law.
        data_classes: Classes of data that it may process.
        scenario: Its fleet, budget and the requests of its own clients.
        control_s: Its control period, s.
        model: The model that its fleet serves.
        frontier: Operating points of one replica.
        slo: The times that a request must keep.
        grid: What energy from the grid costs.
        day: The hour of the day.
        tenants: What the requests of each tenant may do, by its name.
        else_tenant: What those of all others may do.
        output_tokens: Mean output tokens of a request, before any has ended.
    """

    name: str
    region: str
    data_classes: frozenset[str]
    scenario: Scenario
    control_s: float
    model: str
    frontier: Frontier
    slo: Slo
    grid: GridTerms
    day: TraceDay
    tenants: Mapping[str, TenantTerms]
    else_tenant: TenantTerms
    output_tokens: float

    def terms_of(self, tenant: str) -> TenantTerms:
        """Return what the requests of a tenant may do."""
        return self.tenants.get(tenant, self.else_tenant)


@dataclass(frozen=True, slots=True)
class PlanTimes:
    """When plans are made, and how long their quotas hold.

    Attributes:
        period_s: Time between two plans, s.
        step_s: Length of a step of the forecast, s of the day.
        lease_s: How long a quota holds that is not renewed, s.
    """

    period_s: float = 300.0
    step_s: float = 900.0
    lease_s: float = 60.0


@dataclass(frozen=True, slots=True)
class SitesSettings:
    """All sites.

    Attributes:
        sites: The sites.
        rtt_s: Round trips by origin and target, s.
        routing: Makes the policy of one site.
        duration_s: Length of the run, s.
        beat_s: Time between two heartbeats, s.
        max_wait_s: Longest wait of a request of another site for a place in a batch, s.
        plan: When plans are made.
        weights: What the parts of a cost are worth in a decision.
        faults: What fails.
        seed: Seed of all chance beside the loads.
    """

    sites: tuple[SiteSettings, ...]
    rtt_s: Mapping[tuple[str, str], float]
    routing: Callable[[], RoutingPolicy]
    duration_s: float
    beat_s: float = 1.0
    max_wait_s: float = 1.0
    plan: PlanTimes = PlanTimes()
    weights: Weights = field(default_factory=Weights)
    faults: tuple[Fault, ...] = ()
    seed: int = 0

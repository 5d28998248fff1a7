"""The power budget: supply and battery in, watts for the GPUs out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from steppe.config import PowerSection, SiteSection
from steppe.power.battery import (
    NO_BATTERY,
    Battery,
    BatteryFlow,
    BatteryView,
    Charge,
    battery_from_config,
)
from steppe.power.outside_limit import OutsideLimit
from steppe.power.settled import Offer, Settled, taken_w
from steppe.power.signal import Fresh, Missing, Stale
from steppe.power.site_terms import SiteTerms
from steppe.power.source_state import SourceState
from steppe.power.sources import FALLBACK, Sources
from steppe.power.supply import Supply, TraceClock, supply_from_config, total

SETPOINT_S = 60.0
"""A battery with a setpoint gives and takes no more than it can sustain for this long, s of run
time; the setpoint is renewed more often than that."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The power budget at one moment.

    Attributes:
        supply_w: Sum of the supplies at the site, W; the fallback while one is stale or missing.
        battery_w: Power that the battery adds at the site, W; negative while it charges.
        site_budget_w: Power that the site may draw, W: supply less reserve, plus battery, within
            the limits.
        gpu_budget_w: Power that the GPUs may draw, W: the site budget less overhead, over PUE, less
            the rest of the nodes.
        source: What set the site budget: the supplies that offer power, by name, then `battery` if
            it adds power, joined by `+`, such as `wind+solar+battery`; or a limit, such as that of
            the grid by its own name, `openadr/e1`; or `fallback`.
        stale: Whether a supply is stale or missing, so that the fallback applies.
        charge: State of the battery; None without one.
        node_rest_w: Draw of the nodes beside their GPUs that was deducted, W.
        node_rest_source: Whether it is `measured`, `stated`, or stated while a meter is `stale`.
        settled: What the site did in the last settled interval.
        surplus_w: The part of the GPUs' power that is no bought power, W; without the battery.
    """

    supply_w: float
    battery_w: float
    site_budget_w: float
    gpu_budget_w: float
    source: str
    stale: bool
    charge: Charge | None = None
    settled: Settled = field(default_factory=Settled)
    node_rest_w: float = 0.0
    node_rest_source: str = "stated"
    surplus_w: float = 0.0


class PowerBudget:
    """The power that the GPUs may draw, at least 0 W.

    It is `(supply - reserve + battery - overhead) / pue`, less the rest of the nodes.

    The site draws from the supply less the reserve. The battery charges from what the site leaves
    and covers what it lacks. Without a setpoint it offers the power it can sustain for an hour of
    trace time. While a supply is stale or missing, the site budget is the fallback and the battery
    is idle, because the surplus is not known. Limits, such as that of a grid connection, cap the
    site budget; the fallback stands for one that is stale or missing. All but the battery is a
    function of time.
    """

    def __init__(
        self,
        *,
        supplies: tuple[Supply, ...],
        clock: TraceClock,
        terms: SiteTerms,
        battery: Battery = NO_BATTERY,
        stored_j: float = 0.0,
        limits: tuple[Supply, ...] = (),
    ) -> None:
        self._sources = Sources(supplies, limits, clock, terms)
        self._battery = battery
        self._stored_j = stored_j
        self._settled = Settled()
        self._settled_s = clock.started_s
        self._setpoint_w: float | None = None
        self._node_rest_source = "stated"

    def join(self, outside: OutsideLimit) -> None:
        """Let a limit from outside apply too, from now on; `take_over` keeps it."""
        self._sources = replace(self._sources, outside=outside)

    @property
    def ends_s(self) -> float:
        """Run time at which the first trace ends, s; infinite without a trace.

        `stale_s` later, the budget stays at the fallback.
        """
        return self._sources.ends_s

    @property
    def most_gpu_w(self) -> float:
        """The most that the GPUs may ever draw, W; infinite with a signal that is not capped."""
        return self._sources.most_gpu_w(self._battery.max_discharge_w)

    @property
    def stored_j(self) -> float:
        """Energy in the battery, J of trace time."""
        return self._stored_j

    @property
    def battery_view(self) -> BatteryView | None:
        """The battery in GPU watts and run time; None without one."""
        if self._battery.capacity_j <= 0:
            return None
        pue, speedup = self._terms.pue, self._clock.speedup
        scaled = replace(
            self._battery,
            capacity_j=self._battery.capacity_j / (pue * speedup),
            max_charge_w=self._battery.max_charge_w / pue,
            max_discharge_w=self._battery.max_discharge_w / pue,
            sustain_s=self._battery.sustain_s / speedup,
        )
        return BatteryView(scaled, lambda: self._stored_j / (pue * speedup), self._without_battery)

    def site_draw_w(self, gpu_draw_w: float) -> float:
        """Return the draw of the site while the GPUs draw `gpu_draw_w`, W."""
        return self._terms.site_w(gpu_draw_w)

    def take_over(self, other: PowerBudget) -> None:
        """Follow the supplies, limits and terms of another budget from now on.

        The battery keeps its charge, the nodes what they draw beside their GPUs, and the limit from
        outside stays.
        """
        self._sources = self._sources.followed_by(other._sources)
        self._battery = other._battery
        self._stored_j = min(self._stored_j, other._battery.capacity_j)

    def resume(self, settled_s: float, charge: Charge | None) -> None:
        """Continue a budget that was last settled at `settled_s`, with this state of charge."""
        self._settled_s = settled_s
        if charge is not None:
            self._stored_j = charge.share * self._battery.capacity_j

    def set_node_rest(self, rest_w: float, source: str = "stated") -> None:
        """Set what the nodes draw beside their GPUs, W, from now on and in forecasts.

        Args:
            rest_w: The draw of all nodes, W.
            source: The worst of their figures: `measured`, `stated` or `stale`.
        """
        terms = replace(self._terms, node_rest_w=rest_w)
        self._sources = replace(self._sources, terms=terms)
        self._node_rest_source = source

    def set_battery(self, setpoint_w: float | None) -> None:
        """Set the power of the battery, W at the GPUs; negative to charge; None for its own rule.

        It gives and takes no more than it can sustain for `SETPOINT_S`.
        """
        self._setpoint_w = None if setpoint_w is None else setpoint_w * self._terms.pue

    def at(self, now_s: float) -> Budget:
        """Return the budget at the present time, with the battery as it was last settled."""
        sources = self._sources
        sources.keep(now_s)
        readings = sources.readings(now_s)
        match total(readings):
            case Fresh(watts=supply_w):
                battery_w, stale = self._battery_w(), False
                site_budget_w = max(0.0, self._terms.left_w(supply_w) + battery_w)
                source = sources.named(readings, battery_w)
            case Stale() | Missing():
                supply_w = site_budget_w = self._terms.fallback_w
                battery_w, stale, source = 0.0, True, FALLBACK
        for limit_w, name in sources.limits_at(now_s):
            if limit_w < site_budget_w:
                site_budget_w, source = limit_w, name
        return Budget(
            supply_w=supply_w,
            battery_w=battery_w,
            site_budget_w=site_budget_w,
            gpu_budget_w=self._terms.gpu_w(site_budget_w),
            source=source,
            stale=stale,
            charge=self._charge,
            settled=self._settled,
            node_rest_w=self._terms.node_rest_w,
            node_rest_source=self._node_rest_source,
            surplus_w=sources.surplus_w(now_s),
        )

    @property
    def _terms(self) -> SiteTerms:
        return self._sources.terms

    @property
    def _clock(self) -> TraceClock:
        return self._sources.clock

    @property
    def _charge(self) -> Charge | None:
        capacity_j = self._battery.capacity_j
        if capacity_j <= 0:
            return None
        return Charge(self._stored_j / capacity_j, self._settled.battery_w)

    def sources(self, now_s: float) -> tuple[SourceState, ...]:
        """Return what each supply and limit says now."""
        return self._sources.states(now_s)

    def gpu_budget_at(self, at_s: float) -> float:
        """Return the power that the GPUs may draw at a time, as known now, W."""
        return self._sources.gpu_budget_w(self._sources.supply(at_s), self._battery_w(), at_s)

    def settle(self, now_s: float, draw_w: float) -> None:
        """Settle the interval since the last call, in which the GPUs drew `draw_w` W on average.

        A surplus charges the battery, a deficit discharges it, in trace time; surplus that it does
        not take is curtailed. The supply of the interval is the mean of its two ends.
        """
        elapsed_s = now_s - self._settled_s
        if elapsed_s <= 0:
            return
        sources = self._sources
        offers = sources.offers(self._settled_s, now_s)
        limit_w = min(sources.limit_w(self._settled_s), sources.limit_w(now_s))
        self._settled_s = now_s
        if offers is None:
            self._settled = Settled(self._terms.site_w(draw_w))
        else:
            self._settled = self._settle(offers, limit_w, draw_w, elapsed_s)

    def forecast(
        self, now_s: float, horizon_s: float, step_s: float
    ) -> tuple[tuple[float, float], ...]:
        """Return `(time, budget)` pairs, s and W, at the start of each step of the horizon.

        Traces and weather years are known ahead, so their forecast is perfect, unlike a real one;
        a signal file keeps its present value (persistence). The GPUs are assumed to draw all of
        the budget. The battery keeps its present power in the first step, then it offers what it
        can sustain from the charge that is left.
        """
        pairs = []
        stored_j = self._stored_j
        step = 0
        while step * step_s < horizon_s:
            at_s = now_s + step * step_s
            battery_w = self._battery.offered_w(stored_j) if step else self._battery_w()
            supply = self._sources.supply(at_s)
            gpu_budget_w = self._sources.gpu_budget_w(supply, battery_w, at_s)
            pairs.append((at_s, gpu_budget_w))
            match supply:
                case Fresh(watts=supply_w):
                    stored_j = self._balance(stored_j, supply_w, gpu_budget_w, step_s).stored_j
            step += 1
        return tuple(pairs)

    def limits_ahead(
        self, now_s: float, horizon_s: float, step_s: float
    ) -> tuple[tuple[float, float], ...]:
        """Return what the limits alone allow the GPUs, s and W, at the end of each step.

        A limit of the grid is known before it holds; one of a live signal is taken to stay. There
        are no pairs without a limit.
        """
        sources = self._sources
        if not sources.limits and sources.outside is None:
            return ()
        times_s = [now_s + (step + 1) * step_s for step in range(math.ceil(horizon_s / step_s))]
        return tuple((at_s, self._terms.gpu_w(sources.limit_w(at_s))) for at_s in times_s)

    def surplus(
        self, now_s: float, horizon_s: float, step_s: float
    ) -> tuple[tuple[float, float], ...]:
        """Return the part of the forecast that is surplus, s and W at the GPUs; no battery counts.

        Firm supplies cover overhead, reserve and the rest of the nodes first. Without any other
        supply there is nothing that is cheaper at one time than at another: then all is surplus.
        """
        steps = math.ceil(horizon_s / step_s)
        times_s = [now_s + step * step_s for step in range(steps)]
        return tuple((at_s, self._sources.surplus_w(at_s)) for at_s in times_s)

    def firm_w(self, now_s: float) -> float:
        """Return what the bought supplies offer, W at the site; 0 while one is stale or missing."""
        match self._sources.firm(now_s):
            case Fresh(watts=watts):
                return watts
            case _:
                return 0.0

    def own(self, now_s: float) -> tuple[tuple[str, float], ...]:
        """Return each supply that is not bought: what it is in the books, and its power, W.

        One that is stale or missing gives nothing.
        """
        return self._sources.own(now_s)

    @property
    def has_surplus(self) -> bool:
        """Whether a supply is anything else than bought power."""
        return self._sources.has_surplus

    def _without_battery(
        self, now_s: float, horizon_s: float, step_s: float
    ) -> tuple[tuple[float, float], ...]:
        """Return the forecast of the GPU budget without the battery, s and W."""
        steps = math.ceil(horizon_s / step_s)
        times_s = [now_s + step * step_s for step in range(steps)]
        sources = self._sources
        return tuple(
            (at_s, sources.gpu_budget_w(sources.supply(at_s), 0.0, at_s)) for at_s in times_s
        )

    def _battery_w(self) -> float:
        """Return the power that the battery adds at the site now, W; negative while it charges."""
        if self._setpoint_w is None:
            return self._battery.offered_w(self._stored_j)
        trace_s = SETPOINT_S * self._clock.speedup
        most_w = self._battery.gives_w(self._stored_j, trace_s)
        return max(-self._battery.takes_w(self._stored_j, trace_s), min(most_w, self._setpoint_w))

    def _settle(
        self, offers: Sequence[Offer], limit_w: float, draw_w: float, elapsed_s: float
    ) -> Settled:
        """Balance supply and draw over an interval; the reserve is neither stored nor curtailed.

        What is bought charges the battery only within the limits: they bind what a site takes.
        """
        supply_w, site_w = sum(offer.watts for offer in offers), self._terms.site_w(draw_w)
        own_w = sum(offer.watts for offer in offers if not offer.firm)
        room_w = max(0.0, limit_w + own_w - site_w)
        flow = self._balance(self._stored_j, supply_w, draw_w, elapsed_s, room_w)
        self._stored_j = flow.stored_j
        return Settled(
            site_w=site_w,
            battery_w=flow.power_w,
            curtailed_w=max(0.0, self._terms.left_w(supply_w) - site_w + min(0.0, flow.power_w)),
            sources_w=taken_w(site_w, flow.power_w, offers),
        )

    def _balance(
        self,
        stored_j: float,
        supply_w: float,
        draw_w: float,
        elapsed_s: float,
        room_w: float = math.inf,
    ) -> BatteryFlow:
        """Return the battery's flow over an interval; its power is negative while it charges.

        It takes at most `room_w`.
        """
        deficit_w = self._terms.site_w(draw_w) - self._terms.left_w(supply_w)
        trace_s = elapsed_s * self._clock.speedup
        if deficit_w >= 0.0:
            return self._battery.discharge(stored_j, deficit_w, trace_s)
        charged = self._battery.charge(stored_j, min(room_w, -deficit_w), trace_s)
        return BatteryFlow(charged.stored_j, 0.0 - charged.power_w)


def budget_from_config(
    power: PowerSection,
    site: SiteSection,
    *,
    nodes: int = 1,
    started_s: float = 0.0,
    wall_s: Callable[[], float] = time.time,
) -> PowerBudget:
    """Return the budget that a configuration describes.

    Args:
        power: Supplies, limits, battery, reserve, trace time.
        site: Power of the site beside the GPUs.
        nodes: Nodes of the fleet; each draws `site.node_rest_w` until `set_node_rest`.
        started_s: Run time at which the traces begin, on the clock of `now_s`, s.
        wall_s: Reads the clock that stamps signal files, s since the epoch.

    Raises:
        TraceError: A trace cannot be read.
        ConfigError: `power.start` is outside a trace, or lacks an offset that it needs; or the
            class of a signal cannot be used.
    """
    terms = SiteTerms(
        reserve_w=power.reserve_w,
        fallback_w=power.fallback_w,
        stale_s=power.stale_s,
        pue=site.pue,
        overhead_w=site.overhead_w,
        node_rest_w=nodes * site.node_rest_w,
    )
    battery, stored_j = (
        (NO_BATTERY, 0.0) if power.battery is None else battery_from_config(power.battery)
    )
    return PowerBudget(
        supplies=tuple(supply_from_config(part, power, wall_s) for part in power.supply),
        limits=tuple(supply_from_config(part, power, wall_s) for part in power.limits),
        clock=TraceClock(started_s, power.speedup),
        terms=terms,
        battery=battery,
        stored_j=stored_j,
    )

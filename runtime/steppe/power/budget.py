"""The power budget: supply and battery in, watts for the GPUs out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from steppe.config import PowerSection, SiteSection
from steppe.power.battery import (
    NO_BATTERY,
    Battery,
    BatteryFlow,
    Charge,
    Store,
    battery_from_config,
)
from steppe.power.signal import Fresh, Missing, Reading, Stale
from steppe.power.supply import Supply, TraceClock, ends_s, offered, supply_from_config, total

STEERED_S = 60.0
"""A battery that is steered gives and takes no more than it can for so long, s of the run: who
steers it looks again by then."""


FALLBACK = "fallback"
"""`Budget.source` while a supply is stale or missing."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The power budget at one moment.

    Attributes:
        supply_w: Sum of the supplies at the site, W; the fallback while one is stale or missing.
        battery_w: Power that the battery adds at the site, W; negative while it charges.
        site_budget_w: Power that the site may draw, W: supply less reserve, plus battery.
        gpu_budget_w: Power that the GPUs may draw, W: the site budget less overhead, over PUE.
        source: What set the budget: the supplies that offer power, by name, then `battery` if it
            adds power, joined by `+`, such as `wind+solar+battery`; or `fallback`.
        stale: Whether a supply is stale or missing, so that the fallback applies.
        charge: State of the battery; None without one.
        curtailed_w: Mean supply of the last settled interval that was neither drawn nor stored nor
            kept in reserve, W at the site.
    """

    supply_w: float
    battery_w: float
    site_budget_w: float
    gpu_budget_w: float
    source: str
    stale: bool
    charge: Charge | None = None
    curtailed_w: float = 0.0


@dataclass(frozen=True, slots=True)
class SiteTerms:
    """What lies between the supply and the GPUs.

    Attributes:
        reserve_w: Kept back from the supply at all times, W; not from a battery.
        fallback_w: Site budget while a source is stale or missing, W.
        stale_s: How long the last value of a source is believed, s of run time.
        pue: Site watts for each GPU watt, without the fixed overhead.
        overhead_w: Site watts that do not depend on the GPUs.
    """

    reserve_w: float
    fallback_w: float
    stale_s: float
    pue: float
    overhead_w: float

    def left_w(self, supply_w: float) -> float:
        """Return what the site may draw of a supply, W."""
        return max(0.0, supply_w - self.reserve_w)

    def gpu_w(self, site_w: float) -> float:
        """Return what the GPUs may draw when the site may draw `site_w`, W."""
        return max(0.0, (site_w - self.overhead_w) / self.pue)

    def site_w(self, gpu_w: float) -> float:
        """Return what the site draws when the GPUs draw `gpu_w`, W."""
        return gpu_w * self.pue + self.overhead_w


class PowerBudget:
    """What the GPUs may draw: `(supply - reserve + battery - overhead) / pue`, never below 0.

    What is left of the supply beyond the reserve is the site's; the battery takes what the site
    leaves of that and gives what the site lacks. By itself it offers at any time what it can
    sustain for an hour of trace time; it can be steered instead. While a source is stale or
    missing the site may draw the fallback, and the battery rests, for nobody knows the surplus.
    Everything but the battery follows from the time alone.
    """

    def __init__(
        self,
        *,
        supplies: tuple[Supply, ...],
        clock: TraceClock,
        terms: SiteTerms,
        battery: Battery = NO_BATTERY,
        stored_j: float = 0.0,
    ) -> None:
        self._supplies = supplies
        self._clock = clock
        self._terms = terms
        self._battery = battery
        self._stored_j = stored_j
        self._curtailed_w = 0.0
        self._given_w = 0.0
        self._settled_s = clock.started_s
        self._steered_w: float | None = None

    @property
    def ends_s(self) -> float:
        """Run time of the last row of the trace that ends first, s; infinite without a trace.

        `stale_s` later the fallback holds for good.
        """
        return min(ends_s(supply, self._clock) for supply in self._supplies)

    @property
    def stored_j(self) -> float:
        """Energy in the battery, J of trace time."""
        return self._stored_j

    @property
    def store(self) -> Store | None:
        """The battery as the GPUs see it; None without one."""
        if self._battery.capacity_j <= 0:
            return None
        pue, speedup = self._terms.pue, self._clock.speedup
        seen = replace(
            self._battery,
            capacity_j=self._battery.capacity_j / (pue * speedup),
            max_charge_w=self._battery.max_charge_w / pue,
            max_discharge_w=self._battery.max_discharge_w / pue,
            sustain_s=self._battery.sustain_s / speedup,
        )
        return Store(seen, lambda: self._stored_j / (pue * speedup), self._without_battery)

    def go_on_from(self, settled_s: float, charge: Charge | None) -> None:
        """Take over from a budget that was last settled at `settled_s`, with this charge."""
        self._settled_s = settled_s
        if charge is not None:
            self._stored_j = charge.share * self._battery.capacity_j

    def steer(self, battery_w: float | None) -> None:
        """Have the battery give so much, W at the GPUs; take, below 0; None for its own rule.

        It gives and takes no more than it can for `STEERED_S` longer.
        """
        self._steered_w = None if battery_w is None else battery_w * self._terms.pue

    def at(self, now_s: float) -> Budget:
        """Return the budget at `now_s`, with the battery as it was last settled."""
        readings = self._readings(now_s)
        supply, battery_w = total(readings), self._battery_w()
        site_budget_w = self._site_budget_w(supply, battery_w)
        is_stale = not isinstance(supply, Fresh)
        capacity_j = self._battery.capacity_j
        return Budget(
            supply_w=supply.watts if isinstance(supply, Fresh) else self._terms.fallback_w,
            battery_w=0.0 if is_stale else battery_w,
            site_budget_w=site_budget_w,
            gpu_budget_w=self._terms.gpu_w(site_budget_w),
            source=FALLBACK if is_stale else self._source(readings, battery_w),
            stale=is_stale,
            charge=Charge(self._stored_j / capacity_j, self._given_w) if capacity_j > 0 else None,
            curtailed_w=self._curtailed_w,
        )

    def gpu_budget_at(self, at_s: float) -> float:
        """Return the power that the GPUs may draw at a time, as known now, W."""
        return self._gpu_budget_w(self._supply(at_s), self._battery_w())

    def settle(self, now_s: float, draw_w: float) -> None:
        """Tell what the GPUs drew, W on average since the last time this was told.

        The surplus charges the battery, a deficit discharges it, in trace time; surplus that
        it does not take is curtailed. Supply counts with the mean of the interval's ends.
        """
        elapsed_s = now_s - self._settled_s
        if elapsed_s <= 0:
            return
        before, after = self._supply(self._settled_s), self._supply(now_s)
        self._settled_s, self._given_w, self._curtailed_w = now_s, 0.0, 0.0
        match before, after:
            case Fresh(), Fresh():
                self._exchange((before.watts + after.watts) / 2.0, draw_w, elapsed_s)

    def forecast(
        self, now_s: float, horizon_s: float, step_s: float
    ) -> tuple[tuple[float, float], ...]:
        """Return `(time, budget)` pairs, s and W, at the start of each step of the horizon.

        Traces and weather years are known ahead, so this is perfect foresight, which no real
        forecast has; a live signal keeps its present value (persistence). The GPUs are taken to
        draw all of it. The battery does in the first step what it does now, then it gives what
        it offers by itself from what is left.
        """
        pairs = []
        stored_j = self._stored_j
        step = 0
        while step * step_s < horizon_s:
            at_s = now_s + step * step_s
            battery_w = self._battery.offered_w(stored_j) if step else self._battery_w()
            supply = self._supply(at_s)
            gpu_budget_w = self._gpu_budget_w(supply, battery_w)
            pairs.append((at_s, gpu_budget_w))
            match supply:
                case Fresh(watts=supply_w):
                    stored_j = self._balance(stored_j, supply_w, gpu_budget_w, step_s).stored_j
            step += 1
        return tuple(pairs)

    def _without_battery(
        self, now_s: float, horizon_s: float, step_s: float
    ) -> tuple[tuple[float, float], ...]:
        """Return the forecast of what the GPUs may draw without the battery, s and W."""
        steps = math.ceil(horizon_s / step_s)
        times_s = [now_s + step * step_s for step in range(steps)]
        return tuple((at_s, self._gpu_budget_w(self._supply(at_s), 0.0)) for at_s in times_s)

    def _battery_w(self) -> float:
        """Return what the battery adds at the site now, W; below 0 where it is to be charged."""
        if self._steered_w is None:
            return self._battery.offered_w(self._stored_j)
        trace_s = STEERED_S * self._clock.speedup
        most_w = self._battery.gives_w(self._stored_j, trace_s)
        return max(-self._battery.takes_w(self._stored_j, trace_s), min(most_w, self._steered_w))

    def _readings(self, at_s: float) -> list[Reading]:
        stale_s = self._terms.stale_s
        return [offered(supply, at_s, self._clock, stale_s) for supply in self._supplies]

    def _supply(self, at_s: float) -> Reading:
        return total(self._readings(at_s))

    def _site_budget_w(self, supply: Reading, battery_w: float) -> float:
        match supply:
            case Fresh(watts=supply_w):
                return max(0.0, self._terms.left_w(supply_w) + battery_w)
            case Stale() | Missing():
                return self._terms.fallback_w

    def _gpu_budget_w(self, supply: Reading, battery_w: float) -> float:
        return self._terms.gpu_w(self._site_budget_w(supply, battery_w))

    def _source(self, readings: Sequence[Reading], battery_w: float) -> str:
        """Return the names of what offers power now; of all supplies if none does."""
        pairs = zip(self._supplies, readings, strict=True)
        names = [s.name for s, reading in pairs if isinstance(reading, Fresh) and reading.watts > 0]
        if battery_w > 0:
            names.append("battery")
        return "+".join(dict.fromkeys(names or [supply.name for supply in self._supplies]))

    def _exchange(self, supply_w: float, draw_w: float, elapsed_s: float) -> None:
        """Balance supply and draw over an interval; the reserve is neither stored nor curtailed."""
        done = self._balance(self._stored_j, supply_w, draw_w, elapsed_s)
        self._stored_j, self._given_w = done.stored_j, done.power_w
        surplus_w = self._terms.left_w(supply_w) - self._terms.site_w(draw_w)
        self._curtailed_w = max(0.0, surplus_w + min(0.0, done.power_w))

    def _balance(
        self, stored_j: float, supply_w: float, draw_w: float, elapsed_s: float
    ) -> BatteryFlow:
        """Return what the battery does meanwhile; its power is below 0 where it takes."""
        lack_w = self._terms.site_w(draw_w) - self._terms.left_w(supply_w)
        trace_s = elapsed_s * self._clock.speedup
        if lack_w >= 0.0:
            return self._battery.discharge(stored_j, lack_w, trace_s)
        charged = self._battery.charge(stored_j, -lack_w, trace_s)
        return BatteryFlow(charged.stored_j, 0.0 - charged.power_w)


def budget_from_config(
    power: PowerSection,
    site: SiteSection,
    *,
    started_s: float = 0.0,
    wall_s: Callable[[], float] = time.time,
) -> PowerBudget:
    """Return the budget that a configuration describes.

    Args:
        power: Supplies, battery, reserve, trace time.
        site: What the site needs beside the GPUs.
        started_s: Run time at which the traces begin, on the clock that `now_s` comes from, s.
        wall_s: Reads the clock that stamps signal files, s since the epoch.

    Raises:
        TraceError: A trace cannot be read.
        ConfigError: `power.start` does not lie in a trace, or lacks an offset that it needs.
    """
    battery, stored_j = (
        (NO_BATTERY, 0.0) if power.battery is None else battery_from_config(power.battery)
    )
    return PowerBudget(
        supplies=tuple(supply_from_config(part, power, wall_s) for part in power.supply),
        clock=TraceClock(started_s, power.speedup),
        terms=SiteTerms(
            reserve_w=power.reserve_w,
            fallback_w=power.fallback_w,
            stale_s=power.stale_s,
            pue=site.pue,
            overhead_w=site.overhead_w,
        ),
        battery=battery,
        stored_j=stored_j,
    )

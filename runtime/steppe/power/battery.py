"""A battery: what it takes, what it gives, what it loses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from steppe.config import BatterySection
from steppe.config.power import SUSTAIN_S

JOULES_PER_WH = 3600.0


@dataclass(frozen=True, slots=True)
class BatteryFlow:
    """What one step did.

    Attributes:
        stored_j: Energy in the battery after the step, J.
        power_w: Mean power at its terminals that it took or gave, W.
    """

    stored_j: float
    power_w: float


@dataclass(frozen=True, slots=True)
class Charge:
    """How a battery stands.

    Attributes:
        share: Energy in it, share of its capacity.
        power_w: What it gave at its terminals lately, on average, W; took, below 0.
    """

    share: float
    power_w: float


@dataclass(frozen=True, slots=True)
class Battery:
    """A battery's limits and losses; how full it is stays with the caller.

    Efficiencies are constant, and it does not discharge by itself.

    Attributes:
        capacity_j: Most energy it stores, J.
        max_charge_w: Most power it takes, at its terminals, W.
        max_discharge_w: Most power it gives, at its terminals, W.
        charge_efficiency: Joules stored for each joule taken.
        discharge_efficiency: Joules given for each joule that leaves the store.
        sustain_s: How long it must be able to go on giving what it offers, s.
    """

    capacity_j: float
    max_charge_w: float
    max_discharge_w: float
    charge_efficiency: float = 1.0
    discharge_efficiency: float = 1.0
    sustain_s: float = SUSTAIN_S

    def charge(self, stored_j: float, power_w: float, dt_s: float) -> BatteryFlow:
        """Take up to `power_w` for `dt_s`: less where a limit or the capacity binds."""
        if dt_s <= 0.0:
            return BatteryFlow(stored_j, 0.0)
        taken_w = max(0.0, min(power_w, self.takes_w(stored_j, dt_s)))
        filled_j = stored_j + self.charge_efficiency * taken_w * dt_s
        return BatteryFlow(min(self.capacity_j, filled_j), taken_w)

    def discharge(self, stored_j: float, power_w: float, dt_s: float) -> BatteryFlow:
        """Give up to `power_w` for `dt_s`: less where a limit or the stored energy binds."""
        if dt_s <= 0.0:
            return BatteryFlow(stored_j, 0.0)
        given_w = max(0.0, min(power_w, self.gives_w(stored_j, dt_s)))
        emptied_j = stored_j - given_w * dt_s / self.discharge_efficiency
        return BatteryFlow(max(0.0, emptied_j), given_w)

    def takes_w(self, stored_j: float, for_s: float) -> float:
        """Return the most that it can take for so long, W."""
        room_w = (self.capacity_j - stored_j) / (self.charge_efficiency * for_s)
        return min(self.max_charge_w, room_w)

    def gives_w(self, stored_j: float, for_s: float) -> float:
        """Return the most that it can give for so long, W."""
        return min(self.max_discharge_w, stored_j * self.discharge_efficiency / for_s)

    def offered_w(self, stored_j: float) -> float:
        """Return what it offers: what it can sustain for `sustain_s`, W, within its limit.

        Used in full and never recharged, the offer falls exponentially with that time
        constant: the budget has no cliff where the battery runs empty.
        """
        return self.gives_w(stored_j, self.sustain_s)


NO_BATTERY = Battery(capacity_j=0.0, max_charge_w=0.0, max_discharge_w=0.0)
"""Takes nothing and gives nothing."""


@dataclass(frozen=True, slots=True)
class Store:
    """A battery as the GPUs see it: their watts, and seconds of the run.

    Attributes:
        battery: Its limits and losses.
        stored_j: Returns the energy in it now, J.
        forecast: From now, horizon and step, s, to `(time, watts)` pairs, s and W: what the GPUs
            may draw without it.
    """

    battery: Battery
    stored_j: Callable[[], float]
    forecast: Callable[[float, float, float], Sequence[tuple[float, float]]]


def battery_from_config(section: BatterySection) -> tuple[Battery, float]:
    """Return the battery and the energy that it holds at the start, J."""
    capacity_j = section.capacity_wh * JOULES_PER_WH
    battery = Battery(
        capacity_j=capacity_j,
        max_charge_w=section.max_charge_w,
        max_discharge_w=section.max_discharge_w,
        charge_efficiency=section.charge_efficiency,
        discharge_efficiency=section.discharge_efficiency,
    )
    return battery, section.initial_share * capacity_j

"""A battery: power limits, losses, and state of charge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from steppe.config import BatterySection
from steppe.config.power import SUSTAIN_S

JOULES_PER_WH = 3600.0


@dataclass(frozen=True, slots=True)
class BatteryFlow:
    """Result of charging or discharging for a while.

    Attributes:
        stored_j: Energy in the battery afterwards, J.
        power_w: Mean power at its terminals, W.
    """

    stored_j: float
    power_w: float


@dataclass(frozen=True, slots=True)
class Charge:
    """State of a battery.

    Attributes:
        share: State of charge, share of the capacity.
        power_w: Mean power at its terminals over the last interval, W; negative while it charges.
    """

    share: float
    power_w: float


@dataclass(frozen=True, slots=True)
class Battery:
    """A battery's limits and losses; the caller keeps the stored energy.

    Efficiencies are constant, and there is no self-discharge.

    Attributes:
        capacity_j: Most energy it stores, J.
        max_charge_w: Highest charging power, at its terminals, W.
        max_discharge_w: Highest discharging power, at its terminals, W.
        charge_efficiency: Joules stored for each joule taken.
        discharge_efficiency: Joules given for each joule that leaves the store.
        sustain_s: How long it can sustain the power that it offers, s.
    """

    capacity_j: float
    max_charge_w: float
    max_discharge_w: float
    charge_efficiency: float = 1.0
    discharge_efficiency: float = 1.0
    sustain_s: float = SUSTAIN_S

    def charge(self, stored_j: float, power_w: float, dt_s: float) -> BatteryFlow:
        """Charge with up to `power_w` for `dt_s`; less if a limit or the capacity binds."""
        if dt_s <= 0.0:
            return BatteryFlow(stored_j, 0.0)
        taken_w = max(0.0, min(power_w, self.takes_w(stored_j, dt_s)))
        filled_j = stored_j + self.charge_efficiency * taken_w * dt_s
        return BatteryFlow(min(self.capacity_j, filled_j), taken_w)

    def discharge(self, stored_j: float, power_w: float, dt_s: float) -> BatteryFlow:
        """Discharge up to `power_w` for `dt_s`; less if a limit or the stored energy binds."""
        if dt_s <= 0.0:
            return BatteryFlow(stored_j, 0.0)
        given_w = max(0.0, min(power_w, self.gives_w(stored_j, dt_s)))
        emptied_j = stored_j - given_w * dt_s / self.discharge_efficiency
        return BatteryFlow(max(0.0, emptied_j), given_w)

    def takes_w(self, stored_j: float, for_s: float) -> float:
        """Return the highest power that it can take for `for_s`, W."""
        room_w = (self.capacity_j - stored_j) / (self.charge_efficiency * for_s)
        return min(self.max_charge_w, room_w)

    def gives_w(self, stored_j: float, for_s: float) -> float:
        """Return the highest power that it can give for `for_s`, W."""
        return min(self.max_discharge_w, stored_j * self.discharge_efficiency / for_s)

    def offered_w(self, stored_j: float) -> float:
        """Return the power that it can sustain for `sustain_s`, W, within its limit.

        If that is drawn all the time and the battery is not recharged, it falls exponentially with
        the time constant `sustain_s`, so the budget has no step when the battery runs empty.
        """
        return self.gives_w(stored_j, self.sustain_s)


NO_BATTERY = Battery(capacity_j=0.0, max_charge_w=0.0, max_discharge_w=0.0)
"""A battery without capacity."""


@dataclass(frozen=True, slots=True)
class BatteryView:
    """A battery in GPU watts and seconds of run time.

    Attributes:
        battery: Its limits and losses.
        stored_j: Returns the energy in it now, J.
        forecast: Forecast of the GPU budget without the battery: takes now, horizon and step, s;
            returns `(time, watts)` pairs, s and W.
    """

    battery: Battery
    stored_j: Callable[[], float]
    forecast: Callable[[float, float, float], Sequence[tuple[float, float]]]


def battery_from_config(section: BatterySection) -> tuple[Battery, float]:
    """Return the battery and its stored energy at the start, J."""
    capacity_j = section.capacity_wh * JOULES_PER_WH
    battery = Battery(
        capacity_j=capacity_j,
        max_charge_w=section.max_charge_w,
        max_discharge_w=section.max_discharge_w,
        charge_efficiency=section.charge_efficiency,
        discharge_efficiency=section.discharge_efficiency,
    )
    return battery, section.initial_share * capacity_j

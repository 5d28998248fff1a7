"""Power of a modelled wind turbine in the measured wind of a station."""

from __future__ import annotations

from steppe.power.solar import Station, station_wind_mps
from steppe.power.trace import HOUR_S, SupplyTrace, year_trace

CUT_IN_MPS = 3.0
RATED_MPS = 12.0
STORM_BEGIN_MPS = 23.0
STORM_END_MPS = 27.0
MEASURED_M = 10.0
HUB_M = 80.0
SHEAR_EXPONENT = 1 / 7


def hub_speed_mps(measured_mps: float) -> float:
    """Return the wind speed at hub height (80 m) from that 10 m above ground, m/s.

    Power law with exponent 1/7: Peterson and Hennessey, J. Appl. Meteorology 17 (1978) 390.
    """
    return float(measured_mps * (HUB_M / MEASURED_M) ** SHEAR_EXPONENT)


def power_share(hub_mps: float) -> float:
    """Return a turbine's power at a hub wind speed, as a share of its rated power.

    Cubic between cut-in (3 m/s) and rated speed (12 m/s): Carrillo et al., Renewable and
    Sustainable Energy Reviews 21 (2013) 572. Around the cut-out speed of 25 m/s it falls
    linearly from 23 to 27 m/s (assumed): in gusts turbines stop and start one by one, so an
    hourly value is spread out (Norgaard and Holttinen, A Multi-Turbine Power Curve Approach, 2004).
    """
    if hub_mps <= CUT_IN_MPS or hub_mps >= STORM_END_MPS:
        return 0.0
    if hub_mps >= STORM_BEGIN_MPS:
        return (STORM_END_MPS - hub_mps) / (STORM_END_MPS - STORM_BEGIN_MPS)
    share: float = (hub_mps**3 - CUT_IN_MPS**3) / (RATED_MPS**3 - CUT_IN_MPS**3)
    return min(1.0, share)


def wind_trace(station: Station, rated_w: float) -> SupplyTrace:
    """Return a year of a turbine's power, in the station's local standard time.

    Power is linear between the hours at which the wind was measured.
    """
    speeds = station_wind_mps(station)
    return year_trace(HOUR_S, [rated_w * power_share(hub_speed_mps(speed)) for speed in speeds])

"""Photovoltaic power in the weather of pvlib's stations.

pvlib's wheel carries two typical meteorological years (NREL TMY3): Greensboro, North Carolina,
and Sand Point, Alaska. Weather is measured; the plant is modelled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from steppe.power.trace import SupplyTrace, year_trace

Station = Literal["greensboro", "sand_point"]

_FILES: dict[Station, str] = {"greensboro": "723170TYA.CSV", "sand_point": "703165TY.csv"}
_POWER_PER_KELVIN = -0.0047
"""PVWatts' temperature coefficient of a standard module, 1/K."""
_MID_HOUR_S = 1800.0
"""TMY3 gives the mean irradiance of the hour that ends at the label; it is used at mid-hour."""


def station_wind_mps(station: Station) -> tuple[float, ...]:
    """Return the measured wind speed 10 m above ground, m/s, at the end of each of 8760 hours.

    Hours count from the turn of the year in the station's local standard time.
    """
    weather, _ = _read_station(station)
    return tuple(float(speed) for speed in weather["wind_speed"])


def solar_trace(station: Station, rated_w: float) -> SupplyTrace:
    """Return a year of AC power of a fixed plant, in the station's local standard time.

    The plant faces the equator at latitude tilt. Irradiance on its plane after Hay and Davies,
    cell temperature after SAPM (open rack), module, 14 % losses and inverter after PVWatts V5
    (Dobos 2014, NREL/TP-6A20-62641), as implemented in pvlib.

    Args:
        station: The weather station.
        rated_w: DC power of the modules under standard test conditions, W.
    """
    weather, location = _read_station(station)
    return year_trace(_MID_HOUR_S, _plant_w(weather, location, rated_w))


def clear_sky_trace(
    latitude: float,
    longitude: float,
    rated_w: float,
    clearness: Sequence[float] | None = None,
) -> SupplyTrace:
    """Return a year of AC power of a fixed plant anywhere, in UTC.

    Irradiance of a clear sky after Solis in the simplified form of Ineichen (Solar Energy 82 (2008)
    758), as implemented in pvlib; air of 20 degrees and a wind of 2 m/s are assumed.

    Args:
        latitude: Latitude, degrees north.
        longitude: Longitude, degrees east.
        rated_w: DC power of the modules under standard test conditions, W.
        clearness: Share of a clear sky's power in each of 8760 hours; None for a clear sky.
    """
    from pandas import DataFrame, Timedelta, date_range
    from pvlib.clearsky import simplified_solis
    from pvlib.location import Location

    hours = date_range("1990-01-01", periods=8760, freq="h", tz="UTC")
    year = DataFrame(index=hours + Timedelta(seconds=_MID_HOUR_S))
    location = Location(latitude, longitude)
    elevation = location.get_solarposition(year.index)["apparent_elevation"]
    weather = simplified_solis(elevation, dni_extra=_extraterrestrial(year))
    weather["temp_air"], weather["wind_speed"] = 20.0, 2.0
    watts = _plant_w(weather, location, rated_w)
    if clearness is not None:
        watts = [each * share for each, share in zip(watts, clearness, strict=True)]
    return year_trace(_MID_HOUR_S, watts)


def _plant_w(weather: Any, location: Any, rated_w: float) -> list[float]:
    """Return the AC power of a fixed plant in the weather of each hour, W."""
    from pvlib import inverter, irradiance, pvsystem, temperature

    sun = location.get_solarposition(weather.index)
    plane = irradiance.get_total_irradiance(
        surface_tilt=abs(location.latitude),
        surface_azimuth=180.0 if location.latitude >= 0 else 0.0,
        solar_zenith=sun["apparent_zenith"],
        solar_azimuth=sun["azimuth"],
        dni=weather["dni"],
        ghi=weather["ghi"],
        dhi=weather["dhi"],
        dni_extra=_extraterrestrial(weather),
        model="haydavies",
    )["poa_global"].fillna(0.0)
    rack = temperature.TEMPERATURE_MODEL_PARAMETERS["sapm"]["open_rack_glass_polymer"]
    cell = temperature.sapm_cell(plane, weather["temp_air"], weather["wind_speed"], **rack)
    dc_w = pvsystem.pvwatts_dc(plane, cell, rated_w, _POWER_PER_KELVIN)
    dc_w = dc_w * (1.0 - pvsystem.pvwatts_losses() / 100.0)
    ac_w = inverter.pvwatts(dc_w, rated_w).clip(lower=0.0)
    return [float(watts) for watts in ac_w]


def _read_station(station: Station) -> tuple[Any, Any]:
    """Return a station's weather, indexed by mid-hour of one calendar year, and its location."""
    from importlib.resources import as_file, files

    from pandas import Timedelta
    from pvlib.iotools import read_tmy3
    from pvlib.location import Location

    with as_file(files("pvlib") / "data" / _FILES[station]) as path:
        weather, about = read_tmy3(path, coerce_year=1990, map_variables=True)
    weather.index = weather.index - Timedelta(seconds=_MID_HOUR_S)
    return weather, Location(about["latitude"], about["longitude"], altitude=about["altitude"])


def _extraterrestrial(weather: Any) -> Any:
    """Return the irradiance above the atmosphere, W/m2."""
    from pvlib.irradiance import get_extra_radiation

    # Days, not dates: from dates pvlib 0.16 derives the day in a way that pandas 3 deprecates.
    return get_extra_radiation(weather.index.day_of_year.to_numpy())

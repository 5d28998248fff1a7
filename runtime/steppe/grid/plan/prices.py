"""Prices of energy over time: from a file, or from the PRICE events of OpenADR."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path

from steppe.errors import UsageError
from steppe.grid.openadr.translation import Rate
from steppe.grid.plan.series import Series
from steppe.grid.plan.series_file import Columns, read_series
from steppe.grid.plan.terms import JOULES_PER_MWH

MOST_PER_KWH = 1000.0
"""A price beyond this, up or down, is an error of units, per kWh."""
_UNIT = re.compile(r"([A-Z]{3})/([kM]Wh)")
_KWH = {"kWh": 1.0, "MWh": 1e3}


@dataclass(frozen=True, slots=True)
class Prices:
    """What a joule costs over time; below zero, drawing it is paid for.

    Attributes:
        per_j: Money per joule.
        currency: ISO 4217 code, such as EUR.
    """

    per_j: Series
    currency: str


@dataclass(frozen=True, slots=True)
class Unit:
    """The unit of a price.

    Attributes:
        currency: ISO 4217 code.
        kwh: The energy that the price is of, kWh.
    """

    currency: str
    kwh: float

    @classmethod
    def read(cls, text: str) -> Unit:
        """Read a unit such as `EUR/MWh` or `CNY/kWh`.

        Raises:
            UsageError: It is none.
        """
        found = _UNIT.fullmatch(text)
        if found is None:
            wanted = "asked for a unit such as EUR/MWh or CNY/kWh"
            raise UsageError(f"{wanted}, found {text[:40]!r}")
        return cls(found[1], _KWH[found[2]])

    @property
    def joules(self) -> float:
        """The energy that the price is of, J."""
        return self.kwh * JOULES_PER_MWH / 1e3


def read_prices(
    path: Path,
    unit: Unit,
    zone: tzinfo | None = None,
    columns: tuple[str, str] = ("time", "price"),
) -> Prices:
    """Read prices from a `.csv` or `.csv.gz` file.

    Args:
        path: The file.
        unit: Unit of its prices.
        zone: Time zone of times without an offset; None refuses such times.
        columns: Names of the columns with the time and the price.

    Raises:
        UsageError: As for `read_series`, or a price beyond what can be meant.
    """
    most = MOST_PER_KWH * unit.kwh
    read = read_series(path, Columns(*columns, zone, -most, most))
    per_j = tuple(price / unit.joules for price in read.values)
    return Prices(Series(read.starts_s, per_j, read.ends_s), unit.currency)


def prices_of_rates(rates: Iterable[Rate], from_s: float, until_s: float) -> Prices | None:
    """Return the prices that OpenADR events state, from the first one on until there is none.

    Where several hold at a time, that of the highest priority counts, and of two alike the one
    that begins later.

    Args:
        rates: What the events say.
        from_s: Begin of the time that matters, s since the Unix epoch.
        until_s: Its end, s since the Unix epoch.

    Returns:
        The prices; None where no price holds.

    Raises:
        UsageError: They are in several currencies.
    """
    prices = [rate for rate in rates if rate.type == "PRICE"]
    prices = [rate for rate in prices if rate.starts_s < until_s and rate.ends_s > from_s]
    currencies = {rate.currency for rate in prices}
    if len(currencies) > 1:
        found = ", ".join(sorted(each or "one without a name" for each in currencies))
        raise UsageError(f"prices: asked for one currency, found {found}")
    ends = {end_s for rate in prices for end_s in (rate.starts_s, rate.ends_s)}
    times_s = sorted({from_s, *(end_s for end_s in ends if from_s < end_s < until_s), until_s})
    starts_s: list[float] = []
    values: list[float] = []
    ends_s = until_s
    for at_s in times_s[:-1]:
        rate = _in_force(prices, at_s)
        if rate is not None:
            starts_s.append(at_s)
            values.append(rate.per_kwh * 1e3 / JOULES_PER_MWH)
        elif starts_s:
            ends_s = at_s
            break
    if not starts_s:
        return None
    return Prices(Series(tuple(starts_s), tuple(values), ends_s), currencies.pop())


def _in_force(prices: Sequence[Rate], at_s: float) -> Rate | None:
    holding = [rate for rate in prices if rate.starts_s <= at_s < rate.ends_s]
    return min(holding, key=lambda rate: (rate.priority, -rate.starts_s), default=None)

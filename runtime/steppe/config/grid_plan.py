"""The plan of the markets: prices, forecasts, and what tokens and watts are worth."""

from __future__ import annotations

import zoneinfo
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from steppe.config.section import LARGEST, FilePath, NonNegative, Positive, Section, Share

Hour = Annotated[float, Field(ge=0, le=24)]
QUARTER_S = 900.0
MILLION = 1e6


def _zone(text: str) -> str:
    try:
        zoneinfo.ZoneInfo(text)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("asked for a time zone such as Europe/Paris") from None
    return text


Zone = Annotated[str, AfterValidator(_zone)]
"""A time zone of the IANA database."""


class PriceFileSection(Section):
    """A file with the prices of energy: a CSV file with a header, gzipped if it ends with `.gz`.

    Each price holds until the next one begins. At most an hour lies between two rows.
    """

    path: FilePath
    """Path of the file; relative to this file. It is read again when it changes."""
    unit: Annotated[str, Field(pattern="^[A-Z]{3}/[kM]Wh$")] = "EUR/MWh"
    """Currency and energy of a price, such as `EUR/MWh` or `CNY/kWh`."""
    time_column: str = "time"
    """Column with the time at which a price begins, ISO 8601. Without an offset it is in
    `grid.plan.zone`."""
    price_column: str = "price"
    """Column with the price. It may be below zero."""


class ForecastFileSection(Section):
    """A file with a forecast: a CSV file with a header, gzipped if it ends with `.gz`."""

    path: FilePath
    """Path of the file; relative to this file. It is read again when it changes."""
    time_column: str = "time"
    """Column with the time from which a value holds, ISO 8601. Without an offset it is in
    `grid.plan.zone`."""
    value_column: str = "value"
    """Column with the value: W at the site, or output tokens/s."""


class PlanWorkSection(Section):
    """Work that can wait: what usually comes in a day."""

    tokens_per_day: NonNegative
    """Output tokens that usually arrive in a day."""
    from_hour: Hour = 0.0
    """Hour of the day from which they arrive, h."""
    until_hour: Hour = 24.0
    """Hour of the day until which they arrive, h."""
    patience_s: Positive = 86_400.0
    """How long they may wait, s."""

    @model_validator(mode="after")
    def _in_order(self) -> PlanWorkSection:
        if not self.from_hour < self.until_hour:
            raise ValueError(
                f"until_hour: asked for an hour after {self.from_hour:g}, found {self.until_hour:g}"
            )
        return self


class PlanReserveSection(Section):
    """A market for reserve downwards: watts by which the draw can fall when they are called."""

    price: NonNegative
    """Paid for each MW and hour that is held ready, money."""
    called_share: Share = 0.03
    """Share of the time in which it is called."""
    hold_s: Positive = QUARTER_S
    """How long a call may last, s."""
    missed_price: NonNegative = 200.0
    """Paid for each MWh that is called and not given, money, beside the imbalance
    (`steppe grid backtest`)."""


class PlanSection(Section):
    """Plan what to buy, store and run in each quarter of an hour, from prices and forecasts.

    The plan of the next day is made at noon, and made anew each step. It lowers the limit of the
    site where energy is dear, and never below what requests need that cannot wait. It is advice: if
    it fails, the fleet runs without it. `docs/grid/plan.md`.
    """

    prices: PriceFileSection | None = None
    """Prices from a file."""
    openadr_prices: bool = False
    """Take the prices from the PRICE events of `grid.openadr` instead."""
    zone: Zone = "UTC"
    """Time zone whose days are traded, such as `Europe/Paris`."""
    renewable: ForecastFileSection | None = None
    """Forecast of wind and sun at the site, W. If absent: what the supplies of `power.supply` that
    are not firm know of their future. Traces and weather years know all of it, a live signal is
    taken to stay."""
    demand: ForecastFileSection | None = None
    """Forecast of output tokens/s that cannot wait. If absent: the mean of the same time of the
    last seven days of this run, and `load` before there is one."""
    position: ForecastFileSection | None = None
    """What is bought already, W, below zero where sold: a contract, or the result of an auction.
    If absent: what the plan of the day ahead bought."""
    work: PlanWorkSection | None = None
    """Work that can wait. If absent: the share of `load.priorities` that is deferrable, for up to
    `gateway.max_wait_s`."""
    token_value: NonNegative
    """What a million output tokens are worth that can wait, money."""
    firm_token_value: Positive
    """What a million output tokens are worth that cannot wait, money."""
    import_limit_w: Positive | None = None
    """Highest draw from the grid, W. If absent: the sum of the firm supplies of `power.supply`."""
    export_limit_w: NonNegative = 0.0
    """Highest feed into the grid, W."""
    later_price: Annotated[float, Field(ge=-LARGEST, le=LARGEST)] | None = None
    """What a MWh costs after the days that are planned, money. If absent: the mean of the prices
    that are known."""
    intraday_spread: NonNegative = 1.5
    """How much worse than day ahead each direction is intraday, money per MWh."""
    imbalance_spread: NonNegative = 10.0
    """How much worse than day ahead each direction of imbalance is, money per MWh."""
    reserve: PlanReserveSection | None = None
    """A market for reserve downwards; none if absent."""
    step_s: Annotated[float, Field(ge=60, le=3600)] = QUARTER_S
    """Length of a step, s; a divisor of an hour."""
    headroom_share: Share = 0.25
    """By how much more than expected the requests that cannot wait may ask before the limit of the
    plan binds them, share of the full output of the fleet."""
    default_w: NonNegative | None = None
    """What the site may draw while the plan is stale, W. If absent, nothing of the plan holds then:
    the other limits and the supplies do."""

    @model_validator(mode="after")
    def _prices_from_one_place(self) -> PlanSection:
        if (self.prices is None) == (not self.openadr_prices):
            found = "neither" if self.prices is None else "both"
            raise ValueError(f"asked for prices or openadr_prices, found {found}")
        if 3600 % self.step_s:
            raise ValueError(f"step_s: asked for a divisor of 3600 s, found {self.step_s:g}")
        return self

    @property
    def lost_s(self) -> float:
        """After this long without a new plan its limit does not hold any more, s: two steps."""
        return 2 * self.step_s

    def resolved(self, folder: Path) -> PlanSection:
        """Return the section with its paths relative to a folder."""
        found = {
            name: part.model_copy(update={"path": folder / part.path})
            for name in ("prices", "renewable", "demand", "position")
            if (part := getattr(self, name)) is not None
        }
        return self.model_copy(update=found)

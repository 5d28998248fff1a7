"""What becomes of an event afterwards: its baseline, what is paid for it, and how long is kept."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from steppe.config.section import FilePath, Section, Share

BaselineName = Literal[
    "10-in-10",
    "high 4-of-5",
    "middle 8-of-10",
    "5-in-10",
    "meter before",
    "declared",
    "firm level",
]
"""A method that says what the site would have drawn."""
_DAY_S, _STEP_S = 86_400, 10
_WholeWatts = Annotated[int, Field(ge=0, le=10**12)]
_Nano = Annotated[int, Field(ge=0, le=10**15)]


def _interval(interval_s: int) -> int:
    if interval_s % _STEP_S or _DAY_S % interval_s:
        raise ValueError(f"asked for a multiple of {_STEP_S} s of which a day has whole ones")
    return interval_s


def _currency(name: str) -> str:
    if not (len(name) == 3 and name.isascii() and name.isupper()):
        raise ValueError("asked for three capital letters, such as CNY")
    return name


class FirmLevelSection(Section):
    """A firm level: the site pays for one level, and goes down to another in an event."""

    subscribed_w: _WholeWatts
    """The level without an event, W."""
    firm_w: _WholeWatts
    """The level that the draw does not exceed in an event, W."""

    @model_validator(mode="after")
    def _firm_is_lower(self) -> FirmLevelSection:
        if self.firm_w >= self.subscribed_w:
            asked = f"firm_w: asked for less than subscribed_w, {self.subscribed_w}"
            raise ValueError(f"{asked}, found {self.firm_w}")
        return self


class ProgramSection(Section):
    """The terms of a programme of the grid."""

    baseline: BaselineName | None = None
    """Its baseline; that of `grid.events` if absent."""
    currency: Annotated[str, AfterValidator(_currency)] | None = None
    """Currency of its prices; absent, nothing is paid or owed."""
    price_nano_per_kwh: _Nano | None = None
    """Price of each kWh that was promised and delivered, 10^-9 of the currency."""
    penalty_nano_per_kwh: _Nano = 0
    """Penalty for each kWh that was promised and not delivered, 10^-9 of the currency."""
    least_ratio: Share = 0.0
    """Nothing is paid below this share of delivered to promised."""
    price_nano: _Nano | None = None
    """Instead of a price for each kWh: the price of an event in which each interval was delivered
    in full, 10^-9 of the currency; nothing is paid for others."""
    penalty_nano: _Nano = 0
    """The penalty of one in which it was not, 10^-9 of the currency."""

    @model_validator(mode="after")
    def _one_price_in_a_currency(self) -> ProgramSection:
        prices = [self.price_nano_per_kwh, self.price_nano]
        given = sum(each is not None for each in prices)
        if given != (self.currency is not None):
            asked = "asked for a currency and one of price_nano_per_kwh and price_nano, or for none"
            found = "no currency" if self.currency is None else f"{given} prices in {self.currency}"
            raise ValueError(f"{asked}, found {found}")
        return self


class EventsSection(Section):
    """What events delivered: the baseline, what is paid, and how long the draw is kept.

    Each event gets a report in the folder of the grid, and an entry in the log of the ledger.
    """

    baseline: BaselineName = "10-in-10"
    """What the site would have drawn. One from earlier days needs so many of them; until there are
    enough, `meter before` takes its place, and the report says so."""
    interval_s: Annotated[int, Field(ge=_STEP_S, le=3600), AfterValidator(_interval)] = 300
    """Length of an interval of the settlement, s. An event whose hold is shorter than two of them
    is settled in shorter ones."""
    before_s: Annotated[int, Field(ge=0, le=_DAY_S)] = 3600
    """How long before an event its report begins, s."""
    rebound_s: Annotated[int, Field(ge=0, le=_DAY_S)] = 7200
    """For how long after its end a rebound is looked for, s; its report is made then."""
    band: Share = 0.05
    """The draw follows a target while it is at most this share above it."""
    utc_offset_s: Annotated[int, Field(ge=-_DAY_S, le=_DAY_S)] = 0
    """Offset of local midnight from UTC, s; the same all year."""
    holidays: Annotated[tuple[date, ...], Field(strict=False)] = ()
    """Days without work from Monday to Friday."""
    worked: Annotated[tuple[date, ...], Field(strict=False)] = ()
    """Saturdays and Sundays with work."""
    firm_level: FirmLevelSection | None = None
    """The two levels of the baseline `firm level`."""
    declared: FilePath | None = None
    """A CSV file with the columns `start_s` (s since the Unix epoch) and `watts`, for the baseline
    `declared`; relative to this file. It counts for events that could not be foreseen when it was
    written."""
    programs: dict[str, ProgramSection] = Field(default_factory=dict)
    """Terms by the name of the programme."""
    readings_days: Annotated[int, Field(ge=2, le=30)] = 2
    """Whole days of which every reading of the draw is kept."""
    history_days: Annotated[int, Field(ge=80, le=3660)] = 400
    """Days of which the draw is kept by steps of 10 s."""

    @model_validator(mode="after")
    def _baselines_have_their_inputs(self) -> EventsSection:
        used = {self.baseline, *(each.baseline for each in self.programs.values())}
        for name, given in (("firm level", self.firm_level), ("declared", self.declared)):
            if name in used and given is None:
                field = name.replace(" ", "_")
                raise ValueError(f"{field}: asked for it by the baseline {name}, found none")
        return self

    def resolved(self, folder: Path) -> EventsSection:
        """Return the section with its paths relative to a folder."""
        if self.declared is None:
            return self
        return self.model_copy(update={"declared": folder / self.declared})

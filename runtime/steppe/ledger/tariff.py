"""Prices of tokens and joules: a table of rates, and the price of what a request took.

A tariff is an entry of the log, so that every customer sees the same one, and it never changes; new
prices are a tariff with another id. The rate is fixed when a request is admitted, and its receipt
names it as `TARIFF/NUMBER`. All prices are integers, 10^-9 of the currency. That may be tokens of a
model class or energy, too: then 10^9 is one token for a token, or one joule for a joule.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from steppe.errors import UsageError
from steppe.ledger.receipt import Receipt, canonical, read_entry
from steppe.ledger.units import is_currency

VERSION = 1
KIND = "tariff"
Band = Literal["surplus", "normal"]
"""`surplus`: there is renewable power that nothing else would use."""
BANDS = ("surplus", "normal")
UJ_PER_J = 1_000_000
_HOUR_US, _HOURS = 3_600_000_000, 24
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class NoRateError(UsageError):
    """A tariff has no rate for a request."""


@dataclass(frozen=True, slots=True)
class Rate:
    """One row of a tariff: what it is for, and its prices.

    Attributes:
        model: The model; empty for any.
        priority: The class; empty for any.
        band: `surplus` or `normal`; empty for both.
        from_hour: First hour of the day at which it holds, 0 to 23, by the tariff's offset.
        to_hour: Hour of the day at which it ends, 1 to 24; below `from_hour` it goes past midnight.
        prompt_nano: Price of a prompt token that was computed.
        cached_nano: Price of a prompt token that the cache held.
        output_nano: Price of a token that was generated.
        joule_nano: Price of a joule.
        hold_uj_per_token: Energy that a hold counts for each token, uJ; 0 for the usual one. Only
            where joules are priced: their number is known when a request has ended.
    """

    model: str = ""
    priority: str = ""
    band: str = ""
    from_hour: int = 0
    to_hour: int = 24
    prompt_nano: int = 0
    cached_nano: int = 0
    output_nano: int = 0
    joule_nano: int = 0
    hold_uj_per_token: int = 0

    def fits(self, model: str, priority: str, band: str, hour: int) -> bool:
        """Return whether it is the rate of a request that is admitted at an hour of the day."""
        named = ((self.model, model), (self.priority, priority), (self.band, band))
        if any(own and own != asked for own, asked in named):
            return False
        if self.from_hour < self.to_hour:
            return self.from_hour <= hour < self.to_hour
        return hour >= self.from_hour or hour < self.to_hour

    def price_nano(
        self, prompt_tokens: int, cached_tokens: int, output_tokens: int, energy_uj: int
    ) -> int:
        """Return the price; its joules are rounded to 10^-9, half to even.

        Args:
            prompt_tokens: Tokens of the prompt, cached ones too.
            cached_tokens: Those of them that the cache held.
            output_tokens: Tokens generated.
            energy_uj: Energy, uJ.
        """
        tokens = (
            (prompt_tokens - cached_tokens) * self.prompt_nano
            + cached_tokens * self.cached_nano
            + output_tokens * self.output_nano
        )
        return tokens + divided(energy_uj * self.joule_nano, UJ_PER_J)


@dataclass(frozen=True, slots=True)
class Tariff:
    """A table of rates; the first one that fits a request holds.

    Attributes:
        id: Its name, unique at a site.
        currency: Three capital letters, `tokens:NAME`, or `energy`.
        valid_from_us: Time from which requests are admitted with it, us since the Unix epoch.
        utc_offset_hours: Offset of its hours of the day from UTC.
        rates: Its rates.
    """

    id: str
    currency: str
    valid_from_us: int
    utc_offset_hours: int
    rates: tuple[Rate, ...]

    @property
    def entry(self) -> bytes:
        """Its bytes as an entry of the log."""
        return canonical({"kind": KIND, "v": VERSION, **asdict(self)})

    def rate_of(self, model: str, priority: str, band: str, now_us: int) -> int:
        """Return the number of the rate for a request that is admitted now.

        Raises:
            NoRateError: No rate fits.
        """
        hour = (now_us // _HOUR_US + self.utc_offset_hours) % _HOURS
        for number, rate in enumerate(self.rates):
            if rate.fits(model, priority, band, hour):
                return number
        asked = f"asked for a rate of {model}, {priority}, {band} at hour {hour}"
        raise NoRateError(f"tariff {self.id}: {asked}, found none")

    def name_of(self, rate: int) -> str:
        """Return what a receipt calls a rate."""
        return f"{self.id}/{rate}"

    def price_nano(self, receipt: Receipt) -> int:
        """Return the price of a receipt at the rate that it names.

        Raises:
            NoRateError: It names another tariff, or a rate that is not for its model and class.
        """
        id_, _, number = receipt.tariff.rpartition("/")
        if id_ != self.id or not number.isdecimal() or int(number) >= len(self.rates):
            raise NoRateError(f"tariff {self.id}: asked for {receipt.tariff!r}, found no such rate")
        rate = self.rates[int(number)]
        asked, own = (receipt.model, receipt.priority), (rate.model, rate.priority)
        if any(mine and mine != other for mine, other in zip(own, asked, strict=True)):
            found = f"found it for {rate.model or 'any'}, {rate.priority or 'any'}"
            raise NoRateError(f"rate {receipt.tariff}: asked for it of {', '.join(asked)}, {found}")
        return rate.price_nano(
            receipt.prompt_tokens, receipt.cached_tokens, receipt.output_tokens, receipt.energy_uj
        )

    @classmethod
    def read(cls, entry: bytes) -> Tariff:
        """Return the tariff of an entry.

        Raises:
            UsageError: It is none.
        """
        return tariff_of(read_entry(entry, KIND, VERSION))


def tariff_of(values: Any) -> Tariff:
    """Return the tariff of a mapping, as an entry or a YAML file holds it.

    Raises:
        UsageError: A field is missing, unknown, or out of its range.
    """
    values = _checked(values, "tariff", {f.name for f in fields(Tariff)}, {"utc_offset_hours"})
    rates = values["rates"]
    if not isinstance(rates, Sequence) or isinstance(rates, str) or not rates:
        raise UsageError(f"tariff.rates: asked for a list, found {rates!r:.60}")
    tariff = Tariff(
        values["id"],
        values["currency"],
        values["valid_from_us"],
        values.get("utc_offset_hours", 0),
        tuple(_rate(number, rate) for number, rate in enumerate(rates)),
    )
    _match(tariff.id, _ID, "tariff.id: asked for letters, digits, `._-`")
    if not isinstance(tariff.currency, str) or not is_currency(tariff.currency):
        asked = "asked for three capital letters, tokens:NAME or energy"
        raise UsageError(f"tariff.currency: {asked}, found {tariff.currency!r:.60}")
    _whole(tariff.valid_from_us, "tariff.valid_from_us", 0, 2**62)
    _whole(tariff.utc_offset_hours, "tariff.utc_offset_hours", -12, 14)
    return tariff


def divided(amount: int, by: int) -> int:
    """Return a quotient, rounded half to even."""
    whole, rest = divmod(amount, by)
    return whole + (2 * rest > by or (2 * rest == by and whole % 2 == 1))


def _rate(number: int, values: Any) -> Rate:
    where, names = f"tariff.rates[{number}]", {f.name for f in fields(Rate)}
    rate = Rate(**_checked(values, where, names, names))
    for name in ("model", "priority", "band"):
        if not isinstance(getattr(rate, name), str):
            raise UsageError(f"{where}.{name}: asked for text, found {getattr(rate, name)!r:.60}")
    if rate.band and rate.band not in BANDS:
        raise UsageError(f"{where}.band: asked for surplus or normal, found {rate.band!r:.60}")
    _whole(rate.from_hour, f"{where}.from_hour", 0, 23)
    _whole(rate.to_hour, f"{where}.to_hour", 1, 24)
    for name in ("prompt_nano", "cached_nano", "output_nano", "joule_nano", "hold_uj_per_token"):
        _whole(getattr(rate, name), f"{where}.{name}", 0, 2**53)
    return rate


def _checked(values: Any, where: str, names: set[str], optional: set[str]) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise UsageError(f"{where}: asked for a mapping, found {values!r:.60}")
    wrong = (names - optional - values.keys()) | (values.keys() - names)
    if wrong:
        known = ", ".join(sorted(names))
        found = ", ".join(sorted(map(str, wrong)))
        raise UsageError(f"{where}: asked for {known}; missing or unknown: {found}")
    return dict(values)


def _match(value: Any, pattern: re.Pattern[str], asked: str) -> None:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise UsageError(f"{asked}, found {value!r:.60}")


def _whole(value: Any, where: str, least: int, most: int) -> None:
    if type(value) is not int or not least <= value <= most:
        raise UsageError(f"{where}: asked for an integer of {least} to {most}, found {value!r:.60}")

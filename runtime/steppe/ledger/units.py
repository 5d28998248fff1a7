"""Units of accounts: their text, and tokens that are valid until a day.

CNY                        10^-9 of a currency
tokens:large               10^-9 tokens of a model class
tokens:large@2026-12-31    the same, valid until the end of that day (UTC): a series
energy                     10^-9 J
quote:ID                   tokens of a quote
green:SITE:HOUR            uJ of matched energy, also gec:SITE:HOUR
wh:ID                      Wh of a certificate
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation, localcontext

from steppe.errors import UsageError

ENERGY = "energy"
NANO_DIGITS = 9
US_PER_S = 1_000_000
MOST = 2**63 - 1
"""Largest amount that a store keeps."""
_TOKENS, _QUOTE = "tokens:", "quote:"
_CURRENCY = re.compile(r"[A-Z]{3}|tokens:[a-z0-9][a-z0-9._-]{0,31}|energy")
_UNIT = re.compile(r"(?P<tokens>tokens:[a-z0-9][a-z0-9._-]{0,31})@(?P<day>\d{4}-\d{2}-\d{2})")
_DIGITS = 40
"""Decimal digits of exact arithmetic: more than an amount has."""


def is_currency(text: str) -> bool:
    """Return whether a tariff may have its prices in this unit."""
    return _CURRENCY.fullmatch(text) is not None


def checked_unit(text: str) -> str:
    """Return a unit that tenants can pay in: a currency, tokens with or without a day, energy.

    Raises:
        UsageError: It is none.
    """
    if not is_currency(text) and series_end_us(text) is None:
        asked = "asked for three capital letters, tokens:NAME, tokens:NAME@YYYY-MM-DD or energy"
        raise UsageError(f"unit: {asked}, found {text!r:.60}")
    return text


def is_money(unit: str) -> bool:
    """Return whether a unit is a currency of a state."""
    return len(unit) == 3


def is_tokens(unit: str) -> bool:
    """Return whether a unit is tokens of a model class."""
    return unit.startswith(_TOKENS)


def is_energy_of_hours(unit: str) -> bool:
    """Return whether a unit is energy of an hour, or of a certificate: nothing that one pays in."""
    return unit.startswith(("green:", "gec:", "wh:"))


def quote_unit(quote: str) -> str:
    """Return the unit of the tokens of a quote."""
    return f"{_QUOTE}{quote}"


def quote_of(unit: str) -> str | None:
    """Return the id of the quote whose tokens a unit counts; None if it counts something else."""
    return unit.removeprefix(_QUOTE) if unit.startswith(_QUOTE) else None


def series_of(tokens: str, until: date) -> str:
    """Return the unit of tokens that are valid until the end of a day (UTC)."""
    return f"{tokens}@{until.isoformat()}"


def series_start(tokens: str) -> str:
    """Return what the units of all series of some tokens start with."""
    return f"{tokens}@"


def currency_of(unit: str) -> str:
    """Return what a receipt calls a unit: that of a series without its day."""
    return unit.partition("@")[0]


def series_end_us(unit: str) -> int | None:
    """Return when a series ends, us since the Unix epoch; None for what does not end."""
    found = _UNIT.fullmatch(unit)
    if found is None:
        return None
    try:
        day = date.fromisoformat(found["day"])
    except ValueError:
        return None
    end = datetime.combine(day + timedelta(days=1), time(), UTC)
    return int(end.timestamp()) * US_PER_S


def digits_of(unit: str) -> int:
    """Return how many decimal digits an amount of a unit counts: 9 of currencies, else none."""
    return NANO_DIGITS if is_currency(currency_of(unit)) else 0


def number_text(amount: int, unit: str) -> str:
    """Return an amount as exact text without its unit, such as `0.25`."""
    digits = digits_of(unit)
    whole, part = divmod(abs(amount), 10**digits)
    decimals = f"{part:0{digits}}".rstrip("0") if part else ""
    return f"{'-' if amount < 0 else ''}{whole}{'.' if decimals else ''}{decimals}"


def amount_text(amount: int, unit: str) -> str:
    """Return an amount as exact text with its unit, such as `0.25 CNY`."""
    return f"{number_text(amount, unit)} {_shown(unit)}"


def amount_of(text: str, unit: str) -> int:
    """Return the amount of a text such as `9.9`, exact.

    Raises:
        UsageError: It is no number, has more digits than the unit, or is not above 0.
    """
    with localcontext(prec=_DIGITS):
        try:
            amount = Decimal(text).scaleb(digits_of(unit))
            is_whole = amount.is_finite() and amount == amount.to_integral_value()
        except InvalidOperation:
            is_whole = False
        if not is_whole or not 0 < amount <= MOST:
            asked = f"asked for a number above 0 of {_shown(unit)}"
            raise UsageError(f"amount: {asked}, {digits_of(unit)} decimals, found {text!r:.60}")
        return int(amount)


def _shown(unit: str) -> str:
    return "J" if unit == ENERGY else unit

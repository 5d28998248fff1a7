"""Exact text of integers that count a decimal part of a unit, and the minor units of currencies."""

from __future__ import annotations

from steppe.ledger.tariff import divided
from steppe.ledger.units import ENERGY, is_tokens

NANO_DIGITS, MICRO_DIGITS = 9, 6
NO_CURRENCY = "XXX"
"""What ISO 4217 calls no currency."""
_NONE = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
_THREE = "BHD IQD JOD KWD LYD OMR TND"
_DIGITS = dict.fromkeys(_NONE.split(), 0) | dict.fromkeys(_THREE.split(), 3) | {"CLF": 4, "UYW": 4}


def minor_digits(currency: str) -> int:
    """Return how many decimal digits the minor unit of a currency has (ISO 4217); mostly 2.

    Tokens are billed whole, and energy in uJ.
    """
    if currency == ENERGY:
        return MICRO_DIGITS
    return 0 if is_tokens(currency) else _DIGITS.get(currency, 2)


def minor_nano(currency: str) -> int:
    """Return the minor unit of a currency, 10^-9 of the currency."""
    return int(10 ** (NANO_DIGITS - minor_digits(currency)))


def in_minor(amount_nano: int, currency: str) -> int:
    """Return an amount in whole minor units, rounded half to even."""
    return divided(amount_nano, minor_nano(currency))


def decimal_text(amount: int, digits: int) -> str:
    """Return the exact decimal text of `amount * 10**-digits`, such as `-0.50` for -50 and 2."""
    whole, part = divmod(abs(amount), 10**digits)
    sign = "-" if amount < 0 else ""
    return f"{sign}{whole}.{part:0{digits}}" if digits else f"{sign}{whole}"


def grouped_text(amount: int, digits: int) -> str:
    """Return the same with commas between thousands."""
    whole, dot, part = decimal_text(abs(amount), digits).partition(".")
    return f"{'-' if amount < 0 else ''}{int(whole):,}{dot}{part}"

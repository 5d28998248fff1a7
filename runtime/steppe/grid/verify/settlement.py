"""What a delivery earns and costs, in 10^-9 of a currency."""

from __future__ import annotations

from dataclasses import dataclass

from steppe.errors import UsageError
from steppe.grid.verify.delivery import PPM, Delivery
from steppe.ledger.tariff import divided

J_PER_KWH = 3_600_000


@dataclass(frozen=True, slots=True)
class EnergyTerms:
    """What is paid for each kWh that was promised and delivered, and owed for each that was not.

    Attributes:
        currency: Three letters.
        price_nano_per_kwh: Price of what was delivered, 10^-9 of the currency.
        penalty_nano_per_kwh: Penalty for what was missing, 10^-9 of the currency.
        least_ratio_ppm: Nothing is paid below this ratio of delivered to promised, 10^-6.
    """

    currency: str
    price_nano_per_kwh: int
    penalty_nano_per_kwh: int
    least_ratio_ppm: int = 0

    def __post_init__(self) -> None:
        _refuse_negative(self.penalty_nano_per_kwh)
        if not 0 <= self.least_ratio_ppm <= PPM:
            asked = f"asked for a least ratio of 0 to {PPM} ppm"
            raise UsageError(f"terms: {asked}, found {self.least_ratio_ppm}")


@dataclass(frozen=True, slots=True)
class WholeTerms:
    """What is paid if every interval was delivered in full, and owed if one was not.

    Attributes:
        currency: Three letters.
        price_nano: Price of the event, 10^-9 of the currency.
        penalty_nano: Penalty, 10^-9 of the currency.
    """

    currency: str
    price_nano: int
    penalty_nano: int

    def __post_init__(self) -> None:
        _refuse_negative(self.penalty_nano)


Terms = EnergyTerms | WholeTerms


@dataclass(frozen=True, slots=True)
class EventSettlement:
    """What an event earned and cost.

    Attributes:
        currency: Three letters.
        price_nano: What is paid, 10^-9 of the currency.
        penalty_nano: What is owed, 10^-9 of the currency; not below 0.
        net_nano: Price less penalty, 10^-9 of the currency.
    """

    currency: str
    price_nano: int
    penalty_nano: int
    net_nano: int


def settle(delivery: Delivery, terms: Terms) -> EventSettlement:
    """Return what a delivery earns; each amount is rounded once, half to even."""
    match terms:
        case EnergyTerms():
            ratio_ppm = delivery.ratio_ppm
            paid_j = delivery.counted_j
            if ratio_ppm is not None and ratio_ppm < terms.least_ratio_ppm:
                paid_j = 0
            price_nano = divided(paid_j * terms.price_nano_per_kwh, J_PER_KWH)
            owed = delivery.deficiency_j * terms.penalty_nano_per_kwh
            penalty_nano = divided(owed, J_PER_KWH)
        case WholeTerms():
            price_nano = terms.price_nano if delivery.is_whole else 0
            penalty_nano = 0 if delivery.is_whole else terms.penalty_nano
    return EventSettlement(terms.currency, price_nano, penalty_nano, price_nano - penalty_nano)


def _refuse_negative(penalty_nano: int) -> None:
    if penalty_nano < 0:
        raise UsageError(f"terms: asked for a penalty of 0 or more, found {penalty_nano}")

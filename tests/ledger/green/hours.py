"""An hour with two tenants' receipts, its book and its energy, for the tests of green energy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tests.ledger.test_receipt import RECEIPT

from steppe.ledger.green.supply import UJ_PER_WH
from steppe.ledger.periods.closing import Counters, close_hour, closes_us
from steppe.ledger.periods.period import Meter, Period
from steppe.ledger.receipt import Receipt

HOUR = 490_000
LATE_US = closes_us(HOUR + 1)


def receipt(seq: int, tenant: str, wh: int, **changes: object) -> Receipt:
    """Return a receipt of some Wh."""
    made = replace(RECEIPT, id=f"r{seq}", seq=seq, tenant=tenant, energy_uj=wh * UJ_PER_WH)
    return replace(made, **changes)  # type: ignore[arg-type]


def period_of(receipts: Sequence[Receipt], idle_wh: int = 0, rest_wh: int = 0) -> Period:
    """Return the book of an hour in which the meter counted all of this, and no more."""
    used_uj = sum(one.energy_uj for one in receipts) + (idle_wh + rest_wh) * UJ_PER_WH
    meter = Meter.between("gpus", 0, used_uj)
    counters = Counters("hohhot", "gpu", HOUR, (meter,), idle_wh * UJ_PER_WH, rest_wh * UJ_PER_WH)
    return close_hour(counters, receipts, None, LATE_US)


RECEIPTS = (receipt(0, "lab", 1), receipt(1, "shop", 2), receipt(2, "lab", 0))
"""3 Wh, of two tenants."""

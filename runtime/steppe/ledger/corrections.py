"""Corrections: a receipt of its own that says by how much an earlier one was wrong.

The first receipt stays as it is. All amounts of a correction are differences, so the receipt and
its corrections add up to what is right. A correction never asks for more money.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from steppe.errors import UsageError
from steppe.ledger.receipt import Receipt
from steppe.ledger.tariff import Tariff

_COUNTED = ("prompt_tokens", "cached_tokens", "output_tokens", "energy_uj", "amount_nano")


@dataclass(frozen=True, slots=True)
class Right:
    """What a receipt should have said; None leaves a count as it is.

    Attributes:
        prompt_tokens: Tokens of the prompt, cached ones too.
        cached_tokens: Those of them that the prefix cache held.
        output_tokens: Tokens generated.
        energy_uj: Energy attributed to it, uJ.
        amount_nano: Its price, 10^-9 of its currency; None for that of its tariff.
    """

    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    energy_uj: int | None = None
    amount_nano: int | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """When and as what a correction is written.

    Attributes:
        id: Its id.
        seq: Its number at the site.
        hour: The hour that is open, hours since the Unix epoch.
    """

    id: str
    seq: int
    hour: int


def standing(receipt: Receipt, corrections: Sequence[Receipt]) -> Receipt:
    """Return a receipt with all its corrections added."""
    sums = {
        name: getattr(receipt, name) + sum(getattr(one, name) for one in corrections)
        for name in _COUNTED
    }
    return replace(receipt, **sums)


def correction_of(
    receipt: Receipt,
    corrections: Sequence[Receipt],
    right: Right,
    tariff: Tariff | None,
    written: Written,
) -> Receipt:
    """Return the correction that makes a receipt say what is right.

    Args:
        receipt: The receipt.
        corrections: Its corrections so far.
        right: What it should have said.
        tariff: Its tariff; None if it has none.
        written: When and as what it is written.

    Raises:
        UsageError: It is a correction itself, nothing changes, a count is below 0, or it would cost
            more than before.
    """
    if receipt.corrects:
        asked = "asked to correct a receipt of a request"
        raise UsageError(
            f"receipt {receipt.id}: {asked}, found the correction of {receipt.corrects}"
        )
    now = standing(receipt, corrections)
    given = {name: getattr(right, name) for name in _COUNTED}
    wanted = replace(now, **{name: value for name, value in given.items() if value is not None})
    if right.amount_nano is None and tariff is not None:
        wanted = replace(wanted, amount_nano=tariff.price_nano(wanted))
    _check(receipt.id, now, wanted)
    change = {name: getattr(wanted, name) - getattr(now, name) for name in _COUNTED}
    return replace(
        receipt,
        id=written.id,
        seq=written.seq,
        hour=written.hour,
        idle_uj=0,
        green_uj=0,
        corrects=receipt.id,
        **change,
    )


def _check(id_: str, now: Receipt, wanted: Receipt) -> None:
    where = f"receipt {id_}"
    for name in _COUNTED:
        if (value := getattr(wanted, name)) < 0:
            raise UsageError(f"{where}: {name}: asked for {value}, a receipt has at least 0")
    if wanted.cached_tokens > wanted.prompt_tokens:
        found = f"found a prompt of {wanted.prompt_tokens}"
        raise UsageError(f"{where}: asked for {wanted.cached_tokens} cached tokens, {found}")
    if wanted.amount_nano > now.amount_nano:
        more = f"asked for {wanted.amount_nano} x 10^-9 {now.currency}"
        found = f"found {now.amount_nano}: a correction gives money back"
        raise UsageError(f"{where}: {more}, {found}")
    if wanted == now:
        raise UsageError(f"{where}: asked for what it says already, found nothing to correct")

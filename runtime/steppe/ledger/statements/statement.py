"""The statement of a tenant's month: sums of its receipts, line by line, exact to the last unit.

Each line is rounded once, to the minor unit of the currency, half to even. What that changes is a
line of its own, so that the lines add up to what the receipts add up to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from steppe.errors import UsageError
from steppe.ledger.receipt import Receipt
from steppe.ledger.statements.amounts import NO_CURRENCY, in_minor, minor_nano
from steppe.ledger.statements.month import Month
from steppe.ledger.tree import head_of, leaf_hash


@dataclass(frozen=True, slots=True)
class ReceiptShare:
    """What the books of its hour give a receipt beside what it says itself.

    Attributes:
        idle_uj: Its share of the energy without work, uJ.
        green_uj: What of its energy, that share included, was matched to renewable generation, uJ.
    """

    idle_uj: int = 0
    green_uj: int = 0


_NO_SHARE = ReceiptShare()


@dataclass(frozen=True, slots=True)
class _Item:
    """A receipt of the statement, the hash of its leaf, and its share; a receipt is hashed once."""

    receipt: Receipt
    leaf: bytes
    share: ReceiptShare


@dataclass(frozen=True, slots=True)
class ReceiptSums:
    """What some receipts add up to.

    Attributes:
        receipts: Number of receipts.
        prompt_tokens: Tokens of prompts, cached ones too.
        cached_tokens: Those of them that the prefix cache held.
        output_tokens: Tokens generated.
        energy_uj: Energy attributed, uJ.
        idle_uj: Share of the energy without work, uJ.
        green_uj: The part of both that was matched to renewable generation, uJ.
        amount_nano: Price, 10^-9 of the currency.
    """

    receipts: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    energy_uj: int = 0
    idle_uj: int = 0
    green_uj: int = 0
    amount_nano: int = 0

    @property
    def used_uj(self) -> int:
        """Energy with the share of idle, uJ: what `green_uj` is a part of."""
        return self.energy_uj + self.idle_uj

    @property
    def tokens(self) -> int:
        """Tokens of prompts and generated tokens."""
        return self.prompt_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class Correction:
    """That a line is the difference that one receipt made to another.

    Attributes:
        id: Id of the receipt that corrects.
        corrects: Id of the receipt that it corrects.
        is_of_month: Whether the corrected receipt is on the same statement.
    """

    id: str
    corrects: str
    is_of_month: bool


@dataclass(frozen=True, slots=True)
class Line:
    """One line: all that was used of a model, in a class, at a rate; or one correction.

    Attributes:
        model: The model.
        priority: The class.
        tariff: The rate, as receipts name it; empty for none.
        sums: What its receipts add up to.
        billed_minor: Its price in minor units of the currency.
        energy_sources: Where its energy is from, as receipts name it.
        boundaries: What its energy encloses.
        sites: The sites that served it.
        root: Root of the tree (RFC 6962) of its receipts by site and number; hexadecimal.
        correction: What it corrects, if it is a correction.
    """

    model: str
    priority: str
    tariff: str
    sums: ReceiptSums
    billed_minor: int
    energy_sources: tuple[str, ...]
    boundaries: tuple[str, ...]
    sites: tuple[str, ...]
    root: str
    correction: Correction | None = None


@dataclass(frozen=True, slots=True)
class Statement:
    """What a tenant used in a month, and its price.

    Attributes:
        tenant: The tenant.
        month: The month. A receipt belongs to the month of its hour.
        currency: Three letters; `XXX` if no receipt has a price.
        lines: Its lines, corrections last.
        hours: Each hour with receipts, hours since the Unix epoch, and its sums. Corrections are
            in none.
        sums: What all receipts add up to, corrections too.
        energy_sources: Where the energy is from.
        root: Root of the tree of all receipts, as of a line.
    """

    tenant: str
    month: Month
    currency: str
    lines: tuple[Line, ...]
    hours: tuple[tuple[int, ReceiptSums], ...]
    sums: ReceiptSums
    energy_sources: tuple[str, ...]
    root: str

    @property
    def name(self) -> str:
        """Its name, unique at a site."""
        return f"{self.tenant}/{self.month.text}"

    @property
    def rounding_nano(self) -> int:
        """What the rounding of lines took from them, 10^-9 of the currency: a line too."""
        billed = sum(line.billed_minor for line in self.lines)
        return self.sums.amount_nano - billed * minor_nano(self.currency)

    @property
    def total_minor(self) -> int:
        """The exact total `sums.amount_nano`, rounded once to minor units of the currency."""
        return in_minor(self.sums.amount_nano, self.currency)


def statement_of(
    receipts: Iterable[Receipt],
    tenant: str,
    month: Month,
    shares: Mapping[str, ReceiptShare] | None = None,
) -> Statement:
    """Return the statement of a tenant's month.

    Args:
        receipts: Receipts in any order; those of other tenants and hours are left out.
        tenant: The tenant.
        month: The month.
        shares: What the books of their hours give receipts, by id; nothing for others.

    Raises:
        UsageError: A receipt is there twice, has an amount without a currency, or the receipts
            have several currencies.
    """
    hours, shares = month.hours, shares or {}
    own = [one for one in receipts if one.tenant == tenant and one.hour in hours]
    own.sort(key=lambda one: (one.site, one.seq, one.id))
    ids, currency = _ids_of(own), _currency_of(own)
    items = [_Item(one, leaf_hash(one.entry), shares.get(one.id, _NO_SHARE)) for one in own]
    by_key: dict[tuple[str, ...], list[_Item]] = {}
    by_hour: dict[int, list[_Item]] = {}
    for item in items:
        by_key.setdefault(_key_of(item.receipt), []).append(item)
        if not item.receipt.corrects:
            by_hour.setdefault(item.receipt.hour, []).append(item)
    return Statement(
        tenant,
        month,
        currency,
        tuple(_line_of(by_key[key], currency, ids) for key in sorted(by_key)),
        tuple((hour, _sums_of(by_hour[hour])) for hour in sorted(by_hour)),
        _sums_of(items),
        _distinct(one.energy_source for one in own),
        _root_of(items),
    )


def _key_of(receipt: Receipt) -> tuple[str, ...]:
    """Return what one line is for; a receipt that corrects has a line of its own, after others."""
    key = (receipt.model, receipt.priority, receipt.tariff)
    return ("correction", *key, receipt.id) if receipt.corrects else ("", *key)


def _line_of(items: Sequence[_Item], currency: str, ids: set[str]) -> Line:
    receipts = [item.receipt for item in items]
    first, sums = receipts[0], _sums_of(items)
    correction = None
    if first.corrects:
        correction = Correction(first.id, first.corrects, first.corrects in ids)
    return Line(
        first.model,
        first.priority,
        first.tariff,
        sums,
        in_minor(sums.amount_nano, currency),
        _distinct(one.energy_source for one in receipts),
        _distinct(one.boundary for one in receipts),
        _distinct(one.site for one in receipts),
        _root_of(items),
        correction,
    )


def _sums_of(items: Sequence[_Item]) -> ReceiptSums:
    receipts, shares = [item.receipt for item in items], [item.share for item in items]
    return ReceiptSums(
        len(items),
        sum(one.prompt_tokens for one in receipts),
        sum(one.cached_tokens for one in receipts),
        sum(one.output_tokens for one in receipts),
        sum(one.energy_uj for one in receipts),
        sum(one.idle_uj for one in receipts) + sum(share.idle_uj for share in shares),
        sum(one.green_uj for one in receipts) + sum(share.green_uj for share in shares),
        sum(one.amount_nano for one in receipts),
    )


def _ids_of(receipts: Sequence[Receipt]) -> set[str]:
    ids: set[str] = set()
    for one in receipts:
        if one.id in ids:
            raise UsageError(f"statement: asked for each receipt once, found {one.id} twice")
        ids.add(one.id)
    return ids


def _currency_of(receipts: Sequence[Receipt]) -> str:
    for one in receipts:
        if one.amount_nano and not one.currency:
            found = f"found {one.amount_nano} of none in receipt {one.id}"
            raise UsageError(f"statement: asked for an amount with a currency, {found}")
    currencies = _distinct(one.currency for one in receipts if one.currency)
    if len(currencies) > 1:
        raise UsageError(f"statement: asked for one currency, found {', '.join(currencies)}")
    return currencies[0] if currencies else NO_CURRENCY


def _distinct(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(values)))


def _root_of(items: Sequence[_Item]) -> str:
    return head_of([item.leaf for item in items]).root.hex()

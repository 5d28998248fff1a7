"""The decision at admission: a rate, and what is set aside in which unit, or why not.

It is made within a transaction that writes, so that of many requests at once no more are admitted
than are paid for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from steppe.ledger.admission import (
    Admission,
    AdmissionRules,
    AdmissionTerms,
    Payer,
    Price,
    Refusal,
    most_nano,
    prices,
)
from steppe.ledger.entries import Hold, MovementKind, available
from steppe.ledger.quote import KIND as QUOTE
from steppe.ledger.quote import Quote, QuoteError
from steppe.ledger.store.balances import Balance, Balances
from steppe.ledger.store.holds import Holds
from steppe.ledger.store.log_entries import LogEntries
from steppe.ledger.store.movements import Movements
from steppe.ledger.tariff import KIND as TARIFF
from steppe.ledger.tariff import Tariff
from steppe.ledger.units import (
    US_PER_S,
    amount_text,
    is_money,
    is_tokens,
    number_text,
    quote_of,
    quote_unit,
    series_end_us,
    series_start,
)


class AdmissionTables(Protocol):
    """What the decision needs of a transaction."""

    balances: Balances
    movements: Movements
    holds: Holds
    entries: LogEntries

    def hold(self, holds: Sequence[Hold], now_us: int) -> bool:
        """Set the parts of a hold aside."""


@dataclass(frozen=True, slots=True)
class _Choices:
    """What a request may be paid with, and what it takes of a quote: unit and tokens."""

    prices: tuple[Price, ...]
    quote: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class _Payment:
    """How a request is paid: its price, amounts by unit, and what is free afterwards."""

    price: Price
    parts: tuple[tuple[str, int], ...] = ()
    free: int | None = None


def admit(
    books: AdmissionTables, asked: Admission, rules: AdmissionRules, now_us: int
) -> AdmissionTerms | Refusal:
    """Decide on a request; what it may cost at most is set aside for it.

    The same admission again has the same terms. A refusal changes nothing.

    Args:
        books: The transaction.
        asked: The request.
        rules: What the operator has fixed.
        now_us: The time, us since the Unix epoch.
    """
    if holds := books.holds.of(asked.request):
        return _again(books, asked, holds, now_us)
    if books.movements.find(asked.request, MovementKind.HOLD):
        return Refusal("conflict", f"request {asked.request}: asked to admit it, found it ended")
    choices = _choices(books, asked, rules, now_us)
    if isinstance(choices, Refusal):
        return choices
    payment = _payment(books, asked, choices.prices, now_us)
    if payment is None:
        payment = _on_account(asked, choices.prices, rules.needs_account)
    if isinstance(payment, Refusal):
        return payment
    price, expires_us = payment.price, now_us + rules.hold_s * US_PER_S
    holds = [
        Hold(
            asked.request,
            asked.tenant,
            unit,
            amount,
            expires_us,
            part,
            price.rate,
            price.currency,
            asked.digest,
        )
        for part, (unit, amount) in enumerate((*payment.parts, *choices.quote))
    ]
    if holds:
        books.hold(holds, now_us)
    return AdmissionTerms(
        price.rate, price.currency, sum(each[1] for each in payment.parts), payment.free
    )


def _again(
    books: AdmissionTables, asked: Admission, holds: Sequence[Hold], now_us: int
) -> AdmissionTerms | Refusal:
    """Return the terms of a request that was admitted before."""
    first = holds[0]
    if first.asked != asked.digest:
        found = f"found it admitted for {first.tenant} with another content"
        return Refusal("conflict", f"request {asked.request}: asked to admit it, {found}")
    amount = sum(each.amount for each in holds if quote_of(each.unit) is None)
    purses = purses_of(books, asked.tenant, first.currency)
    free = sum(each.free for each in usable_of(purses, now_us)) if purses else None
    return AdmissionTerms(first.rate, first.currency, amount, free)


def _choices(
    books: AdmissionTables, asked: Admission, rules: AdmissionRules, now_us: int
) -> _Choices | Refusal:
    """Return what a request may be paid with."""
    if not asked.quote:
        return _Choices(tuple(prices(asked, rules.tariffs, now_us)))
    unit, entry = quote_unit(asked.quote), books.entries.find(QUOTE, asked.quote)
    left = books.balances.find(available(asked.tenant), unit)
    if entry is None or left is None:
        return Refusal("invalid_quote", f"quote {asked.quote}: asked for it, found none of this id")
    quote = Quote.read(entry)
    tariff_id, _, number = quote.tariff.rpartition("/")
    table = books.entries.find(TARIFF, tariff_id)
    if table is None:
        found = f"found no tariff {tariff_id} in the log"
        return Refusal("invalid_quote", f"quote {quote.id}: asked for its rate, {found}")
    most, used = asked.most_tokens, quote.tokens - left.free
    try:
        quote.check_use(asked.model, asked.priority, most, used, now_us)
    except QuoteError as error:
        return Refusal("invalid_quote", str(error), left.free)
    rate = Tariff.read(table).rates[int(number)]
    return _Choices((Price(quote.tariff, quote.currency, most_nano(rate, asked)),), ((unit, most),))


def _on_account(
    asked: Admission, choices: Sequence[Price], needs_account: bool
) -> _Payment | Refusal:
    """Return how a request is paid whose tenant has no account: by the statement, in money."""
    if not needs_account:
        in_money = (each for each in choices if is_money(each.currency))
        return _Payment(next(in_money, choices[0] if choices else Price("", "", 0)))
    if not choices:
        found = f"asked for a rate of {asked.model}, {asked.priority}, found none"
        return Refusal("no_rate", f"{asked.tenant}: {found}")
    units = ", ".join(dict.fromkeys(each.currency for each in choices))
    return Refusal("no_account", f"{asked.tenant}: asked for an account of {units}, found none")


def _payment(
    books: AdmissionTables, asked: Admission, choices: Sequence[Price], now_us: int
) -> _Payment | Refusal | None:
    """Return how a request is paid; None if its tenant has no account for any of the prices."""
    refusal: Refusal | None = None
    for price in choices:
        purses = purses_of(books, asked.tenant, price.currency)
        usable = usable_of(purses, now_us)
        parts = parts_of(usable, price.most)
        if purses and parts is not None:
            free = sum(each.free for each in usable) - price.most
            return _Payment(price, parts, free)
        if purses:
            refusal = _too_little(asked, price, sum(each.free for each in usable))
    return refusal


def parts_of(purses: Sequence[Balance], most: int) -> tuple[tuple[str, int], ...] | None:
    """Return what is taken of each purse in turn; None if they have not so much."""
    parts, rest = [], most
    for each in purses:
        if taken := min(max(0, each.free), rest):
            parts.append((each.unit, taken))
            rest -= taken
    return None if rest else tuple(parts)


def late_parts(
    books: AdmissionTables, payer: Payer, most: int, now_us: int
) -> tuple[tuple[str, int], ...]:
    """Return what of an amount can be charged without a hold: as much as is free."""
    usable = usable_of(purses_of(books, payer.tenant, payer.currency), now_us)
    free = sum(max(0, each.free) for each in usable)
    return parts_of(usable, min(most, free)) or ()


def purses_of(books: AdmissionTables, tenant: str, currency: str) -> list[Balance]:
    """Return what a tenant can pay in a unit: series by their end, then what does not end."""
    own = available(tenant)
    found = books.balances.find(own, currency)
    purses = [] if found is None else [found]
    if is_tokens(currency):
        purses = [*books.balances.starting_with(own, series_start(currency)), *purses]
    return purses


def usable_of(purses: Sequence[Balance], now_us: int) -> list[Balance]:
    """Return those of them that have not run out."""
    ends = ((each, series_end_us(each.unit)) for each in purses)
    return [each for each, end_us in ends if end_us is None or now_us < end_us]


def _too_little(asked: Admission, price: Price, free: int) -> Refusal:
    most, found = amount_text(price.most, price.currency), number_text(free, price.currency)
    line = f"{asked.tenant}: asked for up to {most}, found {found} free"
    return Refusal("insufficient_funds", line, free)

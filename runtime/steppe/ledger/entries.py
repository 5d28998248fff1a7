"""Double entry: what each step of an account's life moves, from where to where.

Every amount is a whole number of one unit, such as 10^-9 of a currency (`CNY`), see `ledger.units`.
A movement takes from one account and gives the same to another, so the sum of all accounts of a
unit is always zero. These functions are pure; `ledger.store` keeps balances.

    hold       available -> held              when a request is admitted, for the most it may cost
    capture    held -> revenue                what it did cost
    release    held -> available              the rest
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from steppe.errors import UsageError
from steppe.ledger.units import amount_text, number_text, quote_unit

BANK, REVENUE, GRANTS, EXPIRED, ISSUED = "bank", "revenue", "grants", "expired", "issued"
"""Accounts of the site: money that came in, what was earned, what was given, tokens that were not
used in time, and token packages that were sold."""


class MovementKind(StrEnum):
    """Why something moves. With the id of what caused it, it names a movement once."""

    DEPOSIT = "deposit"
    WITHDRAWAL = "withdrawal"
    GRANT = "grant"
    HOLD = "hold"
    CAPTURE = "capture"
    RELEASE = "release"
    EXPIRE = "expire"
    PURCHASE = "purchase"
    PACKAGE = "package"
    TRANSFER = "transfer"
    REFUND = "refund"


@dataclass(frozen=True, slots=True)
class Movement:
    """An amount that goes from one account to another.

    Attributes:
        cause: Id of what caused it: a request, a deposit, a transfer.
        kind: Why.
        taken_from: The account that has less afterwards.
        given_to: The account that has more.
        unit: What is moved.
        amount: How much, above 0.
    """

    cause: str
    kind: MovementKind
    taken_from: str
    given_to: str
    unit: str
    amount: int

    def __post_init__(self) -> None:
        """Refuse an amount that is not above 0, and a movement to the same account.

        Raises:
            UsageError: One of these.
        """
        if self.amount <= 0:
            amount = amount_text(self.amount, self.unit)
            raise UsageError(f"{self.kind} {self.cause}: asked to move {amount}")
        if self.taken_from == self.given_to:
            raise UsageError(f"{self.kind} {self.cause}: asked to move to the same account")


@dataclass(frozen=True, slots=True)
class Hold:
    """What is set aside for an open request; it may have several parts.

    Attributes:
        request: Its id.
        tenant: The tenant that pays.
        unit: What is set aside.
        amount: How much.
        expires_us: When it is given back if the request has not ended, us since the Unix epoch.
        part: Number of the part, from 0; the request pays with the first ones first.
        rate: The rate that was fixed, as a receipt names it; empty for none.
        currency: The unit of that rate.
        asked: Digest of the admission, to know it again; empty for none.
    """

    request: str
    tenant: str
    unit: str
    amount: int
    expires_us: int
    part: int = 0
    rate: str = ""
    currency: str = ""
    asked: str = ""

    @property
    def cause(self) -> str:
        """The name of its movements."""
        return cause_of(self.request, self.part)


def cause_of(name: str, part: int) -> str:
    """Return the name of a part of what a request, a correction or another cause moves."""
    return name if part == 0 else f"{name}#{part}"


def available(tenant: str) -> str:
    """Return the account of what a tenant may use."""
    return f"tenant/{tenant}/available"


def held(tenant: str) -> str:
    """Return the account of what is set aside for its open requests."""
    return f"tenant/{tenant}/held"


def deposited(cause: str, tenant: str, unit: str, amount: int) -> Movement:
    """Return the movement of a payment of a tenant."""
    return Movement(cause, MovementKind.DEPOSIT, BANK, available(tenant), unit, amount)


def withdrawn(cause: str, tenant: str, unit: str, amount: int) -> Movement:
    """Return the movement of a payment back to a tenant."""
    return Movement(cause, MovementKind.WITHDRAWAL, available(tenant), BANK, unit, amount)


def granted(cause: str, tenant: str, unit: str, amount: int) -> Movement:
    """Return the movement of a grant to a tenant."""
    return Movement(cause, MovementKind.GRANT, GRANTS, available(tenant), unit, amount)


def held_for(hold: Hold) -> Movement:
    """Return the movement of a hold."""
    tenant = hold.tenant
    return Movement(
        hold.cause, MovementKind.HOLD, available(tenant), held(tenant), hold.unit, hold.amount
    )


def captured(hold: Hold, amount: int) -> list[Movement]:
    """Return the movements at the end of a request: what it cost, and the rest back.

    Args:
        hold: What was set aside.
        amount: What it cost, at most the hold.

    Raises:
        UsageError: It is below 0 or above the hold.
    """
    if not 0 <= amount <= hold.amount:
        found = f"found a hold of {number_text(hold.amount, hold.unit)}"
        asked = f"asked for {amount_text(amount, hold.unit)}"
        raise UsageError(f"capture {hold.cause}: {asked}, {found}")
    cause, own, unit = hold.cause, held(hold.tenant), hold.unit
    moved = []
    if amount:
        moved.append(Movement(cause, MovementKind.CAPTURE, own, REVENUE, unit, amount))
    if rest := hold.amount - amount:
        back = available(hold.tenant)
        moved.append(Movement(cause, MovementKind.RELEASE, own, back, unit, rest))
    return moved


def given_back(hold: Hold, kind: MovementKind = MovementKind.RELEASE) -> Movement:
    """Return the movement of a hold that is not used: `RELEASE`, or `EXPIRE` when it is too old."""
    tenant = hold.tenant
    return Movement(hold.cause, kind, held(tenant), available(tenant), hold.unit, hold.amount)


def package_bought(
    cause: str, tenant: str, price: tuple[str, int], tokens: tuple[str, int]
) -> list[Movement]:
    """Return the movements of a package: money for tokens of a model class.

    Args:
        cause: Id of the purchase.
        tenant: The buyer.
        price: Currency and amount.
        tokens: Unit, such as `tokens:large`, and number.
    """
    own = available(tenant)
    return [
        Movement(cause, MovementKind.PURCHASE, own, REVENUE, *price),
        Movement(cause, MovementKind.PACKAGE, ISSUED, own, *tokens),
    ]


def package_expired(cause: str, account: str, unit: str, amount: int) -> Movement:
    """Return the movement of tokens of an account that were not used in time."""
    return Movement(cause, MovementKind.EXPIRE, account, EXPIRED, unit, amount)


def quote_issued(quote: str, tenant: str, tokens: int) -> Movement:
    """Return the movement of the tokens that a quote offers to a tenant."""
    unit = quote_unit(quote)
    return Movement(unit, MovementKind.PACKAGE, ISSUED, available(tenant), unit, tokens)


def transferred(cause: str, giver: str, taker: str, unit: str, amount: int) -> Movement:
    """Return the movement of what one tenant gives to another."""
    return Movement(cause, MovementKind.TRANSFER, available(giver), available(taker), unit, amount)


def refunded(cause: str, tenant: str, unit: str, amount: int) -> Movement:
    """Return the movement of a refund; the entry that it corrects stays."""
    return Movement(cause, MovementKind.REFUND, REVENUE, available(tenant), unit, amount)


def changes_of(movements: Sequence[Movement]) -> dict[tuple[str, str], int]:
    """Return by how much each account, with its unit, changes."""
    changes: dict[tuple[str, str], int] = {}
    for each in movements:
        for account, amount in ((each.taken_from, -each.amount), (each.given_to, each.amount)):
            key = (account, each.unit)
            changes[key] = changes.get(key, 0) + amount
    return changes

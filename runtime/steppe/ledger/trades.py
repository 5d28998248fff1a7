"""Packages that tenants buy, and what they pass on: entries of the log, with their movements."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from steppe.ledger.entries import Movement, package_bought, transferred
from steppe.ledger.receipt import canonical, checked, read_entry

VERSION = 1
PACKAGE, TRANSFER = "package", "transfer"
"""What the log calls these kinds of entries."""


@dataclass(frozen=True, slots=True)
class Package:
    """Tokens of a model class that a tenant buys.

    Attributes:
        id: Id of the purchase.
        tenant: The buyer.
        unit: What it buys: `tokens:NAME`, or a series of them with a day.
        amount: How many, 10^-9 tokens.
        currency: What it pays with.
        price: How much, 10^-9 of it.
    """

    id: str
    tenant: str
    unit: str
    amount: int
    currency: str
    price: int

    @property
    def entry(self) -> bytes:
        """Its bytes as an entry of the log."""
        return canonical({"kind": PACKAGE, "v": VERSION, **asdict(self)})

    @property
    def movements(self) -> list[Movement]:
        """What it moves: money to the site, and tokens to the tenant."""
        price, tokens = (self.currency, self.price), (self.unit, self.amount)
        return package_bought(self.id, self.tenant, price, tokens)

    @classmethod
    def read(cls, entry: bytes) -> Package:
        """Return the package of an entry.

        Raises:
            UsageError: It is none.
        """
        return cls(**checked(cls, read_entry(entry, PACKAGE, VERSION), PACKAGE))


@dataclass(frozen=True, slots=True)
class Transfer:
    """What one tenant passes on to another.

    Attributes:
        id: Its id.
        giver: The tenant that has less afterwards.
        taker: The tenant that has more.
        unit: What is passed on.
        amount: How much, 10^-9 of the unit.
    """

    id: str
    giver: str
    taker: str
    unit: str
    amount: int

    @property
    def entry(self) -> bytes:
        """Its bytes as an entry of the log."""
        return canonical({"kind": TRANSFER, "v": VERSION, **asdict(self)})

    @property
    def movements(self) -> list[Movement]:
        """What it moves."""
        return [transferred(self.id, self.giver, self.taker, self.unit, self.amount)]

    @classmethod
    def read(cls, entry: bytes) -> Transfer:
        """Return the transfer of an entry.

        Raises:
            UsageError: It is none.
        """
        return cls(**checked(cls, read_entry(entry, TRANSFER, VERSION), TRANSFER))

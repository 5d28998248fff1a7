"""What a request may cost at most, in which unit it is paid, and the answer at its admission.

Pure: `ledger.store.admission` asks the balances. A request is paid in the first unit of which its
tenant has an account with enough: tokens first, then energy, then money.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

import orjson

from steppe.ledger.tariff import Band, NoRateError, Rate, Tariff, divided
from steppe.ledger.units import ENERGY, is_tokens

HELD_UJ_PER_TOKEN = 20_000_000
"""Energy that a hold counts for a token where a rate with joules does not say it, uJ."""
_UJ_PER_J = 1_000_000


@dataclass(frozen=True, slots=True)
class Admission:
    """A request that asks to be served.

    Attributes:
        request: The id that the gateway made for it.
        tenant: The tenant that pays.
        model: The model.
        priority: Its class.
        prompt_tokens: Tokens of its prompt.
        max_tokens: Most tokens that each of its sequences generates.
        band: The green band at this time.
        sequences: Its sequences.
        quote: Id of the quote that it is to be priced by; empty for none.
    """

    request: str
    tenant: str
    model: str
    priority: str
    prompt_tokens: int
    max_tokens: int
    band: Band = "normal"
    sequences: int = 1
    quote: str = ""

    @property
    def digest(self) -> str:
        """A hash of all that it asks for; another admission of the same id has another one."""
        return sha256(orjson.dumps(self)).hexdigest()

    @property
    def most_tokens(self) -> int:
        """Most tokens that it may take, of its prompt and generated."""
        return self.prompt_tokens + self.max_tokens * self.sequences


@dataclass(frozen=True, slots=True)
class Payer:
    """The account that pays for a request.

    Attributes:
        tenant: The tenant.
        currency: The unit, as in a receipt.
    """

    tenant: str
    currency: str


@dataclass(frozen=True, slots=True)
class AdmissionTerms:
    """A request is admitted.

    Attributes:
        rate: The rate that is fixed for it, as a receipt names it: `TARIFF/NUMBER`; empty for none.
        currency: The unit of its price, as in a receipt; empty without a rate.
        held: What is set aside for it.
        free: What its tenant still has of that; None without an account, which has no limit.
    """

    rate: str
    currency: str
    held: int
    free: int | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request is not admitted.

    Attributes:
        code: `no_account`, `insufficient_funds`, `no_rate`, `invalid_quote`, or `conflict`: another
            request had this id.
        message: One line: what was asked for, and what was found.
        free: What the tenant has of the unit in the message; None without an account.
    """

    code: str
    message: str
    free: int | None = None


@dataclass(frozen=True, slots=True)
class AdmissionRules:
    """What the operator has fixed.

    Attributes:
        tariffs: The tariffs, the preferred ones first.
        needs_account: Whether a tenant without any account is refused; else its receipts are
            priced, and nothing is set aside.
        hold_s: How long something is set aside for a request that does not end, s.
    """

    tariffs: tuple[Tariff, ...]
    needs_account: bool = False
    hold_s: int = 3600


@dataclass(frozen=True, slots=True)
class Price:
    """The most that a request may cost by a rate.

    Attributes:
        rate: The rate, as a receipt names it.
        currency: The unit.
        most: The most that it may cost, 10^-9 of the unit.
    """

    rate: str
    currency: str
    most: int


def prices(asked: Admission, tariffs: Sequence[Tariff], now_us: int) -> Iterator[Price]:
    """Return what a request may be paid with, the first choice first.

    Of several tariffs of a currency, the one that holds since the latest time comes first.
    """
    for tariff in _in_order(tariffs, now_us):
        try:
            number = tariff.rate_of(asked.model, asked.priority, asked.band, now_us)
        except NoRateError:
            continue
        most = most_nano(tariff.rates[number], asked)
        yield Price(tariff.name_of(number), tariff.currency, most)


def most_nano(rate: Rate, asked: Admission) -> int:
    """Return the most that a request may cost at a rate, 10^-9 of the unit.

    The joules of a request are not bounded: the rate says how many a hold counts for each token.
    """
    prompt = asked.prompt_tokens * max(rate.prompt_nano, rate.cached_nano)
    output = asked.max_tokens * asked.sequences * rate.output_nano
    energy_uj = asked.most_tokens * (rate.hold_uj_per_token or HELD_UJ_PER_TOKEN)
    return prompt + output + divided(energy_uj * rate.joule_nano, _UJ_PER_J)


def _in_order(tariffs: Sequence[Tariff], now_us: int) -> list[Tariff]:
    """Return the tariffs that hold, in the order in which they are tried."""
    first: dict[str, int] = {}
    for place, tariff in enumerate(tariffs):
        first.setdefault(tariff.currency, place)

    def rank(tariff: Tariff) -> tuple[int, int, int]:
        kind = 0 if is_tokens(tariff.currency) else 1 if tariff.currency == ENERGY else 2
        return kind, first[tariff.currency], -tariff.valid_from_us

    return sorted((each for each in tariffs if each.valid_from_us <= now_us), key=rank)

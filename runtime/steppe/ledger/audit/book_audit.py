"""A reader of the entries of a log, in their order, that checks what each says against the others.

What it checks: each receipt is there once, its numbers go up without a gap, and its price is that
of a tariff that was logged before it; a correction is of a receipt of the same tenant, and gives
back no more than it took; each period adds up to its meters, follows the hour before, and holds all
receipts of its hour.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import orjson

from steppe.errors import UsageError
from steppe.ledger.audit.energy import EnergySums
from steppe.ledger.green.certificates import KIND as CERTIFICATE
from steppe.ledger.green.certificates import Certificate
from steppe.ledger.green.match import KIND as MATCH
from steppe.ledger.green.match import Match
from steppe.ledger.periods.checking import check_after, check_receipts, check_sums
from steppe.ledger.periods.period import KIND as PERIOD
from steppe.ledger.periods.period import Period, PeriodError
from steppe.ledger.receipt import KIND as RECEIPT
from steppe.ledger.receipt import Receipt
from steppe.ledger.tariff import KIND as TARIFF
from steppe.ledger.tariff import NoRateError, Tariff

FAILED = "failed"
"""How a request ended that failed through no fault of its tenant."""
_COUNTED = ("prompt_tokens", "cached_tokens", "output_tokens", "energy_uj", "amount_nano")
_Hour = tuple[str, str, int]


class AuditError(UsageError):
    """An entry says something that does not hold."""


@dataclass(slots=True)
class Open:
    """The receipts of an hour that has no period yet.

    Attributes:
        receipts: Its receipts, and the corrections that were written in it.
    """

    receipts: list[Receipt] = field(default_factory=list)

    @property
    def receipts_uj(self) -> int:
        """Energy of its receipts, uJ."""
        return sum(one.energy_uj for one in self.receipts if not one.corrects)

    @property
    def corrections_uj(self) -> int:
        """The sum of the differences of its corrections, uJ."""
        return sum(one.energy_uj for one in self.receipts if one.corrects)


class BookAudit:
    """Takes the entries one by one; keeps the receipts of hours that are not closed.

    Attributes:
        faults: What does not hold, a line each.
        kinds: How many entries there are of each kind.
        energy: The sums of closed hours, by site and boundary.
        amounts: The sum of all receipts in each currency, 10^-9 of it.
        prices: The price of each receipt with its corrections, by id, 10^-9 of its currency.
        open: The receipts of hours that are not closed, by site, boundary and hour.
        matches: What of the hours was matched to renewable generation.
        certificates: The certificates that they use, by id.
    """

    def __init__(self, entry_at: Callable[[int], bytes]) -> None:
        """Begin before the first entry.

        Args:
            entry_at: Returns an earlier entry by its place.
        """
        self.faults: list[str] = []
        self.kinds: Counter[str] = Counter()
        self.energy: dict[tuple[str, str], EnergySums] = {}
        self.amounts: Counter[str] = Counter()
        self.prices: dict[str, int] = {}
        self.open: dict[_Hour, Open] = {}
        self.matches: list[Match] = []
        self.certificates: dict[str, Certificate] = {}
        self._entry_at = entry_at
        self._tariffs: dict[str, Tariff] = {}
        self._places: dict[str, int] = {}
        self._numbers: dict[str, int] = {}
        self._given: dict[str, Counter[str]] = {}
        self._last: dict[tuple[str, str], Period] = {}

    def take(self, place: int, entry: bytes) -> None:
        """Check the entry at the next place; what does not hold is added to `faults`."""
        try:
            self._take(place, entry)
        except UsageError as error:
            self.faults.append(f"entry {place}: {error}")

    def _take(self, place: int, entry: bytes) -> None:
        kind = kind_of(entry)
        self.kinds[kind] += 1
        if kind == RECEIPT:
            self._take_receipt(place, Receipt.read(entry))
        elif kind == TARIFF:
            self._take_tariff(Tariff.read(entry))
        elif kind == PERIOD:
            self._take_period(Period.read(entry))
        elif kind == MATCH:
            self.matches.append(Match.read(entry))
        elif kind == CERTIFICATE:
            certificate = Certificate.read(entry)
            self.certificates[certificate.id] = certificate

    def _take_tariff(self, tariff: Tariff) -> None:
        if tariff.id in self._tariffs:
            raise AuditError(f"tariff {tariff.id}: asked for it once, found it twice")
        self._tariffs[tariff.id] = tariff

    def _take_receipt(self, place: int, receipt: Receipt) -> None:
        """Keep a receipt for the book of its hour, whatever else is wrong with it."""
        where = (receipt.site, receipt.boundary, receipt.hour)
        last = self._last.get(where[:2])
        number = self._numbers.get(receipt.site, receipt.seq - 1) + 1
        self._numbers[receipt.site] = receipt.seq
        self.amounts[receipt.currency] += receipt.amount_nano
        self.open.setdefault(where, Open()).receipts.append(receipt)
        if receipt.id in self._places:
            raise _wrong(receipt, "asked for it once, found it twice")
        self._places[receipt.id] = place
        priced = receipt.corrects or receipt.id
        self.prices[priced] = self.prices.get(priced, 0) + receipt.amount_nano
        if receipt.seq != number:
            raise _wrong(receipt, f"asked for number {number}, found {receipt.seq}")
        if last is not None and receipt.hour <= last.hour:
            del self.open[where]
            raise _wrong(receipt, f"its hour {receipt.hour} was closed before, at {last.hour}")
        if receipt.corrects:
            self._check_correction(receipt)
            return
        _check_counts(receipt)
        self._check_price(receipt)

    def _check_price(self, receipt: Receipt) -> None:
        if not receipt.tariff:
            if receipt.amount_nano:
                raise _wrong(
                    receipt, f"asked for no price without a tariff, found {_price(receipt)}"
                )
            return
        tariff = self._tariffs.get(receipt.tariff.rpartition("/")[0])
        if tariff is None:
            raise _wrong(receipt, f"found no tariff for {receipt.tariff} before it")
        try:
            price = tariff.price_nano(receipt)
        except NoRateError as error:
            raise _wrong(receipt, str(error)) from error
        if (price, tariff.currency) != (receipt.amount_nano, receipt.currency):
            asked = f"asked for {price} x 10^-9 {tariff.currency} by its tariff"
            raise _wrong(receipt, f"price: {asked}, found {_price(receipt)}")

    def _check_correction(self, receipt: Receipt) -> None:
        place = self._places.get(receipt.corrects)
        if place is None:
            raise _wrong(
                receipt, f"it corrects {receipt.corrects}, found no such receipt before it"
            )
        corrected = Receipt.read(self._entry_at(place))
        if corrected.corrects:
            raise _wrong(receipt, f"it corrects {corrected.id}, which is a correction itself")
        for name in ("tenant", "model", "tariff", "currency", "boundary"):
            asked, found = getattr(corrected, name), getattr(receipt, name)
            if asked != found:
                raise _wrong(receipt, f"{name}: asked for {asked}, found {found}")
        given = self._given.setdefault(corrected.id, Counter())
        for name in _COUNTED:
            given[name] += getattr(receipt, name)
            left = getattr(corrected, name) + given[name]
            if left < 0:
                raise _wrong(receipt, f"{name}: {corrected.id} would be left with {left}")

    def _take_period(self, period: Period) -> None:
        key = (period.site, period.boundary)
        before, self._last[key] = self._last.get(key), period
        hour = self.open.pop((*key, period.hour), Open())
        sums = self.energy.setdefault(key, EnergySums(*key))
        self.energy[key] = sums.plus_period(period)
        check_sums(period)
        check_after(period, before)
        check_receipts(period, hour.receipts)
        if self.energy[key].unclaimed_uj < 0:
            found = f"found {-self.energy[key].unclaimed_uj} uJ too much"
            raise PeriodError(f"period {period.id}: corrections give out energy, {found}")


def kind_of(entry: bytes) -> str:
    """Return the kind of an entry.

    Raises:
        UsageError: It names none.
    """
    try:
        values = orjson.loads(entry)
    except orjson.JSONDecodeError as error:
        raise AuditError(f"asked for JSON, found {error}") from error
    kind = values.get("kind") if isinstance(values, dict) else None
    if not isinstance(kind, str):
        raise AuditError(f"asked for an entry with a kind, found {entry[:60]!r}")
    return kind


def _check_counts(receipt: Receipt) -> None:
    for name in (*_COUNTED, "idle_uj", "green_uj"):
        if (value := getattr(receipt, name)) < 0:
            raise _wrong(receipt, f"{name}: asked for at least 0, found {value}")
    if receipt.cached_tokens > receipt.prompt_tokens:
        asked = f"asked for at most {receipt.prompt_tokens} cached tokens"
        raise _wrong(receipt, f"{asked}, found {receipt.cached_tokens}")
    if receipt.ended_us < receipt.started_us:
        raise _wrong(receipt, "it ended before it began")
    billed = (receipt.output_tokens, receipt.energy_uj, receipt.amount_nano)
    if receipt.finish == FAILED and any(billed):
        raise _wrong(receipt, f"asked for nothing of a failed request, found {billed}")


def _wrong(receipt: Receipt, said: str) -> AuditError:
    return AuditError(f"receipt {receipt.id}: {said}")


def _price(receipt: Receipt) -> str:
    return f"{receipt.amount_nano} x 10^-9 {receipt.currency or 'of no currency'}"

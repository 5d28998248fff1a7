"""A signed offer: tokens of a model and class, in a window, at a rate that is fixed now.

A quote names a rate of a logged tariff, so a request under it costs what that rate says, whatever
holds at its time; its receipt names the same rate and is checked as any other. The signed offer is
a note (`c2sp.org/signed-note`) of which the text is the entry of the quote in one line.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from steppe.errors import UsageError
from steppe.ledger.receipt import Receipt, canonical, checked, read_entry
from steppe.ledger.signing import Note, PrivateKey, PublicKey, sign_note
from steppe.ledger.tariff import Band, Tariff

VERSION = 1
KIND = "quote"
"""What the log calls this kind of entry."""


class QuoteError(UsageError):
    """A quote does not hold for a request."""


@dataclass(frozen=True, slots=True)
class Quote:
    """An offer to a tenant.

    Attributes:
        id: Its name, unique at a site.
        tenant: The tenant.
        model: The model.
        priority: The class: `interactive`, `standard` or `deferrable`.
        tokens: Most tokens of all requests under it, of prompts and generated.
        from_us: Time from which requests are admitted under it, us since the Unix epoch.
        until_us: Time at which that ends.
        tariff: The rate, as a receipt names it: `TARIFF/NUMBER`.
        currency: Unit of its prices, as in the tariff.
    """

    id: str
    tenant: str
    model: str
    priority: str
    tokens: int
    from_us: int
    until_us: int
    tariff: str
    currency: str

    @property
    def entry(self) -> bytes:
        """Its bytes as an entry of the log."""
        return canonical({"kind": KIND, "v": VERSION, **asdict(self)})

    def check_use(
        self, model: str, priority: str, tokens: int, used_tokens: int, time_us: int
    ) -> None:
        """Check that a request may be admitted under the quote.

        Args:
            model: The model that it asks for.
            priority: Its class.
            tokens: The most that it may take: those of its prompt and those it may generate.
            used_tokens: What all other requests under the quote took, or still may.
            time_us: When it arrived, us since the Unix epoch.

        Raises:
            QuoteError: It is for another model or class, at another time, or asks for too much.
        """
        self._equal("model", self.model, model)
        self._equal("class", self.priority, priority)
        if time_us < self.from_us:
            raise QuoteError(f"quote {self.id}: asked at {time_us}, it begins at {self.from_us}")
        if time_us >= self.until_us:
            raise QuoteError(f"quote {self.id}: asked at {time_us}, it expired at {self.until_us}")
        if used_tokens + tokens > self.tokens:
            found = f"found {max(0, self.tokens - used_tokens)} of {self.tokens} left"
            raise QuoteError(f"quote {self.id}: asked for {tokens} tokens, {found}")

    def price_nano(self, receipt: Receipt, tariff: Tariff, used_tokens: int) -> int:
        """Return the price of a receipt under the quote, 10^-9 of its currency.

        Args:
            receipt: The receipt; a correction is priced as what it corrects.
            tariff: The tariff that the quote names.
            used_tokens: What all other receipts under the quote took.

        Raises:
            QuoteError: The quote does not hold for this receipt.
            NoRateError: The tariff has no such rate.
        """
        self._equal("tenant", self.tenant, receipt.tenant)
        self._equal("rate", self.tariff, receipt.tariff)
        self._equal("currency", self.currency, tariff.currency)
        tokens = receipt.prompt_tokens + receipt.output_tokens
        self.check_use(receipt.model, receipt.priority, tokens, used_tokens, receipt.started_us)
        return tariff.price_nano(receipt)

    def signed(self, keys: Iterable[PrivateKey]) -> Note:
        """Return the offer as a signed note."""
        return sign_note(self.entry.decode() + "\n", keys)

    @classmethod
    def read(cls, entry: bytes) -> Quote:
        """Return the quote of an entry.

        Raises:
            UsageError: It is none.
        """
        return _in_range(cls(**checked(cls, read_entry(entry, KIND, VERSION), KIND)))

    @classmethod
    def of_note(cls, note: str, keys: Sequence[PublicKey]) -> Quote:
        """Return the quote of a signed offer.

        Args:
            note: The note.
            keys: Keys of the operator; one of them has signed.

        Raises:
            SignatureError: None of the keys has signed it, or it was changed.
            UsageError: What was signed is no quote.
        """
        signed = Note.read(note)
        signed.check(keys)
        return cls.read(signed.text[:-1].encode())

    def _equal(self, what: str, own: str, asked: str) -> None:
        if own != asked:
            raise QuoteError(f"quote {self.id}: asked for {what} {asked or 'none'}, found {own}")


@dataclass(frozen=True, slots=True)
class QuoteRequest:
    """What a tenant asks an offer for; the fields are those of a quote."""

    id: str
    tenant: str
    model: str
    priority: str
    tokens: int
    from_us: int
    until_us: int


def quoted(request: QuoteRequest, tariff: Tariff, band: Band) -> Quote:
    """Return the offer at the rate that a tariff has at the start of the window.

    Args:
        request: What is asked for.
        tariff: The tariff.
        band: The green band of the rate.

    Raises:
        NoRateError: The tariff has no such rate.
        UsageError: The window is empty or begins before the tariff, or no token is asked for.
    """
    if request.from_us < tariff.valid_from_us:
        asked = f"asked for a window from {request.from_us}"
        raise UsageError(f"quote: {asked}, found tariff {tariff.id} from {tariff.valid_from_us}")
    rate = tariff.rate_of(request.model, request.priority, band, request.from_us)
    return _in_range(
        Quote(**asdict(request), tariff=tariff.name_of(rate), currency=tariff.currency)
    )


def _in_range(quote: Quote) -> Quote:
    if quote.tokens < 1:
        raise UsageError(f"quote {quote.id}: asked for at least 1 token, found {quote.tokens}")
    if not 0 <= quote.from_us < quote.until_us:
        found = f"found {quote.from_us} to {quote.until_us}"
        raise UsageError(f"quote {quote.id}: asked for a window, {found}")
    return quote

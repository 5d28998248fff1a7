"""What a target answers about a period: its settlement, and the receipts behind it with proofs.

It is JSON, a page of at most `MOST_ROWS` receipts at a time. All of it is checked before any of it
is used: the head is signed and contains each receipt, the log still begins with what it contained
before, and the receipts add up to the settlement.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from steppe.errors import SteppeError, UsageError
from steppe.ledger.log.checkpoint import Checkpoint, ProofError, hash_of, open_checkpoint
from steppe.ledger.receipt import Receipt
from steppe.ledger.settlement import Owed, Settlement, settlement_of
from steppe.ledger.signing import Note, PublicKey, SignatureError
from steppe.ledger.tree import check_consistency, check_inclusion, leaf_hash
from steppe.sites.beats.fields import Fields, SiteMessageError
from steppe.sites.peer import SITE_TENANT
from steppe.sites.settlement.compare import LoggedReceipt
from steppe.sites.trust.token import TokenError, signed_token

MOST_ROWS = 500
"""Most receipts of a page."""
PAGE_BYTES = 8 << 20
"""Longest page, bytes."""
_ENTRY_CHARS, _NOTE_CHARS = 1 << 16, 1 << 14
_KEYS, _STEPS, _MOST = 8, 64, (1 << 62)


class BadAnswerError(SteppeError):
    """What a target answered does not hold: none of it is used."""


@dataclass(frozen=True, slots=True)
class Row:
    """A receipt and the proof that the log contains it.

    Attributes:
        place: Its place in the log.
        entry: Its bytes.
        path: Hashes from its leaf to the root.
        token: The token of its request; empty if the target has none.
    """

    place: int
    entry: bytes
    path: tuple[bytes, ...]
    token: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """A page of an answer.

    Attributes:
        settlement: What the target says of the whole period.
        log: Name of its log.
        keys: Its public keys, a line each.
        checkpoint: The signed head that the proofs lead to; empty if the log has no entry.
        consistency: The proof that the log begins with what the home has of it.
        rows: Receipts, by place.
        has_more: Whether there are others after them.
    """

    settlement: Settlement
    log: str
    keys: str
    checkpoint: str
    consistency: tuple[bytes, ...] = ()
    rows: tuple[Row, ...] = ()
    has_more: bool = False


@dataclass(frozen=True, slots=True)
class AskedPeriod:
    """What a home has asked for, and what it knows.

    Attributes:
        home: The home.
        target: The target.
        period: Number of the period.
        length_s: Length of the period, s.
        keys: Keys of the target's log; empty if none is known yet.
        before: The last signed head of it; empty for none.
        token_keys: Keys of the home's own tokens.
    """

    home: str
    target: str
    period: int
    length_s: int
    keys: tuple[PublicKey, ...] = ()
    before: str = ""
    token_keys: tuple[PublicKey, ...] = ()


def write_page(page: Page) -> bytes:
    """Return a page as JSON."""
    return orjson.dumps(
        {
            "object": "steppe.sites.receipts",
            "settlement": page.settlement.entry.decode(),
            "log": page.log,
            "keys": page.keys,
            "checkpoint": page.checkpoint,
            "consistency": [_coded(step) for step in page.consistency],
            "rows": [
                {
                    "place": row.place,
                    "entry": row.entry.decode(),
                    "path": [_coded(step) for step in row.path],
                    "token": row.token,
                }
                for row in page.rows
            ],
            "has_more": page.has_more,
        }
    )


def read_page(body: bytes) -> Page:
    """Return the page of a body; nothing of it is checked yet but its form.

    Raises:
        BadAnswerError: It is none.
    """
    try:
        fields = Fields.of(orjson.loads(body), "receipts")
        rows = [Fields.of(item, "receipts.rows") for item in fields.items("rows", MOST_ROWS)]
        return Page(
            Settlement.read(fields.text("settlement", _ENTRY_CHARS).encode()),
            fields.text("log", 255),
            _lines(fields, "keys"),
            _lines(fields, "checkpoint"),
            _steps(fields, "consistency"),
            tuple(
                Row(
                    row.integer("place", 0, _MOST),
                    row.text("entry", _ENTRY_CHARS).encode(),
                    _steps(row, "path"),
                    _lines(row, "token"),
                )
                for row in rows
            ),
            fields.values.get("has_more") is True,
        )
    except (orjson.JSONDecodeError, SiteMessageError, ProofError, UsageError) as error:
        raise BadAnswerError(str(error)) from error


def check_page(page: Page, asked: AskedPeriod, *, is_first: bool) -> list[LoggedReceipt]:
    """Return the receipts of a page after all checks but their sums.

    Args:
        page: The page.
        asked: What was asked for.
        is_first: Whether it is the first one: it shows that the log has grown from `asked.before`.

    Raises:
        BadAnswerError: Something of it does not hold.
    """
    _check_settlement(page.settlement, asked)
    if page.settlement.log != page.log:
        found = f"found {page.log}"
        raise BadAnswerError(f"receipts: asked for the log {page.settlement.log}, {found}")
    try:
        head = _checked_head(page, asked, is_first=is_first)
        claims, last = [], page.settlement.first - 1
        for row in page.rows:
            if not last < row.place < page.settlement.until or head is None:
                raise BadAnswerError(f"receipts: found place {row.place} out of its range")
            check_inclusion(leaf_hash(row.entry), row.place, head.head, row.path)
            claims.append(_claim(row, asked))
            last = row.place
    except (ProofError, SignatureError, UsageError) as error:
        raise BadAnswerError(f"receipts: {error}") from error
    return claims


def check_sums(settlement: Settlement, claims: Sequence[LoggedReceipt]) -> None:
    """Check that receipts are those of a settlement, all of them.

    What is owed is the home's to compute.

    Raises:
        BadAnswerError: They are not.
    """
    owed = [Owed(claim.receipt, claim.entry, 0) for claim in claims]
    found = settlement_of(settlement, owed)
    for name in ("receipts", "prompt_tokens", "output_tokens", "energy_uj", "digest"):
        said, is_ = getattr(settlement, name), getattr(found, name)
        if said != is_:
            asked = f"asked for {is_}, the sum of its receipts"
            raise BadAnswerError(f"settlement.{name}: {asked}, found {said}")


def keys_of(text: str) -> tuple[PublicKey, ...]:
    """Return the keys of lines.

    Raises:
        UsageError: A line is none.
    """
    return tuple(PublicKey.read(line) for line in text.splitlines()[:_KEYS] if line)


def signing_keys(page: Page) -> str:
    """Return those keys of a page that have signed its head, a line each; empty without entries.

    Raises:
        BadAnswerError: A line is no key, or the head no note.
    """
    if not page.checkpoint:
        return ""
    try:
        note = Note.read(page.checkpoint)
        signed = [
            key
            for key in keys_of(page.keys)
            if (found := note.of(key)) and key.is_valid(found.blob, note.text.encode())
        ]
    except (SignatureError, UsageError) as error:
        raise BadAnswerError(f"receipts: {error}") from error
    return "".join(f"{key.text}\n" for key in signed)


def _check_settlement(found: Settlement, asked: AskedPeriod) -> None:
    for name in ("home", "target", "period", "length_s"):
        want, is_ = getattr(asked, name), getattr(found, name)
        if want != is_:
            raise BadAnswerError(f"settlement.{name}: asked for {want}, found {is_}")


def _checked_head(page: Page, asked: AskedPeriod, *, is_first: bool) -> Checkpoint | None:
    """Return the head of a page, which a known key has signed; None without entries.

    Without a known key the given ones are used: who gives them is known by its certificate.
    """
    keys = asked.keys or keys_of(page.keys)
    if not page.checkpoint:
        return None
    checkpoint = open_checkpoint(page.checkpoint, page.log, keys)
    if is_first and asked.before:
        before = open_checkpoint(asked.before, page.log, keys)
        check_consistency(before.head, checkpoint.head, page.consistency)
    return checkpoint


def _claim(row: Row, asked: AskedPeriod) -> LoggedReceipt:
    """Return the receipt of a row.

    Raises:
        BadAnswerError: It is of another tenant or site.
        UsageError: It is no receipt.
    """
    receipt = Receipt.read(row.entry)
    for name, want in (("tenant", f"{SITE_TENANT}{asked.home}"), ("site", asked.target)):
        if (found := getattr(receipt, name)) != want:
            raise BadAnswerError(f"receipt {receipt.id}: asked for {name} {want}, found {found}")
    if not row.token:
        return LoggedReceipt(receipt, row.entry)
    try:
        token = signed_token(row.token, asked.token_keys)
    except TokenError:
        return LoggedReceipt(receipt, row.entry)  # another one's, or forged: it shows nothing
    is_of = (token.home, token.target, token.request)
    is_ours = is_of == (asked.home, asked.target, receipt.request)
    return LoggedReceipt(receipt, row.entry, token if is_ours else None)


def _lines(fields: Fields, name: str) -> str:
    """Return a text that may be empty and may have several lines."""
    found: Any = fields.values.get(name)
    if not isinstance(found, str) or len(found) > _NOTE_CHARS:
        asked = f"asked for a text of at most {_NOTE_CHARS} characters"
        raise SiteMessageError(f"{fields.where}.{name}: {asked}, found {found!r:.60}")
    return found


def _steps(fields: Fields, name: str) -> tuple[bytes, ...]:
    steps = fields.items(name, 2 * _STEPS)
    return tuple(hash_of(str(step), f"{fields.where}.{name}") for step in steps)


def _coded(step: bytes) -> str:
    return base64.b64encode(step).decode()

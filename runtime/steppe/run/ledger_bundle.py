"""The files with which a customer checks a bill: receipts, proofs, tariffs, hours, and a verifier.

statement.html  focus.csv         the statement, for people and for programs
receipts/DAY/ID.json .proof       each receipt, and the proof that the log contains it
receipts/DAY/ID.shares       its shares of the hour's idle and green energy, with proofs
tariffs/ID.json .proof            the tariffs that the receipts name
hours/HOUR.json .proof            the books of the hours
checkpoint  key                   the signed head of the log, and the public key that signs it
verify_receipt.py  README.md      the verifier, and how to use it
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from steppe.disk import disk_errors
from steppe.errors import UsageError
from steppe.ledger.log.checkpoint import Checkpoint, open_checkpoint
from steppe.ledger.log.log import LogReader
from steppe.ledger.signing import Note
from steppe.ledger.statements.focus import focus_csv
from steppe.ledger.statements.month import Month
from steppe.ledger.statements.page import page_html
from steppe.ledger.statements.statement import Statement
from steppe.ledger.store.ledger_store import LedgerStore
from steppe.ledger.tariff import KIND as TARIFF
from steppe.ledger.tree import check_inclusion, leaf_hash
from steppe.ledger.verifier import verify_receipt
from steppe.run.ledger import Trust
from steppe.run.ledger_folder import LedgerFolder
from steppe.run.ledger_statement import MonthBooks

_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
README = """# How to check this bill

You need Python 3.9 or newer and the package `cryptography`; no network, and no other software of
the operator. `key` is the public key of the operator's log: compare it with the one that you were
given before.

    python verify_receipt.py receipts/DAY/ID.json receipts/DAY/ID.proof --key "$(cat key)" \\
        --tariff tariffs/TARIFF.json --tariff-proof tariffs/TARIFF.proof

Exit code 0: the signed log contains the receipt, and its price is that of the tariff. `TARIFF` is
what stands before the `/` in the receipt's field `tariff`. The lines of `focus.csv` add up to the
receipts. Keep `checkpoint`: with it, the next bundle proves that nothing was changed since.
"""


@dataclass(frozen=True, slots=True)
class BundleOrder:
    """What kind of bundle is wanted.

    Attributes:
        to: A new folder.
        issuer: Name of the operator that bills.
        older: File of a head that the tenant has kept; None for none.
    """

    to: Path
    issuer: str
    older: Path | None = None


@dataclass(frozen=True, slots=True)
class WrittenBundle:
    """What was written.

    Attributes:
        files: Number of files.
        unproven: Number of receipts that the signed log does not contain yet.
        checkpoint: The head that the proofs lead to; None without a log.
    """

    files: int
    unproven: int
    checkpoint: Checkpoint | None


class Bundle:
    """Writes the files of a bundle."""

    def __init__(self, folder: Path, reader: LogReader | None) -> None:
        """Write to a folder that is new or empty.

        Raises:
            UsageError: There is something in it.
        """
        with disk_errors(folder):
            if folder.exists() and any(folder.iterdir()):
                raise UsageError(f"{folder}: asked for a new folder, found files in it")
        self.files = 0
        self._folder, self._reader = folder, reader
        self._note = "" if reader is None else reader.note()
        self.checkpoint = Checkpoint.read(Note.read(self._note).text) if self._note else None

    def write(self, name: str, content: str | bytes) -> None:
        """Write a file.

        Raises:
            UsageError: It cannot be written.
        """
        path = self._folder / name
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        self.files += 1

    def write_entry(self, name: str, place: int, entry: bytes) -> bool:
        """Write an entry and its proof; return whether the log contains it.

        Raises:
            ProofError: The log has another entry at its place.
        """
        self.write(f"{name}.json", entry)
        head = None if self.checkpoint is None else self.checkpoint.head
        if self._reader is None or head is None or place >= head.size:
            return False
        proof = self._reader.proof(place, self._note)
        check_inclusion(leaf_hash(entry), place, head, proof.path)
        self.write(f"{name}.proof", proof.text)
        return True

    def write_head(self, trust: Trust, older: Path | None) -> None:
        """Write the head, the first known key that signed it, and that it grew from an older head.

        Raises:
            ProofError: The older head is that of another log, or a longer one.
            SignatureError: No known key has signed a head.
        """
        if self._reader is None or self.checkpoint is None:
            return
        self.write("checkpoint", self._note)
        self.write("key", f"{Note.read(self._note).check(trust.keys).text}\n")
        if older is not None:
            with disk_errors(older):
                text = older.read_text()
            old = open_checkpoint(text, trust.log, trust.keys).head.size
            path = self._reader.consistency(old, self.checkpoint.head.size)
            lines = [base64.b64encode(step).decode() + "\n" for step in path]
            self.write("older.checkpoint", text)
            self.write("consistency.txt", "".join(lines))


def write_bundle(
    ledger: LedgerFolder,
    store: LedgerStore,
    books: MonthBooks,
    order: BundleOrder,
    on_receipts: Callable[[int, int], None],
) -> WrittenBundle:
    """Write the bundle of a tenant's month.

    Args:
        ledger: The ledger.
        store: Its store.
        books: What it says of the month.
        order: What is wanted.
        on_receipts: Called with the receipts written so far, and all of them.

    Raises:
        ProofError: The log does not contain what the store has.
        UsageError: A file cannot be written.
    """
    bundle = Bundle(order.to, None if ledger.trust is None else ledger.reader())
    for statement in books.statements:
        unit = _unit_of(statement) if len(books.statements) > 1 else ""
        first = statement is books.statements[0]
        elsewhere = books.elsewhere if first else ()
        page = page_html(statement, order.issuer, books.open_hours, elsewhere)
        bundle.write(f"statement{unit}.html", page)
        bundle.write(f"focus{unit}.csv", focus_csv(statement, order.issuer))
    _write_tariffs(bundle, store, books)
    unproven = _write_receipts(bundle, books, on_receipts)
    if ledger.trust is not None:
        bundle.write_head(ledger.trust, order.older)
    bundle.write("verify_receipt.py", Path(verify_receipt.__file__).read_bytes())
    bundle.write("README.md", README)
    return WrittenBundle(bundle.files, unproven, bundle.checkpoint)


def _write_receipts(
    bundle: Bundle, books: MonthBooks, on_receipts: Callable[[int, int], None]
) -> int:
    """Write hours and receipts; return how many receipts the log does not contain."""
    month, unproven = books.statements[0].month, 0
    for place, period in books.periods:
        name = f"{_hour_text(period.hour, month)}-{_plain(period.boundary, place)}"
        bundle.write_entry(f"hours/{name}", place, period.entry)
    for place, match in books.matches:
        name = f"{_hour_text(match.hour, month)}-{match.number}"
        bundle.write_entry(f"green/{name}", place, match.entry)
    for number, (place, receipt) in enumerate(books.receipts):
        day = f"{month.local(receipt.hour):%Y-%m-%d}"
        name = f"receipts/{day}/{_plain(receipt.id, place)}"
        unproven += not bundle.write_entry(name, place, receipt.entry)
        if receipt.id in books.shares:
            bundle.write(f"{name}.shares", books.shares[receipt.id].json)
        on_receipts(number + 1, len(books.receipts))
    return unproven


def _write_tariffs(bundle: Bundle, store: LedgerStore, books: MonthBooks) -> None:
    ids = sorted({one.tariff.rpartition("/")[0] for _, one in books.receipts if one.tariff})
    for id_ in ids:
        found = store.find(TARIFF, "", id_)
        if found is None:
            raise UsageError(f"statement: asked for the tariff {id_}, found none in the store")
        bundle.write_entry(f"tariffs/{_plain(id_, found[0])}", *found)


def _unit_of(statement: Statement) -> str:
    return "-" + re.sub(r"[^A-Za-z0-9.-]", "_", statement.currency)


def _hour_text(hour: int, month: Month) -> str:
    return f"{month.local(hour):%Y-%m-%dT%H}"


def _plain(id_: str, place: int) -> str:
    """Return an id as the name of a file; its place in the log where it cannot be one."""
    return id_ if _PLAIN.fullmatch(id_) else f"entry-{place}"

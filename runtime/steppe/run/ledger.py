"""Keys of a log, and checks of receipts, proofs and whole logs, for the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from steppe.disk import disk_errors
from steppe.errors import UsageError
from steppe.ledger.log.audit import check_log
from steppe.ledger.log.checkpoint import Checkpoint, Proof
from steppe.ledger.log.log import LogReader
from steppe.ledger.log.witness import check_cosignatures
from steppe.ledger.receipt import Receipt
from steppe.ledger.signing import COSIGNATURE, ED25519, PrivateKey, PublicKey, SignatureError
from steppe.ledger.tariff import NoRateError, Tariff
from steppe.ledger.tree import ProofError

SAID_EVERY_S = 5.0
"""Time between two lines about a check that takes long, s."""
_KIND = re.compile(r"[a-z]{1,32}")


@dataclass(frozen=True, slots=True)
class Trust:
    """What a reader knows of a log without asking its operator.

    Attributes:
        log: Name of the log.
        keys: Keys that may have signed it.
        witnesses: Keys of witnesses.
        least: Number of these that must have signed a checkpoint.
    """

    log: str
    keys: tuple[PublicKey, ...]
    witnesses: tuple[PublicKey, ...] = ()
    least: int = 0


@dataclass(frozen=True, slots=True)
class Verified:
    """What was shown of a receipt.

    Attributes:
        checkpoint: The head that contains it.
        index: Its place in the log.
        receipt: The receipt.
        witnesses: Names of the witnesses that have signed the head.
        has_price: Whether its price was computed from a logged tariff, too.
    """

    checkpoint: Checkpoint
    index: int
    receipt: Receipt
    witnesses: tuple[str, ...]
    has_price: bool


@dataclass(frozen=True, slots=True)
class Logged:
    """The files of an entry and of its proof."""

    entry: Path
    proof: Path


def new_key(path: Path, name: str, is_witness: bool) -> PublicKey:
    """Write a new private key to a file; return the public key.

    Raises:
        UsageError: The file exists or cannot be written, or the name is none of a key.
    """
    key = PrivateKey.new(name, COSIGNATURE if is_witness else ED25519)
    key.write(path)
    return key.public


def public_key(path: Path) -> PublicKey:
    """Return the public key of the file of a private key.

    Raises:
        UsageError: It cannot be read, others may read it, or it holds no key.
    """
    return PrivateKey.read(path).public


def trust_of(
    keys: Sequence[str], log: str | None, witnesses: Sequence[str] = (), least: int | None = None
) -> Trust:
    """Return what the options of a command name.

    Args:
        keys: Public keys, or files of them.
        log: Name of the log; that of the first key without it.
        witnesses: Public keys of witnesses, or files of them.
        least: Number of witnesses that must have signed; all of them without it.

    Raises:
        UsageError: A key is none, or a file cannot be read.
    """
    known, seen = keys_of(keys), keys_of(witnesses)
    for key in known:
        if key.algorithm != ED25519:
            raise UsageError(f"--key {key.name}: asked for the key of a log, found a witness's")
    if least is not None and least > len(seen):
        raise UsageError(f"--least: asked for {least} witnesses, found the keys of {len(seen)}")
    return Trust(log or known[0].name, known, seen, len(seen) if least is None else least)


def verify(receipt: Path, proof: Path, trust: Trust, tariff: tuple[Path, Path] | None) -> Verified:
    """Check that a log contains a receipt, and that its price is that of a logged tariff.

    Args:
        receipt: File of the receipt.
        proof: File of its proof.
        trust: The keys.
        tariff: Files of the tariff and of its proof; without them no price is computed.

    Raises:
        ProofError: It does not hold; the line says what.
        SignatureError: No known key has signed a checkpoint, or too few witnesses.
        UsageError: A file cannot be read, or is no receipt or tariff.
    """
    entry = _bytes(receipt)
    checkpoint, index, witnesses = _checked(entry, proof, trust)
    with _named(receipt):
        read = Receipt.read(entry)
    if tariff is not None:
        table = _bytes(tariff[0])
        _checked(table, tariff[1], trust)
        with _named(tariff[0]):
            _check_price(read, Tariff.read(table))
    return Verified(checkpoint, index, read, witnesses, tariff is not None)


def write_proof(folder: Path, index: int, trust: Trust, to: Path) -> Logged:
    """Write an entry of a log and its proof to files, after a check of both.

    Args:
        folder: Folder of the log.
        index: Place of the entry, from 0.
        trust: The keys.
        to: Folder of the files; it is made.

    Raises:
        ProofError: The log does not contain what it should.
        SignatureError: No known key has signed its checkpoint.
        UsageError: There is no such log or entry, or a file cannot be read or written.
    """
    entry, proof = checked_entry(folder, index, trust)
    name = name_of(entry, index)
    files = Logged(to / f"{name}.json", to / f"{name}.proof")
    for path, blob in ((files.entry, entry), (files.proof, proof.text.encode())):
        with disk_errors(path):
            to.mkdir(parents=True, exist_ok=True)
            path.write_bytes(blob)
    return files


def checked_entry(folder: Path, index: int, trust: Trust) -> tuple[bytes, Proof]:
    """Return an entry of a log and its proof, after a check of both.

    Raises:
        ProofError: The log does not contain what it should.
        SignatureError: No known key has signed its checkpoint.
        UsageError: There is no such log or entry, or a file cannot be read.
    """
    reader, checkpoint = _opened(folder, trust)
    if index >= checkpoint.head.size:
        raise UsageError(f"{folder}: asked for entry {index}, found {checkpoint.head.size} entries")
    proof, entry = reader.proof(index), reader.entry(index)
    proof.check(entry, trust.log, trust.keys)
    return entry, proof


def name_of(entry: bytes, index: int) -> str:
    """Return the name of the files of an entry: its kind and place."""
    return f"{_kind(entry)}-{index}"


def audit_log(folder: Path, trust: Trust, on_entries: Callable[[int, int], None]) -> Checkpoint:
    """Check every entry of a log, its tiles and its root; return the checkpoint that holds.

    Args:
        folder: Folder of the log.
        trust: The keys.
        on_entries: Called with the entries checked so far, and all of them.

    Raises:
        ProofError: Something does not fit; the line says what.
        SignatureError: No known key has signed the checkpoint.
        UsageError: There is no such log, or a file is missing or damaged.
    """
    _, checkpoint = _opened(folder, trust)
    check_log(folder, checkpoint, lambda done: on_entries(done, checkpoint.head.size))
    return checkpoint


class AuditProgress:
    """Says now and then how far a long command is."""

    def __init__(
        self,
        say: Callable[[str], None],
        clock: Callable[[], float],
        what: str = "entries checked",
    ) -> None:
        """Say nothing yet.

        Args:
            say: Takes a line.
            clock: Returns the time, s.
            what: What is counted.
        """
        self._say, self._clock, self._what, self._said_s = say, clock, what, clock()

    def __call__(self, done: int, size: int) -> None:
        """Say it if the last line is old enough."""
        now_s = self._clock()
        if now_s - self._said_s >= SAID_EVERY_S and done < size:
            self._said_s = now_s
            self._say(f"{done} of {size} {self._what}")


def _opened(folder: Path, trust: Trust) -> tuple[LogReader, Checkpoint]:
    """Return the reader of a log that has entries, and its checkpoint."""
    reader = LogReader(folder, trust.log, trust.keys)
    if not reader.note():
        raise UsageError(f"{folder}: asked for a log, found no checkpoint in this folder")
    with _named(folder):
        return reader, reader.checkpoint()


def _checked(entry: bytes, proof: Path, trust: Trust) -> tuple[Checkpoint, int, tuple[str, ...]]:
    """Check the proof of an entry; return the checkpoint, the place, and the witnesses."""
    text = _text(proof)
    with _named(proof):
        read = Proof.read(text)
        checkpoint = read.check(entry, trust.log, trust.keys)
        signed = check_cosignatures(read.checkpoint, trust.witnesses, trust.least)
    return checkpoint, read.index, tuple(key.name for key in signed)


def _check_price(receipt: Receipt, tariff: Tariff) -> None:
    """Check that the amount of a receipt is its price.

    Raises:
        ProofError: It is not, or the tariff has no such rate for it.
    """
    try:
        price_nano = tariff.price_nano(receipt)
    except NoRateError as error:
        raise ProofError(f"price: {error}") from error
    found = f"{receipt.amount_nano} x 10^-9 {receipt.currency}"
    if (price_nano, tariff.currency) != (receipt.amount_nano, receipt.currency):
        asked = f"asked for {price_nano} x 10^-9 {tariff.currency} by the tariff"
        raise ProofError(f"price: {asked}, found {found} in the receipt")


def keys_of(given: Sequence[str]) -> tuple[PublicKey, ...]:
    """Return public keys: each is written out, or those of a file, one a line."""
    lines = list[str]()
    for text in given:
        lines += [text] if text.count("+") >= 2 else _text(Path(text)).split()
    if given and not lines:
        raise UsageError(f"{given[0]}: asked for public keys, found none")
    return tuple(dict.fromkeys(PublicKey.read(line) for line in lines))


def _kind(entry: bytes) -> str:
    """Return the kind of an entry as a part of a file's name."""
    try:
        kind = json.loads(entry)["kind"]
    except (ValueError, KeyError, TypeError):
        return "entry"
    return kind if isinstance(kind, str) and _KIND.fullmatch(kind) else "entry"


def _bytes(path: Path) -> bytes:
    with disk_errors(path):
        return path.read_bytes()


def _text(path: Path) -> str:
    try:
        return _bytes(path).decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: asked for text, found other bytes") from error


@contextmanager
def _named(path: Path) -> Generator[None]:
    """Put the name of a file before what is wrong with it."""
    try:
        yield
    except (ProofError, SignatureError, UsageError) as error:
        raise type(error)(f"{path}: {error}") from error

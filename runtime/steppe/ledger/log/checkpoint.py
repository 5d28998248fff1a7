"""Signed heads of the log, and proofs: `c2sp.org/tlog-checkpoint` and `c2sp.org/tlog-proof`."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from steppe.ledger.signing import Note, PrivateKey, PublicKey, SignatureError, sign_note
from steppe.ledger.tree import HASH_BYTES, Head, ProofError, check_inclusion, leaf_hash

_PROOF = "c2sp.org/tlog-proof@v1"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of a log, as it is signed.

    Attributes:
        origin: Name of the log, such as `example.org/steppe/hohhot`.
        head: Its size and root.
    """

    origin: str
    head: Head

    @property
    def text(self) -> str:
        """The text that is signed."""
        root = base64.b64encode(self.head.root).decode()
        return f"{self.origin}\n{self.head.size}\n{root}\n"

    @classmethod
    def read(cls, text: str) -> Checkpoint:
        """Return the checkpoint of a text; further lines are left out, as the format asks.

        Raises:
            ProofError: It is none.
        """
        lines = text.split("\n")
        if len(lines) < 4 or not lines[0] or not is_number(lines[1]):
            raise ProofError(f"checkpoint: asked for origin, size and root, found {text[:80]!r}")
        return cls(lines[0], Head(int(lines[1]), hash_of(lines[2], "checkpoint")))


def sign_checkpoint(origin: str, head: Head, keys: Iterable[PrivateKey]) -> Note:
    """Return a signed checkpoint."""
    return sign_note(Checkpoint(origin, head).text, keys)


def open_checkpoint(note: str, origin: str, keys: Sequence[PublicKey]) -> Checkpoint:
    """Return the checkpoint of a note that one of these keys has signed.

    Raises:
        ProofError: It is none, or that of another log.
        SignatureError: None of the keys has signed it, or a signature is wrong.
    """
    signed = Note.read(note)
    signed.check(keys)
    checkpoint = Checkpoint.read(signed.text)
    if checkpoint.origin != origin:
        raise ProofError(f"checkpoint: asked for the log {origin}, found {checkpoint.origin}")
    return checkpoint


@dataclass(frozen=True, slots=True)
class Proof:
    """Shows that a log contains an entry.

    Attributes:
        index: Place of the entry, from 0.
        path: Hashes from its leaf to the root.
        checkpoint: The signed checkpoint.
    """

    index: int
    path: tuple[bytes, ...]
    checkpoint: str

    @property
    def text(self) -> str:
        """The proof as a file, some 0.7 to 1.6 kB."""
        path = "".join(base64.b64encode(step).decode() + "\n" for step in self.path)
        return f"{_PROOF}\nindex {self.index}\n{path}\n{self.checkpoint}"

    @classmethod
    def read(cls, text: str) -> Proof:
        """Return the proof of a file.

        Raises:
            ProofError: It is none.
        """
        head, found, checkpoint = text.partition("\n\n")
        lines = head.split("\n")
        if lines[0] != _PROOF or not found:
            raise ProofError(f"proof: asked for {_PROOF}, found {lines[0]!r:.60}")
        rest = [line for line in lines[1:] if not line.startswith("extra ")]
        word, _, index = rest[0].partition(" ") if rest else ("", "", "")
        if word != "index" or not is_number(index):
            raise ProofError(f"proof: asked for `index N`, found {rest[:1]!r:.60}")
        return cls(int(index), tuple(hash_of(line, "proof") for line in rest[1:]), checkpoint)

    def check(self, entry: bytes, origin: str, keys: Sequence[PublicKey]) -> Checkpoint:
        """Check that a log contains an entry; return the checkpoint that says so.

        Raises:
            ProofError: The path does not lead from the entry to the root, or another log's does.
            SignatureError: No known key has signed the checkpoint.
        """
        checkpoint = open_checkpoint(self.checkpoint, origin, keys)
        check_inclusion(leaf_hash(entry), self.index, checkpoint.head, self.path)
        return checkpoint


def is_number(text: str) -> bool:
    """Whether a text is a number below 10^19 without leading zeros."""
    return text.isascii() and text.isdecimal() and len(text) < 20 and str(int(text)) == text


def hash_of(text: str, what: str) -> bytes:
    """Return the hash of a line; `what` names the place in an error.

    Raises:
        ProofError: It is none.
    """
    try:
        hash_ = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ProofError(f"{what}: asked for a hash in base64, found {text[:60]!r}") from error
    if len(hash_) != HASH_BYTES or base64.b64encode(hash_).decode() != text:
        raise ProofError(f"{what}: asked for a hash in base64, found {text[:60]!r}")
    return hash_


__all__ = [
    "Checkpoint",
    "Proof",
    "ProofError",
    "SignatureError",
    "hash_of",
    "is_number",
    "open_checkpoint",
    "sign_checkpoint",
]

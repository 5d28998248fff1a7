"""Keys and signed notes: Ed25519 signatures in the text formats of C2SP.

A note is text that ends with a newline, an empty line, and signatures (`c2sp.org/signed-note`):

    example.org/steppe
    3
    <root of the tree, base64>

    — example.org/steppe <base64 of 4 bytes of the key's id and of the signature>

A public key is written `name+id+key`: the id in hexadecimal, the key in base64 with the byte of its
algorithm before it. A note may have signatures of keys that a reader does not know; they are left
out. So a key is replaced by signing with both for a while.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from steppe.errors import SteppeError, UsageError

ED25519, COSIGNATURE = 1, 4
"""Bytes of the algorithms: a note's signature, and a witness's (`c2sp.org/tlog-cosignature`)."""
_SEED_BYTES = 32
_ED25519_PREFIX = bytes.fromhex("302a300506032b6570032100")
"""What stands before the 32 bytes of a key in its DER encoding."""
_DASH = "\N{EM DASH} "
_NAME = re.compile(r"[^\s+]{1,255}")


class SignatureError(SteppeError):
    """A note has no valid signature of a known key, or cannot be read."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that checks signatures.

    Attributes:
        name: Its name, such as `example.org/steppe`: no space, no plus sign.
        raw: The 32 bytes of the key.
        algorithm: `ED25519` or `COSIGNATURE`.
    """

    name: str
    raw: bytes
    algorithm: int = ED25519

    @property
    def id(self) -> bytes:
        """Four bytes that name the key in a signature."""
        text = self.name.encode() + b"\n" + bytes([self.algorithm]) + self.raw
        return hashlib.sha256(text).digest()[:4]

    @property
    def text(self) -> str:
        """The key in one line, as `c2sp.org/signed-note` writes it."""
        key = base64.b64encode(bytes([self.algorithm]) + self.raw).decode()
        return f"{self.name}+{self.id.hex()}+{key}"

    @property
    def pem(self) -> str:
        """The key in PEM, for tools that know no notes (RFC 8410, section 4)."""
        coded = base64.b64encode(_ED25519_PREFIX + self.raw).decode()
        return f"-----BEGIN PUBLIC KEY-----\n{coded}\n-----END PUBLIC KEY-----\n"

    @classmethod
    def read(cls, text: str) -> PublicKey:
        """Return the key of a line.

        Raises:
            UsageError: It is no key of a known algorithm, or its id does not fit.
        """
        parts = text.strip().split("+", 2)
        try:
            name, id_, coded = parts
            blob = base64.b64decode(coded, validate=True)
            key = cls(name, blob[1:], blob[0])
        except (ValueError, IndexError) as error:
            raise UsageError(
                f"asked for a key `name+id+key`, found {text.strip()!r:.80}"
            ) from error
        if key.algorithm not in (ED25519, COSIGNATURE) or len(key.raw) != _SEED_BYTES:
            raise UsageError(
                f"asked for an Ed25519 key, found algorithm {key.algorithm} in {text!r:.80}"
            )
        if key.id.hex() != id_:
            raise UsageError(f"asked for a key with the id {id_}, found the id {key.id.hex()}")
        return key

    def is_valid(self, signature: bytes, message: bytes) -> bool:
        """Return whether a signature fits a message."""
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """A key that signs.

    Attributes:
        name: Its name, as in `PublicKey`.
        seed: Its 32 secret bytes.
        algorithm: `ED25519` or `COSIGNATURE`.
    """

    name: str
    seed: bytes = field(repr=False)
    algorithm: int = ED25519

    @classmethod
    def new(cls, name: str, algorithm: int = ED25519) -> PrivateKey:
        """Return a new key.

        Raises:
            UsageError: The name is empty, too long, or has a space or a plus sign.
        """
        if not _NAME.fullmatch(name):
            raise UsageError(f"asked for a key name without spaces and `+`, found {name!r:.80}")
        return cls(name, os.urandom(_SEED_BYTES), algorithm)

    @property
    def public(self) -> PublicKey:
        """The key that checks its signatures."""
        private = Ed25519PrivateKey.from_private_bytes(self.seed)
        return PublicKey(self.name, private.public_key().public_bytes_raw(), self.algorithm)

    def sign(self, message: bytes) -> bytes:
        """Return the signature of a message."""
        return Ed25519PrivateKey.from_private_bytes(self.seed).sign(message)

    def write(self, path: Path) -> None:
        """Write the key to a new file that only its owner may read.

        Raises:
            UsageError: The file exists, or cannot be written.
        """
        secret = base64.b64encode(bytes([self.algorithm]) + self.seed).decode()
        line = f"PRIVATE+KEY+{self.name}+{self.public.id.hex()}+{secret}\n"
        try:
            with open(path, "x", opener=_owner_only) as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UsageError(f"{path}: cannot write the key: {error.strerror}") from error

    @classmethod
    def read(cls, path: Path) -> PrivateKey:
        """Return the key of a file.

        Raises:
            UsageError: It cannot be read, others may read it, or it holds no key.
        """
        try:
            mode, text = path.stat().st_mode, path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{path}: cannot read the key: {error}") from error
        if mode & 0o077:
            raise UsageError(
                f"{path}: asked for a file that only its owner reads, found {mode & 0o777:o}"
            )
        head, _, rest = text.strip().partition("PRIVATE+KEY+")
        try:
            name, id_, coded = rest.split("+", 2)
            blob = base64.b64decode(coded, validate=True)
            key = cls(name, blob[1:], blob[0])
        except (ValueError, IndexError) as error:
            raise UsageError(f"{path}: asked for a private key, found none") from error
        if head or len(key.seed) != _SEED_BYTES or key.public.id.hex() != id_:
            raise UsageError(f"{path}: asked for a private key, found one that is damaged")
        return key


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One line of signatures of a note.

    Attributes:
        name: Name of the key.
        key_id: Its four bytes.
        blob: What follows: the signature; of a witness, eight bytes of time before it.
    """

    name: str
    key_id: bytes
    blob: bytes

    @property
    def line(self) -> str:
        """The line, with its newline."""
        return f"{_DASH}{self.name} {base64.b64encode(self.key_id + self.blob).decode()}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A text and its signatures.

    Attributes:
        text: The text, which ends with a newline.
        signatures: The signatures, of known and unknown keys.
    """

    text: str
    signatures: tuple[NoteSignature, ...] = ()

    @classmethod
    def read(cls, note: str) -> Note:
        """Return the parts of a signed note.

        Raises:
            SignatureError: It is no signed note.
        """
        text, found, lines = note.rpartition("\n\n")
        if not found or not lines.endswith("\n"):
            raise SignatureError(
                "note: asked for a text, an empty line and signatures, found others"
            )
        return cls(text + "\n", tuple(_signature(line) for line in lines[:-1].split("\n")))

    @property
    def whole(self) -> str:
        """The signed note."""
        return self.text + "\n" + "".join(each.line for each in self.signatures)

    def with_signatures(self, more: Iterable[NoteSignature]) -> Note:
        """Return the note with further signatures, each key once."""
        found = {(each.name, each.key_id): each for each in (*self.signatures, *more)}
        return Note(self.text, tuple(found.values()))

    def of(self, key: PublicKey) -> NoteSignature | None:
        """Return the signature of a key; None if there is none."""
        for each in self.signatures:
            if each.name == key.name and each.key_id == key.id:
                return each
        return None

    def check(self, keys: Sequence[PublicKey]) -> PublicKey:
        """Return the first of these keys that has signed.

        Raises:
            SignatureError: None has, or a signature of one of them is wrong.
        """
        signed = [(key, found) for key in keys if (found := self.of(key)) is not None]
        for key, found in signed:
            if not key.is_valid(found.blob, self.text.encode()):
                raise SignatureError(f"signature: that of {key.name} does not fit the text")
        if not signed:
            asked = ", ".join(f"{key.name}+{key.id.hex()}" for key in keys) or "any key"
            given = ", ".join(f"{s.name}+{s.key_id.hex()}" for s in self.signatures)
            raise SignatureError(f"signature: asked for one of {asked}, found {given}")
        return signed[0][0]


def sign_note(text: str, keys: Iterable[PrivateKey]) -> Note:
    """Return a text with the signatures of these keys."""
    assert text.endswith("\n"), "a note ends with a newline"
    return Note(
        text, tuple(NoteSignature(k.name, k.public.id, k.sign(text.encode())) for k in keys)
    )


def _signature(line: str) -> NoteSignature:
    """Return the signature of a line.

    Raises:
        SignatureError: The line holds none.
    """
    name, _, coded = line.removeprefix(_DASH).partition(" ")
    try:
        blob = base64.b64decode(coded, validate=True)
    except ValueError as error:
        raise SignatureError(f"signature: asked for base64, found {coded[:40]!r}") from error
    if not line.startswith(_DASH) or not name or len(blob) < 5:
        raise SignatureError(f"signature: asked for `{_DASH}name base64`, found {line[:60]!r}")
    return NoteSignature(name, blob[:4], blob[4:])


def _owner_only(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)

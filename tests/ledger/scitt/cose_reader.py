"""Reads CBOR and COSE as strictly as a verifier has to, without the code that writes it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from steppe.ledger.tree import Head, check_inclusion, leaf_hash


class MalformedError(ValueError):
    """The bytes are not what they should be."""


@dataclass(frozen=True, slots=True)
class Message:
    """A COSE_Sign1 message."""

    protected: dict[int, Any]
    unprotected: dict[int, Any]
    payload: bytes | None
    signed: tuple[bytes, bytes]

    def is_signed(self, pem: str, payload: bytes) -> bool:
        key = load_pem_public_key(pem.encode())
        assert isinstance(key, Ed25519PublicKey)
        header, signature = self.signed
        parts = [b"\x84\x6aSignature1", coded_bytes(header), b"\x40", coded_bytes(payload)]
        try:
            key.verify(signature, b"".join(parts))
        except InvalidSignature:
            return False
        return True


def coded_bytes(blob: bytes) -> bytes:
    size = len(blob)
    if size < 24:
        return bytes([0x40 + size]) + blob
    width = 1 if size < 1 << 8 else 2 if size < 1 << 16 else 4
    return bytes([{1: 0x58, 2: 0x59, 4: 0x5A}[width]]) + size.to_bytes(width, "big") + blob


def decoded(blob: bytes) -> Any:
    """Return the one value of some bytes, which fill them."""
    value, rest = _value(blob)
    if rest:
        raise MalformedError(f"{len(rest)} bytes too many")
    return value


def message_of(blob: bytes) -> Message:
    """Return a COSE_Sign1 message."""
    if blob[:1] != b"\xd2":
        raise MalformedError("no COSE_Sign1")
    header, unprotected, payload, signature = decoded(blob[1:])
    return Message(decoded(header), unprotected, payload, (header, signature))


def check_receipt(blob: bytes, entry: bytes, pem: str) -> tuple[dict[int, Any], int, int]:
    """Return the claims of a receipt, and size and place of its proof, if all of it holds."""
    receipt = message_of(blob)
    if receipt.payload is not None or receipt.protected[395] != 1 or receipt.protected[1] != -8:
        raise MalformedError("no receipt of an RFC 9162 tree")
    (proof,) = receipt.unprotected[396][-1]
    size, place, path = decoded(proof)
    root = _root(entry, size, place, path)
    if not receipt.is_signed(pem, root):
        raise MalformedError("another signature")
    check_inclusion(leaf_hash(entry), place, Head(size, root), path)
    return receipt.protected[15], size, place


def _root(entry: bytes, size: int, place: int, path: list[bytes]) -> bytes:
    """Return the root that a path leads to, from the top down (RFC 9162, section 2.1.3)."""

    def under(first: int, end: int, steps: list[bytes]) -> bytes:
        if end - first == 1:
            return leaf_hash(entry)
        middle = first + (1 << (end - first - 1).bit_length() - 1)
        is_left = place < middle
        inner = under(first, middle, steps[:-1]) if is_left else under(middle, end, steps[:-1])
        pair = inner + steps[-1] if is_left else steps[-1] + inner
        return hashlib.sha256(b"\x01" + pair).digest()

    return under(0, size, list(path))


def _value(blob: bytes) -> tuple[Any, bytes]:
    if not blob:
        raise MalformedError("too short")
    major, argument, rest = _head(blob)
    if major in (2, 3):
        if len(rest) < argument:
            raise MalformedError("too short")
        text, rest = rest[:argument], rest[argument:]
        return (text if major == 2 else text.decode()), rest
    if major == 4:
        return _items(rest, argument)
    if major == 5:
        flat, rest = _items(rest, 2 * argument)
        keys = flat[::2]
        if len(set(keys)) != len(keys):
            raise MalformedError("a key twice")
        return dict(zip(keys, flat[1::2], strict=True)), rest
    if major == 7 and argument == 22:
        return None, rest
    if major not in (0, 1):
        raise MalformedError(f"type {major}")
    return (argument if major == 0 else -1 - argument), rest


def _items(rest: bytes, count: int) -> tuple[list[Any], bytes]:
    items = []
    for _ in range(count):
        item, rest = _value(rest)
        items.append(item)
    return items, rest


def _head(blob: bytes) -> tuple[int, int, bytes]:
    major, argument = blob[0] >> 5, blob[0] & 31
    if argument < 24:
        return major, argument, blob[1:]
    if argument > 27:
        raise MalformedError("no definite length")
    width = 1 << argument - 24
    found = int.from_bytes(blob[1 : 1 + width], "big")
    if len(blob) < 1 + width or found < (24 if width == 1 else 1 << 4 * width):
        raise MalformedError("a number in more bytes than it needs")
    return major, found, blob[1 + width :]

#!/usr/bin/env python3
"""Check a receipt of Steppe: that a signed log contains it, and that its price is right.

Needs Python 3.9 or newer and the package `cryptography`; nothing else, and no network.

    python verify_receipt.py receipt.json receipt.proof --key NAME+ID+KEY
        [--tariff tariff.json --tariff-proof tariff.proof]
        [--head older.checkpoint --consistency consistency.txt]

The formats are those of c2sp.org: signed-note, tlog-checkpoint and tlog-proof; the tree is that of
RFC 6962. Exit code 0: all of it holds; 1: something does not, and the line says what.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


class WrongError(Exception):
    """Something does not hold."""


def decoded(text: str, what: str, size: int) -> bytes:
    """Return the bytes of a base64 text of a known size."""
    blob = base64.b64decode(text)
    if len(blob) != size or base64.b64encode(blob).decode() != text:
        raise WrongError(f"{what}: asked for {size} bytes in base64, found {text[:60]!r}")
    return blob


def checkpoint_of(note: str, vkey: str) -> tuple[str, int, bytes]:
    """Return origin, size and root of a checkpoint, after a check of its signature."""
    name, id_, coded = vkey.strip().split("+", 2)
    key, is_signed = decoded(coded, "key", 33), False
    if hashlib.sha256(f"{name}\n".encode() + key).hexdigest()[:8] != id_ or key[0] != 1:
        raise WrongError(f"key: its id {id_} does not fit it")
    text, _, signatures = note.rpartition("\n\n")
    for line in signatures.split("\n"):
        mark, _, coded = line.rpartition(" ")
        if mark == f"\u2014 {name}" and base64.b64decode(coded)[:4].hex() == id_:
            blob, public = decoded(coded, "signature", 68), Ed25519PublicKey
            public.from_public_bytes(key[1:]).verify(blob[4:], f"{text}\n".encode())
            is_signed = True
    if not is_signed:
        raise WrongError(f"signature: asked for one of {name}+{id_}, found none")
    origin, size, root = text.split("\n")[:3]
    return origin, int(size), decoded(root, "root", 32)


def climb(index: int, last: int, hashes: list[bytes], path: list[bytes]) -> list[bytes]:
    """Return the roots that a path leads to (RFC 9162, 2.1.3.2, 2.1.4.2); none if it is wrong."""
    for step in path:
        if last == 0:
            return []
        if index & 1 or index == last:
            hashes = [hashlib.sha256(b"\x01" + step + below).digest() for below in hashes]
            while not index & 1 and index:
                index, last = index >> 1, last >> 1
        else:
            hashes = [*hashes[:-1], hashlib.sha256(b"\x01" + hashes[-1] + step).digest()]
        index, last = index >> 1, last >> 1
    return [] if last else hashes


def check_same_log(
    old: tuple[str, int, bytes], new: tuple[str, int, bytes], path: list[bytes]
) -> None:
    """Check that a newer tree begins with an older one."""
    index, last = max(0, old[1] - 1), new[1] - 1
    while index & 1:
        index, last = index >> 1, last >> 1
    first, *rest = path if path and old[1] & (old[1] - 1) else [old[2], *path]
    grows = old == new or climb(index, last, [first, first], rest) == [old[2], new[2]]
    if old[0] != new[0] or not 0 < old[1] <= new[1] or not grows:
        raise WrongError("consistency: the log was changed since the older checkpoint")


def check_entry(entry: bytes, proof: str, vkey: str) -> tuple[str, int, bytes]:
    """Check that the log of a proof contains an entry; return the checkpoint."""
    head, _, note = proof.partition("\n\n")
    first, index, *path = [line for line in head.split("\n") if not line.startswith("extra ")]
    if first != "c2sp.org/tlog-proof@v1" or index != f"index {int(index[6:])}":
        raise WrongError(f"proof: asked for c2sp.org/tlog-proof@v1, found {head[:60]!r}")
    checkpoint = checkpoint_of(note, vkey)
    leaf, place = hashlib.sha256(b"\x00" + entry).digest(), int(index[6:])
    roots = climb(place, checkpoint[1] - 1, [leaf], [decoded(h, "proof", 32) for h in path])
    if not 0 <= place < checkpoint[1] or roots != [checkpoint[2]]:
        raise WrongError("proof: the log does not contain this entry")
    return checkpoint


def check_price(receipt: dict[str, Any], tariff: dict[str, Any]) -> None:
    """Check that the amount of a receipt is its price by a tariff."""
    id_, _, number = receipt["tariff"].rpartition("/")
    if id_ != tariff["id"] or receipt["currency"] != tariff["currency"]:
        raise WrongError(f"price: asked for tariff {receipt['tariff']}, found {tariff['id']}")
    rate, cached = tariff["rates"][int(number)], receipt["cached_tokens"]
    for name in ("model", "priority"):
        if rate[name] not in ("", receipt[name]):
            raise WrongError(f"price: rate {receipt['tariff']} is not for {receipt[name]}")
    tokens = (receipt["prompt_tokens"] - cached) * rate["prompt_nano"]
    tokens += cached * rate["cached_nano"] + receipt["output_tokens"] * rate["output_nano"]
    whole, rest = divmod(receipt["energy_uj"] * rate["joule_nano"], 10**6)
    price = tokens + whole + (2 * rest > 10**6 or (2 * rest == 10**6 and whole % 2))
    if price != receipt["amount_nano"]:
        raise WrongError(f"price: the receipt says {receipt['amount_nano']}, the tariff {price}")


def check(given: argparse.Namespace) -> str:
    """Check all that was given; return what holds."""
    entry, holds = Path(given.receipt).read_bytes(), "the log contains the receipt"
    checkpoint = check_entry(entry, Path(given.proof).read_text(encoding="utf-8"), given.key)
    if given.tariff:
        tariff = Path(given.tariff).read_bytes()
        check_entry(tariff, Path(given.tariff_proof).read_text(encoding="utf-8"), given.key)
        check_price(json.loads(entry), json.loads(tariff))
        holds += "; its price is that of the logged tariff"
    if given.head:
        lines = Path(given.consistency).read_text(encoding="utf-8").split()
        old = checkpoint_of(Path(given.head).read_text(encoding="utf-8"), given.key)
        check_same_log(old, checkpoint, [decoded(line, "consistency", 32) for line in lines])
        holds += "; nothing that was logged before has changed"
    return f"{checkpoint[0]}, {checkpoint[1]} entries: {holds}"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Check a receipt of Steppe.")
    for name in ("receipt", "proof", "--tariff", "--tariff-proof", "--head", "--consistency"):
        parser.add_argument(name)
    parser.add_argument("--key", required=True)
    try:
        print(check(parser.parse_args()))
    except InvalidSignature:
        sys.exit("does not hold: signature: it does not fit the checkpoint")
    except (WrongError, ValueError, KeyError, IndexError, TypeError, OSError) as error:
        sys.exit(f"does not hold: {error}")


if __name__ == "__main__":
    main()

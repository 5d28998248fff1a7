"""An entry of the log as a transparent statement of SCITT, with a COSE receipt.

A receipt (RFC 9942) is a COSE_Sign1 by the log over the root of its tree, with the path from one
leaf to it; the verifier computes the root, so the payload is left out. A transparent statement (RFC
9943) is a COSE_Sign1 over the entry, whose unprotected header holds the receipt. The leaf of the
tree is the payload of the statement, the bytes of the entry: those that the proofs of
`c2sp.org/tlog-proof` are for, too. Both are signed by the key of the log. A COSE signature begins
with other bytes than a checkpoint, so none can stand for the other.

The same entry, head and key give the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from steppe.ledger.log.checkpoint import Checkpoint, Proof
from steppe.ledger.scitt.cbor import Tagged, encoded
from steppe.ledger.signing import Note, PrivateKey

CONTENT_TYPE = "application/json"
_SIGN1 = 18
_ALGORITHM, _CONTENT_TYPE, _KEY_ID, _CLAIMS = 1, 3, 4, 15
"""Labels of COSE headers: RFC 9052, section 3.1, and RFC 9597."""
_RECEIPTS, _STRUCTURE, _PROOFS = 394, 395, 396
"""Labels of RFC 9942."""
_EDDSA, _RFC9162_SHA256, _INCLUSION = -8, 1, -1
_ISSUER, _SUBJECT = 1, 2
"""Claims of RFC 8392."""


@dataclass(frozen=True, slots=True)
class Transparent:
    """An entry for tools of SCITT.

    Attributes:
        statement: The transparent statement, with the receipt in it.
        receipt: The receipt alone.
    """

    statement: bytes
    receipt: bytes


def transparent(entry: bytes, proof: Proof, key: PrivateKey) -> Transparent:
    """Return an entry as a transparent statement.

    Args:
        entry: The entry.
        proof: The proof that the log contains it, which was checked.
        key: The key of the log.
    """
    checkpoint = Checkpoint.read(Note.read(proof.checkpoint).text)
    claims = {_ISSUER: checkpoint.origin, _SUBJECT: subject_of(entry, proof.index)}
    path = encoded([checkpoint.head.size, proof.index, list(proof.path)])
    receipt = _signed(
        {_CLAIMS: claims, _STRUCTURE: _RFC9162_SHA256},
        {_PROOFS: {_INCLUSION: [path]}},
        checkpoint.head.root,
        key,
        is_detached=True,
    )
    statement = _signed(
        {_CLAIMS: claims, _CONTENT_TYPE: CONTENT_TYPE}, {_RECEIPTS: [receipt]}, entry, key
    )
    return Transparent(statement, receipt)


def subject_of(entry: bytes, index: int) -> str:
    """Return what an entry is about: its kind and id, or its kind and place without an id."""
    try:
        values = orjson.loads(entry)
    except orjson.JSONDecodeError:
        return f"entry/{index}"
    if not isinstance(values, dict):
        return f"entry/{index}"
    return f"{values.get('kind', 'entry')}/{values.get('id', index)}"


def _signed(
    protected: dict[int, object],
    unprotected: dict[int, object],
    payload: bytes,
    key: PrivateKey,
    *,
    is_detached: bool = False,
) -> bytes:
    """Return a COSE_Sign1 message (RFC 9052, section 4.4)."""
    header = encoded({_ALGORITHM: _EDDSA, _KEY_ID: key.public.id, **protected})
    signature = key.sign(encoded(["Signature1", header, b"", payload]))
    shown = None if is_detached else payload
    return encoded(Tagged(_SIGN1, [header, unprotected, shown, signature]))

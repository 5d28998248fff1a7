"""What share of an hour's idle energy each of its receipts has.

The idle energy is shared by the joules of the receipts, exact in uJ. A receipt does not change for
it: its share is a leaf of the period's tree, beside the hash of its bytes. Corrections are leaves
too, without a share.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from steppe.ledger.receipt import Receipt, canonical
from steppe.ledger.split import split
from steppe.ledger.tree import Head, head_of, inclusion_proof, leaf_hash, node_hash


@dataclass(frozen=True, slots=True)
class IdleShare:
    """The part of the idle energy that a receipt has.

    Attributes:
        receipt: Id of the receipt.
        hash: SHA-256 of its entry, hexadecimal.
        idle_uj: Its share, uJ.
    """

    receipt: str
    hash: str
    idle_uj: int

    @property
    def leaf(self) -> bytes:
        """Its hash as a leaf of the period's tree."""
        values = {"receipt": self.receipt, "hash": self.hash, "idle_uj": self.idle_uj}
        return leaf_hash(canonical(values))


def shares_of(idle_uj: int, receipts: Iterable[Receipt]) -> list[IdleShare]:
    """Return the shares of an hour's receipts, by their number; none if they took no energy.

    Args:
        idle_uj: Energy of the hour without work, uJ.
        receipts: Its receipts and corrections, in any order.
    """
    ordered = sorted(receipts, key=lambda receipt: (receipt.seq, receipt.id))
    weights = [0 if receipt.corrects else receipt.energy_uj for receipt in ordered]
    return [
        IdleShare(receipt.id, hashlib.sha256(receipt.entry).hexdigest(), part_uj)
        for receipt, part_uj in zip(ordered, split(idle_uj, weights), strict=True)
    ]


def head_of_shares(shares: Sequence[IdleShare]) -> Head:
    """Return the head of the tree of shares."""
    return head_of([share.leaf for share in shares])


def prove_share(shares: Sequence[IdleShare], place: int) -> list[bytes]:
    """Return the audit path of a share, with which `check_share` finds it in its period.

    Raises:
        ProofError: There is no such share.
    """
    return paths_of([share.leaf for share in shares], [place])[0]


def paths_of(leaves: Sequence[bytes], places: Iterable[int]) -> list[list[bytes]]:
    """Return the audit paths of some leaves of a tree that is hashed once.

    Raises:
        ProofError: There is no leaf at a place.
    """
    levels = [list(leaves)]
    while len(below := levels[-1]) > 1:
        pairs = zip(below[::2], below[1::2], strict=False)  # an odd last one is in no pair
        levels.append([node_hash(left, right) for left, right in pairs])

    def hash_at(level: int, index: int) -> bytes:
        return levels[level][index]

    return [inclusion_proof(place, len(leaves), hash_at) for place in places]

"""What share of an hour's idle energy each of its receipts has.

The idle energy is shared by the joules of the receipts, exact in uJ. A receipt does not change for
it: its share is a leaf of the period's tree, beside the hash of its bytes. Corrections are leaves
too, without a share.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from steppe.ledger.receipt import Receipt, canonical
from steppe.ledger.tree import Head, head_of, inclusion_proof, leaf_hash, node_hash


@dataclass(frozen=True, slots=True)
class Share:
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
        return leaf_hash(canonical(asdict(self)))


def shares_of(idle_uj: int, receipts: Iterable[Receipt]) -> list[Share]:
    """Return the shares of an hour's receipts, by their number; none if they took no energy.

    Args:
        idle_uj: Energy of the hour without work, uJ.
        receipts: Its receipts and corrections, in any order.
    """
    ordered = sorted(receipts, key=lambda receipt: (receipt.seq, receipt.id))
    weights = [0 if receipt.corrects else receipt.energy_uj for receipt in ordered]
    return [
        Share(receipt.id, hashlib.sha256(receipt.entry).hexdigest(), part_uj)
        for receipt, part_uj in zip(ordered, split(idle_uj, weights), strict=True)
    ]


def split(amount: int, weights: Sequence[int]) -> list[int]:
    """Return the parts of an amount by weights: whole numbers of which the sum is the amount.

    Each part is rounded down, and what is left goes by ones to the largest remainders, the earlier
    of equal ones first. All parts are 0 if all weights are.

    Args:
        amount: What is split, at least 0.
        weights: How much of it each has, at least 0.
    """
    total = sum(weights)
    if total == 0:
        return [0] * len(weights)
    divided = [divmod(amount * weight, total) for weight in weights]
    parts = [whole for whole, _ in divided]
    by_remainder = sorted(range(len(parts)), key=lambda place: -divided[place][1])
    for place in by_remainder[: amount - sum(parts)]:
        parts[place] += 1
    return parts


def head_of_shares(shares: Sequence[Share]) -> Head:
    """Return the head of the tree of shares."""
    return head_of([share.leaf for share in shares])


def prove_share(shares: Sequence[Share], place: int) -> list[bytes]:
    """Return the audit path of a share, with which `check_share` finds it in its period.

    Raises:
        ProofError: There is no such share.
    """
    levels = [[share.leaf for share in shares]]
    while len(below := levels[-1]) > 1:
        pairs = zip(below[::2], below[1::2], strict=False)  # an odd last one is in no pair
        levels.append([node_hash(left, right) for left, right in pairs])
    return inclusion_proof(place, len(shares), lambda level, index: levels[level][index])

"""The Merkle tree of RFC 6962, section 2.1 (also RFC 9162): roots and proofs, without any storage.

A leaf is `SHA-256(0x00 || entry)`, an inner node `SHA-256(0x01 || left || right)`. A function gives
the hashes of complete subtrees: `hash_at(level, index)` is the root of the `2**level` leaves from
`index * 2**level`. Storage in tiles is in `ledger.log.tiles`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from steppe.errors import SteppeError

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()
"""Root of a tree without leaves."""

HashAt = Callable[[int, int], bytes]
"""Returns the root of the complete subtree at a level and an index there."""


class ProofError(SteppeError):
    """A proof does not show what it is to show."""


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of a leaf."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of a node above two others."""
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Head:
    """The size of a tree and its root.

    Attributes:
        size: Number of leaves.
        root: Hash of all of them.
    """

    size: int
    root: bytes


@dataclass(frozen=True, slots=True)
class CompactRange:
    """The complete subtrees of a tree, largest first: enough to append to it.

    Attributes:
        size: Number of leaves.
        subtrees: One hash for each bit of `size` that is set.
    """

    size: int = 0
    subtrees: tuple[bytes, ...] = ()

    def append(self, leaf: bytes) -> CompactRange:
        """Return the range with one more leaf, given by its hash."""
        subtrees, hash_, bits = list(self.subtrees), leaf, self.size
        while bits & 1:
            hash_ = node_hash(subtrees.pop(), hash_)
            bits >>= 1
        return CompactRange(self.size + 1, (*subtrees, hash_))

    @property
    def head(self) -> Head:
        """The head of the tree."""
        if not self.subtrees:
            return Head(0, EMPTY_ROOT)
        *rest, root = self.subtrees
        for subtree in reversed(rest):
            root = node_hash(subtree, root)
        return Head(self.size, root)


def head_of(leaves: Sequence[bytes]) -> Head:
    """Return the head of the tree of these hashes of leaves."""
    grown = CompactRange()
    for leaf in leaves:
        grown = grown.append(leaf)
    return grown.head


def root_of(size: int, hash_at: HashAt) -> bytes:
    """Return the root of the first `size` leaves."""
    return _range_root(0, size, hash_at) if size else EMPTY_ROOT


def inclusion_proof(index: int, size: int, hash_at: HashAt) -> list[bytes]:
    """Return the audit path of a leaf in the tree of `size` leaves, from the leaf up.

    Raises:
        ProofError: There is no such leaf.
    """
    if not 0 <= index < size:
        raise ProofError(f"asked for leaf {index}, found {size} leaves")
    path: list[bytes] = []
    first, end = 0, size
    while end - first > 1:
        middle = first + _split(end - first)
        if index < middle:
            path.append(_range_root(middle, end, hash_at))
            end = middle
        else:
            path.append(_range_root(first, middle, hash_at))
            first = middle
    return path[::-1]


def consistency_proof(old: int, new: int, hash_at: HashAt) -> list[bytes]:
    """Return the proof that the tree of `new` leaves begins with that of `old` leaves.

    Raises:
        ProofError: `old` is not between 1 and `new`.
    """
    if not 0 < old <= new:
        raise ProofError(f"asked for a proof from size {old} to {new}")
    return _subproof(old, 0, new, hash_at, is_whole=True)


def check_inclusion(leaf: bytes, index: int, head: Head, path: Sequence[bytes]) -> None:
    """Check that a leaf, given by its hash, is in a tree (RFC 9162, section 2.1.3.2).

    Raises:
        ProofError: The path does not lead to the root.
    """
    if not 0 <= index < head.size:
        raise ProofError(f"inclusion: asked for leaf {index}, found {head.size} leaves")
    node, last, hash_ = index, head.size - 1, leaf
    for step in path:
        if last == 0:
            raise ProofError("inclusion: the path is too long")
        if node & 1 or node == last:
            hash_ = node_hash(step, hash_)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            hash_ = node_hash(hash_, step)
        node, last = node >> 1, last >> 1
    if last or hash_ != head.root:
        raise ProofError("inclusion: the path does not lead to the root of the checkpoint")


def check_consistency(old: Head, new: Head, proof: Sequence[bytes]) -> None:
    """Check that a tree begins with an older one (RFC 9162, section 2.1.4.2).

    Raises:
        ProofError: It does not, or the proof is not for these sizes.
    """
    if old.size > new.size:
        raise ProofError(f"consistency: the tree shrank from {old.size} to {new.size} leaves")
    if old.size in (0, new.size):
        if proof or (old.size and old.root != new.root):
            raise ProofError("consistency: two different trees of one size")
        return
    steps = [old.root, *proof] if not old.size & (old.size - 1) else list(proof)
    if not steps:
        raise ProofError("consistency: the proof is empty")
    node, last = old.size - 1, new.size - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    before = after = steps[0]
    for step in steps[1:]:
        if last == 0:
            raise ProofError("consistency: the proof is too long")
        if node & 1 or node == last:
            before, after = node_hash(step, before), node_hash(step, after)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            after = node_hash(after, step)
        node, last = node >> 1, last >> 1
    if last or before != old.root or after != new.root:
        raise ProofError("consistency: the newer tree does not begin with the older one")


def _split(width: int) -> int:
    """Return the largest power of two below `width`."""
    return 1 << (width - 1).bit_length() - 1


def _range_root(first: int, end: int, hash_at: HashAt) -> bytes:
    """Return the root of the leaves from `first` to before `end`; `first` fits their number."""
    width = end - first
    if not width & (width - 1):
        level = width.bit_length() - 1
        return hash_at(level, first >> level)
    middle = first + _split(width)
    return node_hash(_range_root(first, middle, hash_at), _range_root(middle, end, hash_at))


def _subproof(old: int, first: int, end: int, hash_at: HashAt, *, is_whole: bool) -> list[bytes]:
    """Return SUBPROOF of RFC 6962, section 2.1.2, for the leaves from `first` to before `end`."""
    if old == end - first:
        return [] if is_whole else [_range_root(first, end, hash_at)]
    split = _split(end - first)
    middle = first + split
    if old <= split:
        proof = _subproof(old, first, middle, hash_at, is_whole=is_whole)
        return [*proof, _range_root(middle, end, hash_at)]
    proof = _subproof(old - split, middle, end, hash_at, is_whole=False)
    return [*proof, _range_root(first, middle, hash_at)]

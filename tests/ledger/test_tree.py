"""The Merkle tree: roots, proofs, and what a wrong proof does not show."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.ledger.tree import (
    EMPTY_ROOT,
    CompactRange,
    HashAt,
    Head,
    ProofError,
    check_consistency,
    check_inclusion,
    consistency_proof,
    head_of,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root_of,
)

SIZES = st.integers(1, 80)
# The leaves and roots of the test vectors of the certificate transparency project.
VECTORS = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOT_OF_8 = "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


def leaves_of(count: int) -> list[bytes]:
    return [leaf_hash(b"entry %d" % number) for number in range(count)]


def hashes_of(leaves: Sequence[bytes]) -> HashAt:
    """Return the hashes of complete subtrees, computed from the definition of RFC 6962."""

    def hash_at(level: int, index: int) -> bytes:
        width = 1 << level
        part = leaves[index * width : (index + 1) * width]
        assert len(part) == width, "only complete subtrees"
        return definition(part)

    return hash_at


def definition(leaves: Sequence[bytes]) -> bytes:
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(definition(leaves[:split]), definition(leaves[split:]))


def test_the_published_vector_of_eight_leaves_has_its_root() -> None:
    assert head_of([leaf_hash(entry) for entry in VECTORS]).root.hex() == ROOT_OF_8


def test_an_empty_tree_has_the_hash_of_nothing() -> None:
    assert CompactRange().head == Head(0, hashlib.sha256(b"").digest())
    assert root_of(0, hashes_of([])) == EMPTY_ROOT


@given(SIZES)
def test_a_grown_tree_has_the_root_of_the_definition(size: int) -> None:
    leaves = leaves_of(size)
    assert head_of(leaves).root == definition(leaves) == root_of(size, hashes_of(leaves))


@given(SIZES, st.data())
def test_each_leaf_has_a_path_to_the_root(size: int, data: st.DataObject) -> None:
    leaves, index = leaves_of(size), data.draw(st.integers(0, size - 1))
    path = inclusion_proof(index, size, hashes_of(leaves))
    check_inclusion(leaves[index], index, head_of(leaves), path)


@given(SIZES, st.data())
def test_a_path_with_one_changed_part_shows_nothing(size: int, data: st.DataObject) -> None:
    leaves, index = leaves_of(size), data.draw(st.integers(0, size - 1))
    head, path = head_of(leaves), inclusion_proof(index, size, hashes_of(leaves))
    wrong = [
        (leaf_hash(b"another"), index, path),
        (leaves[index], index, [*path, bytes(32)]),
        *((leaves[index], index, [*path[:i], bytes(32), *path[i + 1 :]]) for i in range(len(path))),
        *((leaves[index], index, path[:-1]) for _ in path[:1]),
        *((leaves[index], other, path) for other in (index - 1, index + 1, size)),
    ]
    for leaf, place, steps in wrong:
        with pytest.raises(ProofError, match="inclusion"):
            check_inclusion(leaf, place, head, steps)


@given(SIZES, st.data())
def test_a_tree_begins_with_each_older_one(size: int, data: st.DataObject) -> None:
    leaves, old = leaves_of(size), data.draw(st.integers(1, size))
    proof = consistency_proof(old, size, hashes_of(leaves))
    check_consistency(head_of(leaves[:old]), head_of(leaves), proof)


@given(st.integers(2, 60), st.data())
def test_a_tree_with_a_changed_entry_does_not_begin_with_the_older_one(
    size: int, data: st.DataObject
) -> None:
    leaves, old = leaves_of(size), data.draw(st.integers(1, size - 1))
    changed = data.draw(st.integers(0, old - 1))
    other = [*leaves[:changed], leaf_hash(b"another"), *leaves[changed + 1 :]]
    proof = consistency_proof(old, size, hashes_of(other))
    with pytest.raises(ProofError, match="consistency"):
        check_consistency(head_of(leaves[:old]), head_of(other), proof)
    with pytest.raises(ProofError, match="consistency"):
        check_consistency(head_of(leaves[:old]), head_of(leaves), [bytes(32), *proof])


def test_a_tree_that_shrank_is_not_consistent() -> None:
    leaves = leaves_of(5)
    with pytest.raises(ProofError, match="shrank from 5 to 4"):
        check_consistency(head_of(leaves), head_of(leaves[:4]), [])


def test_every_tree_begins_with_the_empty_one() -> None:
    check_consistency(Head(0, EMPTY_ROOT), head_of(leaves_of(3)), [])


def test_a_leaf_that_is_not_there_has_no_path() -> None:
    with pytest.raises(ProofError, match="asked for leaf 3, found 3 leaves"):
        inclusion_proof(3, 3, hashes_of(leaves_of(3)))
    with pytest.raises(ProofError, match="asked for a proof from size 0 to 3"):
        consistency_proof(0, 3, hashes_of(leaves_of(3)))

"""A witness signs one history of a log, and readers count the witnesses that have signed."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steppe.errors import UsageError
from steppe.ledger.log.checkpoint import sign_checkpoint
from steppe.ledger.log.witness import (
    AddCheckpoint,
    ForkError,
    NotConsistentError,
    NotSignedError,
    OldSizeError,
    UnknownLogError,
    Witness,
    WitnessRefusedError,
    check_cosignatures,
    cosign,
)
from steppe.ledger.signing import COSIGNATURE, Note, PrivateKey, PublicKey, SignatureError
from steppe.ledger.tree import Head, consistency_proof, head_of, leaf_hash, root_of

ORIGIN = "example.org/steppe"
KEY = PrivateKey(ORIGIN, bytes(range(32)))
WITNESS = PrivateKey("grid.example/w1", bytes(range(1, 33)), COSIGNATURE)
SECOND = PrivateKey("lab.example/w2", bytes(range(2, 34)), COSIGNATURE)
NEW = Witness(WITNESS, {ORIGIN: (KEY.public,)})
NOW_S = 1_764_000_000
# The examples of c2sp.org/tlog-witness and c2sp.org/tlog-cosignature.
PUBLISHED = """\
old 20852014
PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=
jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=
5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=
/6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=

example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzG\
ku9nTo+zyWE+xeMcTOAYQ8=
"""


def leaves_of(count: int, seed: int = 0) -> list[bytes]:
    return [leaf_hash(b"%d %d" % (seed, number)) for number in range(count)]


def request_of(leaves: list[bytes], old: int, key: PrivateKey = KEY) -> AddCheckpoint:
    def hash_at(level: int, index: int) -> bytes:
        return head_of(leaves[index << level : index + 1 << level]).root

    proof = consistency_proof(old, len(leaves), hash_at) if old else []
    head = Head(len(leaves), root_of(len(leaves), hash_at))
    return AddCheckpoint(old, tuple(proof), sign_checkpoint(ORIGIN, head, [key]).whole)


def witness_of(leaves: list[bytes]) -> Witness:
    return NEW.add(request_of(leaves, 0), NOW_S)[0]


def cosigned(note: str, *keys: PrivateKey, now_s: int = NOW_S) -> str:
    read = Note.read(note)
    return read.with_signatures(cosign(read.text, key, now_s) for key in keys).whole


def test_the_published_request_is_read_and_written_as_it_is() -> None:
    request = AddCheckpoint.read(PUBLISHED)
    assert (request.old_size, len(request.proof)) == (20852014, 4)
    assert Note.read(request.note).signatures[0].name == "example.com/behind-the-sofa"
    assert request.text == PUBLISHED


def test_a_first_request_has_no_proof() -> None:
    request = request_of(leaves_of(3), 0)
    assert request.text == f"old 0\n\n{request.note}"
    assert AddCheckpoint.read(request.text) == request


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("old 2", "odd 2", "asked for `old SIZE`, found 'odd 20852014'"),
        ("old 2", "old 02", "asked for `old SIZE`"),
        ("old 2", "old -2", "asked for `old SIZE`"),
        ("old 2", "old " + "9" * 5000, "asked for `old SIZE`"),
        ("old 2", "old  2", "asked for `old SIZE`"),
        ("pkaw=\n", "pkaw\n", "asked for a hash in base64, found 'PlRN"),
        ("pkaw=\n", "pkaw= \n", "asked for a hash in base64, found 'PlRN"),
        ("PlRN", "PlRé", "asked for a hash in base64, found 'PlRé"),
        ("PlRN", ("A" * 43 + "=\n") * 60 + "PlRN", "asked for at most 63 lines of proof, found 64"),
    ],
)
def test_a_body_that_is_no_request_is_refused(before: str, after: str, message: str) -> None:
    with pytest.raises(WitnessRefusedError, match=message) as caught:
        AddCheckpoint.read(PUBLISHED.replace(before, after, 1))
    assert caught.value.status == 400


@given(st.lists(st.integers(0, 40), min_size=1, max_size=6))
@settings(max_examples=20, deadline=None)
def test_a_witness_signs_every_head_of_a_log_that_only_grows(steps: list[int]) -> None:
    witness, size = NEW, 0
    for step in steps:
        request = request_of(leaves_of(size + step), size)
        witness, signature = witness.add(AddCheckpoint.read(request.text), NOW_S + size)
        size += step
        note = Note.read(request.note).with_signatures([signature]).whole
        assert check_cosignatures(note, [WITNESS.public], 1) == {
            WITNESS.public: NOW_S + size - step
        }
        assert witness.heads[ORIGIN] == head_of(leaves_of(size))


def test_a_cosignature_has_the_published_form() -> None:
    note = Note.read(request_of(leaves_of(3), 0).note)
    signature = cosign(note.text, WITNESS, 1_679_315_147)
    assert signature.blob[:8].hex() == "00000000641850cb"
    message = b"cosignature/v1\ntime 1679315147\n" + note.text.encode()
    assert WITNESS.public.is_valid(signature.blob[8:], message)
    blob = base64.b64decode(signature.line.split()[-1])
    assert (blob[:4], len(blob)) == (WITNESS.public.id, 4 + 8 + 64)


def test_a_fork_of_one_size_is_refused_with_both_heads() -> None:
    mine, other = leaves_of(5), leaves_of(5, seed=1)
    with pytest.raises(ForkError) as caught:
        witness_of(mine).add(request_of(other, 5), NOW_S)
    for leaves in (mine, other):
        assert base64.b64encode(head_of(leaves).root).decode() in str(caught.value)
    assert caught.value.status == 409


def test_a_longer_fork_is_refused_with_both_heads() -> None:
    mine, other = leaves_of(5), leaves_of(9, seed=1)
    with pytest.raises(NotConsistentError, match=r"last 5 leaves .* now 9 leaves") as caught:
        witness_of(mine).add(request_of(other, 5), NOW_S)
    assert caught.value.status == 422


@pytest.mark.parametrize(("old", "error"), [(5, WitnessRefusedError), (3, OldSizeError)])
def test_a_tree_that_shrank_is_refused_with_both_heads(
    old: int, error: type[WitnessRefusedError]
) -> None:
    request = request_of(leaves_of(4), min(old, 4))
    with pytest.raises(error, match=r"last 5 leaves .* now 4 leaves") as caught:
        witness_of(leaves_of(5)).add(AddCheckpoint(old, request.proof, request.note), NOW_S)
    assert caught.value.status == (400 if old == 5 else 409)


def test_a_request_from_another_size_is_refused_with_the_size() -> None:
    with pytest.raises(OldSizeError) as caught:
        witness_of(leaves_of(5)).add(request_of(leaves_of(9), 0), NOW_S)
    assert (caught.value.status, caught.value.size) == (409, 5)


def test_a_proof_for_an_unchanged_tree_is_empty() -> None:
    witness, request = witness_of(leaves_of(5)), request_of(leaves_of(5), 5)
    assert witness.add(request, NOW_S)[0] == witness
    with pytest.raises(NotConsistentError):
        witness.add(AddCheckpoint(5, (bytes(32),), request.note), NOW_S)


def test_an_empty_tree_has_one_root() -> None:
    wrong = sign_checkpoint(ORIGIN, Head(0, bytes(32)), [KEY]).whole
    with pytest.raises(ForkError):
        NEW.add(AddCheckpoint(0, (), wrong), NOW_S)


def test_only_logs_and_keys_that_are_known_get_a_cosignature() -> None:
    request = request_of(leaves_of(3), 0)
    with pytest.raises(UnknownLogError, match=f"found {ORIGIN}") as unknown:
        Witness(WITNESS, {}).add(request, NOW_S)
    with pytest.raises(NotSignedError, match="signature: asked for one of") as unsigned:
        NEW.add(request_of(leaves_of(3), 0, PrivateKey(ORIGIN, bytes(32))), NOW_S)
    changed = request.note.replace("\n3\n", "\n4\n")
    with pytest.raises(NotSignedError, match="does not fit the text"):
        NEW.add(AddCheckpoint(0, (), changed), NOW_S)
    for note in ("", "a\n1\nb\n\n— x AAAAAAA=\n", "a\nb\n"):
        with pytest.raises(WitnessRefusedError) as malformed:
            NEW.add(AddCheckpoint(0, (), note), NOW_S)
        assert malformed.value.status == 400
    assert (unknown.value.status, unsigned.value.status) == (404, 403)


def test_readers_count_the_witnesses_that_they_know() -> None:
    note = cosigned(request_of(leaves_of(3), 0).note, WITNESS)
    known = [WITNESS.public, SECOND.public]
    assert list(check_cosignatures(note, known, 1)) == [WITNESS.public]
    with pytest.raises(SignatureError, match=r"asked for 2 cosignatures, found grid.example/w1"):
        check_cosignatures(note, known, 2)
    assert len(check_cosignatures(cosigned(note, SECOND), known, 2)) == 2
    with pytest.raises(SignatureError, match="asked for 1 cosignatures, found none"):
        check_cosignatures(note, [SECOND.public], 1)


def test_one_key_under_two_names_is_one_witness() -> None:
    renamed = PrivateKey("second.example", WITNESS.seed, COSIGNATURE)
    note = cosigned(request_of(leaves_of(3), 0).note, WITNESS, renamed)
    with pytest.raises(SignatureError, match="asked for 2 cosignatures"):
        check_cosignatures(note, [WITNESS.public, renamed.public], 2)


def test_every_changed_byte_of_a_cosigned_checkpoint_is_found() -> None:
    whole = cosigned(request_of(leaves_of(3), 0).note, WITNESS).encode()
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1
        note = changed.decode("utf-8", "replace")
        try:
            check_cosignatures(note, [WITNESS.public], 1)
        except SignatureError:
            continue
        # Only the line of the log's own key, which a check of witnesses leaves out, may change.
        assert Note.read(note).text == Note.read(whole.decode()).text
        assert note.splitlines()[-1] == whole.decode().splitlines()[-1]


def test_the_key_of_a_log_is_no_witness() -> None:
    with pytest.raises(UsageError, match="asked for a key of algorithm 4, found 1"):
        check_cosignatures(request_of(leaves_of(3), 0).note, [KEY.public], 1)
    as_witness = PublicKey(ORIGIN, KEY.public.raw, COSIGNATURE)
    with pytest.raises(SignatureError, match="found none"):
        check_cosignatures(request_of(leaves_of(3), 0).note, [as_witness], 1)

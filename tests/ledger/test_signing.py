"""Keys and signed notes."""

from __future__ import annotations

from pathlib import Path

import pytest

from steppe.errors import UsageError
from steppe.ledger.signing import (
    COSIGNATURE,
    Note,
    PrivateKey,
    PublicKey,
    SignatureError,
    sign_note,
)

TEXT = "example.org/steppe\n3\nMJO8d5tAK7zXKgCmGzGJmHkLGzwZ8g==\n"
# The example of c2sp.org/signed-note and of Go's golang.org/x/mod/sumdb/note.
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZ"
    "SNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


def key_of(name: str = "example.org/steppe") -> PrivateKey:
    return PrivateKey.new(name)


def test_the_published_note_of_another_program_is_valid() -> None:
    key = PublicKey.read(GO_KEY)
    assert key.text == GO_KEY
    assert Note.read(GO_NOTE).check([key]) == key


def test_a_signed_note_is_read_back() -> None:
    key = key_of()
    note = sign_note(TEXT, [key])
    assert Note.read(note.whole) == note
    assert note.check([PublicKey.read(key.public.text)]) == key.public


@pytest.mark.parametrize("place", range(0, len(TEXT), 7))
def test_a_changed_text_is_not_signed(place: int) -> None:
    key = key_of()
    changed = TEXT[:place] + ("x" if TEXT[place] != "x" else "y") + TEXT[place + 1 :]
    note = Note(changed, sign_note(TEXT, [key]).signatures)
    with pytest.raises(SignatureError, match="does not fit the text"):
        note.check([key.public])


def test_a_note_of_an_old_and_a_new_key_is_valid_for_readers_of_either() -> None:
    old, new, other = key_of(), key_of(), key_of("example.org/other")
    note = sign_note(TEXT, [old, new])
    assert note.check([old.public]) == old.public
    assert note.check([new.public]) == new.public
    with pytest.raises(SignatureError, match="asked for one of example"):
        note.check([other.public])


def test_each_key_signs_a_note_once() -> None:
    key = key_of()
    note = sign_note(TEXT, [key])
    assert note.with_signatures(note.signatures) == note


def test_a_key_is_written_once_and_read_back_by_its_owner_only(tmp_path: Path) -> None:
    key, path = key_of(), tmp_path / "key"
    key.write(path)
    assert PrivateKey.read(path) == key
    with pytest.raises(UsageError, match="cannot write the key"):
        key.write(path)
    path.chmod(0o644)
    with pytest.raises(UsageError, match="asked for a file that only its owner reads, found 644"):
        PrivateKey.read(path)


def test_a_damaged_key_is_refused(tmp_path: Path) -> None:
    key, path = key_of(), tmp_path / "key"
    key.write(path)
    text = path.read_text().replace(key.public.id.hex(), "00000000")
    path.write_text(text)
    with pytest.raises(UsageError, match="found one that is damaged"):
        PrivateKey.read(path)
    path.write_text("nothing")
    with pytest.raises(UsageError, match="asked for a private key, found none"):
        PrivateKey.read(path)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "asked for a key `name"),
        ("a+b", "asked for a key `name"),
        ("a+00000000+AAAA", "asked for an Ed25519 key, found algorithm 0"),
        (GO_KEY.replace("c74f20a3", "c74f20a4"), "found the id c74f20a3"),
    ],
)
def test_other_lines_are_no_public_key(text: str, found: str) -> None:
    with pytest.raises(UsageError, match=found):
        PublicKey.read(text)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "x" * 256])
def test_a_key_needs_a_plain_name(name: str) -> None:
    with pytest.raises(UsageError, match="asked for a key name"):
        PrivateKey.new(name)


@pytest.mark.parametrize(
    "note",
    ["", "text\n", "text\n\n", "text\n\n- a AAAAAAAA\n", "text\n\n— a %%\n", "a\n\n— a AA==\n"],
)
def test_other_texts_are_no_signed_note(note: str) -> None:
    with pytest.raises(SignatureError):
        Note.read(note)


def test_a_witness_has_another_id_than_a_log_with_the_same_key() -> None:
    key = key_of("witness.example")
    assert PublicKey(key.name, key.public.raw, COSIGNATURE).id != key.public.id

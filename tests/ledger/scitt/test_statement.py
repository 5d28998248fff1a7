"""An entry as a transparent statement: others can read it, and no byte of it can be changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ledger.scitt.cose_reader import MalformedError, check_receipt, decoded, message_of
from tests.ledger.test_receipt import RECEIPT

from steppe.ledger.log.log import Log
from steppe.ledger.scitt.cbor import encoded
from steppe.ledger.scitt.statement import Transparent, subject_of, transparent
from steppe.ledger.signing import PrivateKey
from steppe.ledger.tree import ProofError

ORIGIN = "example.org/steppe"
KEY = PrivateKey(ORIGIN, bytes(range(32)))
PEM = KEY.public.pem
VECTOR = Path(__file__).with_name("scitt_cose_vector.json")
"""A statement that scitt-cose 0.5.0 has verified; see `test_the_statement_is_the_verified_one`."""

integers = st.integers(-(2**64), 2**64 - 1)
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | integers | st.binary() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.integers(-500, 500), inner),
    max_leaves=12,
)


def made(folder: Path, size: int, index: int, entry: bytes = RECEIPT.entry) -> Transparent:
    log = Log(folder, ORIGIN, [KEY])
    log.add([entry if place == index else b"%d" % place for place in range(size)])
    return transparent(entry, log.proof(index), KEY)


@given(values)
@settings(max_examples=30, deadline=None)
def test_a_reader_of_cbor_finds_the_same_value(value: Any) -> None:
    assert decoded(encoded(value)) == value


@pytest.mark.parametrize(
    ("value", "coded"),
    [
        # RFC 8949, appendix A.
        (23, "17"),
        (24, "1818"),
        (1000, "1903e8"),
        (18446744073709551615, "1bffffffffffffffff"),
        (-1, "20"),
        (-1000, "3903e7"),
        (b"\x01\x02\x03\x04", "4401020304"),
        ("\N{LATIN SMALL LETTER U WITH DIAERESIS}", "62c3bc"),
        (None, "f6"),
        ([1, [2, 3], [4, 5]], "8301820203820405"),
        ({1: 2, 3: 4}, "a201020304"),
        # Section 4.2.1: keys in the order of their encodings.
        ({-1: 0, 100: 0, 10: 0}, "a30a001864002000"),
    ],
)
def test_values_have_the_published_encoding(value: Any, coded: str) -> None:
    assert encoded(value).hex() == coded


@pytest.mark.parametrize(("size", "index"), [(1, 0), (2, 1), (64, 17), (700, 699)])
def test_a_statement_holds_the_entry_and_its_receipt(tmp_path: Path, size: int, index: int) -> None:
    found = made(tmp_path, size, index)
    statement = message_of(found.statement)
    assert statement.payload == RECEIPT.entry
    assert statement.is_signed(PEM, RECEIPT.entry)
    claims = {1: ORIGIN, 2: f"receipt/{RECEIPT.id}"}
    assert statement.protected == {1: -8, 3: "application/json", 4: KEY.public.id, 15: claims}
    assert statement.unprotected == {394: [found.receipt]}
    assert check_receipt(found.receipt, RECEIPT.entry, PEM) == (claims, size, index)


def test_every_changed_byte_of_a_receipt_is_found(tmp_path: Path) -> None:
    whole = made(tmp_path, 5, 3).receipt
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1
        with pytest.raises(
            (MalformedError, ProofError, KeyError, ValueError, IndexError, TypeError)
        ):
            check_receipt(bytes(changed), RECEIPT.entry, PEM)
    with pytest.raises(MalformedError):
        check_receipt(whole, RECEIPT.entry + b" ", PEM)


def test_the_subject_is_the_kind_and_the_id() -> None:
    assert subject_of(b'{"kind":"tariff","id":"flat-1"}', 4) == "tariff/flat-1"
    assert subject_of(b'{"kind":"period"}', 4) == "period/4"
    assert subject_of(b"[]", 4) == subject_of(b"\xff", 4) == "entry/4"


def test_the_statement_is_the_verified_one(tmp_path: Path) -> None:
    """The bytes are those that `tests/ledger/scitt/with_scitt_cose.py` has verified."""
    vector = json.loads(VECTOR.read_text())
    found = made(tmp_path, vector["size"], vector["index"], vector["entry"].encode())
    assert found.statement.hex() == vector["statement"]
    assert found.receipt.hex() == vector["receipt"]
    assert vector["pem"] == PEM

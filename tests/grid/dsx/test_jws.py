from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fixtures.dsx import ISV, NOW_S, cached_key, signed_with, signer_of

from steppe.errors import UsageError
from steppe.grid.dsx.envelope import Envelope, MessageError
from steppe.grid.dsx.jws import Algorithm, KeyRing, Signer, TrustedKey
from steppe.grid.dsx.seal import seal
from steppe.grid.dsx.topics import LOAD_TARGET

CONTENT = {"targets": [1]}
VALUES = st.none() | st.booleans() | st.integers() | st.sampled_from(["ES256", "key-acme", "none"])
HEADERS = st.dictionaries(
    st.sampled_from(["alg", "kid", "ce", "crit", "b64", "jwk", "x"]),
    VALUES | st.lists(VALUES, max_size=2) | st.dictionaries(st.sampled_from(["id"]), VALUES),
)
JSON = HEADERS | VALUES | st.lists(VALUES, max_size=2) | st.text(max_size=9)


def pem_of(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


@pytest.fixture
def envelope() -> Envelope:
    return seal(ISV, LOAD_TARGET, CONTENT, NOW_S)


@pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
def test_a_signed_content_is_read_with_the_key_of_its_source(algorithm: Algorithm) -> None:
    signer = signer_of("isv", "acme", algorithm)
    ring = KeyRing([signer.public_key(bound=True)])
    assert ring.verify(seal(signer, LOAD_TARGET, CONTENT, NOW_S)) == CONTENT


def test_a_key_speaks_for_its_source_only(envelope: Envelope) -> None:
    other = replace(ISV.public_key(), source="//grid/v1/isv/other")
    with pytest.raises(MessageError, match="key key-acme is of //grid/v1/isv/other, found source"):
        KeyRing([other]).verify(envelope)


def test_an_unknown_key_is_refused(envelope: Envelope) -> None:
    with pytest.raises(MessageError, match="a key that is trusted, found kid 'key-acme'"):
        KeyRing([]).verify(envelope)


def test_a_content_that_was_changed_is_refused(envelope: Envelope) -> None:
    header, _, signature = envelope.data.split(".")
    _, other, _ = seal(ISV, LOAD_TARGET, {"targets": [2]}, NOW_S).data.split(".")
    forged = replace(envelope, data=f"{header}.{other}.{signature}")
    with pytest.raises(MessageError, match="the signature is not one of key key-acme"):
        KeyRing([ISV.public_key()]).verify(forged)


@pytest.mark.parametrize("data", ["", "a", "a.b", "a.b.c", "e30.e30.", "\u00e9.e30.e30", "....."])
def test_a_text_that_is_not_signed_is_refused(envelope: Envelope, data: str) -> None:
    with pytest.raises(MessageError, match=r"data: asked for"):
        KeyRing([ISV.public_key()]).verify(replace(envelope, data=data))


@pytest.mark.parametrize(
    "header",
    ["eyJhbGciOiJub25lIiwia2lkIjoia2V5LWFjbWUifQ", "eyJhbGciOiJIUzI1NiIsImtpZCI6ImtleS1hY21lIn0"],
    ids=["none", "HS256"],
)
def test_the_message_does_not_choose_the_algorithm(envelope: Envelope, header: str) -> None:
    _, content, signature = envelope.data.split(".")
    forged = replace(envelope, data=f"{header}.{content}.{signature}")
    with pytest.raises(MessageError, match="key key-acme is for ES256, found"):
        KeyRing([ISV.public_key()]).verify(forged)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id", "1b4e28ba-2fa1-4d3b-a3f5-ef19b5a7633b"),
        ("type", "grid.powerstate.status.v1"),
        ("time", "2026-12-01T12:00:00.001Z"),
    ],
)
def test_attributes_that_the_broker_changes_are_seen(
    envelope: Envelope, name: str, value: str
) -> None:
    changed: dict[str, Any] = {name: value}
    with pytest.raises(MessageError, match=f"{name} as signed"):
        KeyRing([ISV.public_key()]).verify(replace(envelope, **changed))


@pytest.mark.parametrize("bound", [False, True])
def test_a_bound_key_requires_signed_attributes(envelope: Envelope, bound: bool) -> None:
    key = ISV.public_key(bound=bound)
    plain = replace(envelope, data=signed_with(key, ISV.pem, {"x-other": 1}, CONTENT))
    if bound:
        with pytest.raises(MessageError, match="id as signed, None"):
            KeyRing([key]).verify(plain)
    else:
        assert KeyRing([key]).verify(plain) == CONTENT


@settings(max_examples=40, deadline=None)
@given(header=JSON, content=st.binary(max_size=8))
def test_whatever_stands_in_a_header_is_refused(header: object, content: bytes) -> None:
    parts = json.dumps(header).encode(), content, b"signature"
    text = ".".join(urlsafe_b64encode(each).decode().rstrip("=") for each in parts)
    forged = replace(seal(ISV, LOAD_TARGET, CONTENT, NOW_S), data=text)
    with pytest.raises(MessageError):
        KeyRing([ISV.public_key()]).verify(forged)


def test_critical_parameters_are_refused(envelope: Envelope) -> None:
    key = ISV.public_key()
    data = signed_with(key, ISV.pem, {"crit": ["b64"], "b64": True}, CONTENT)
    with pytest.raises(MessageError, match="a header without crit and b64"):
        KeyRing([key]).verify(replace(envelope, data=data))


def test_a_content_that_is_no_object_is_refused(envelope: Envelope) -> None:
    data = signed_with(ISV.public_key(), ISV.pem, {}, [1])
    with pytest.raises(MessageError, match="data: asked for a JSON object, found list"):
        KeyRing([ISV.public_key()]).verify(replace(envelope, data=data))


def test_weak_and_wrong_keys_are_refused() -> None:
    small = pem_of(rsa.generate_private_key(65537, 1024))
    p384 = pem_of(ec.generate_private_key(ec.SECP384R1()))
    cases: list[tuple[Algorithm, str, str]] = [
        ("RS256", small, "asked for 2048 bits or more, found 1024"),
        ("ES256", p384, "asks for a key on P-256, found P-384"),
        ("RS256", cached_key("ES256"), "asked for a PEM key for RS256"),
        ("ES256", "text", "asked for a PEM key for ES256"),
    ]
    for algorithm, pem, found in cases:
        with pytest.raises(UsageError, match=found):
            KeyRing([TrustedKey("k", ISV.source, algorithm, pem)])


def test_a_signer_needs_a_private_key() -> None:
    with pytest.raises(UsageError, match="asked for a private key, found a public one"):
        Signer("k", ISV.source, "ES256", ISV.public_key().pem)


def test_two_keys_of_one_name_are_refused() -> None:
    with pytest.raises(UsageError, match="found two of key-acme"):
        KeyRing([ISV.public_key(), ISV.public_key()])


def test_a_private_key_is_not_shown() -> None:
    assert "PRIVATE" not in repr(ISV)

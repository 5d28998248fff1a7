from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import OKPKey

from steppe.errors import UsageError
from steppe.ledger.signing import PrivateKey
from steppe.sites.trust.replay import ReplayGuard
from steppe.sites.trust.token import LEEWAY_S, LIFE_S, Token, TokenError, read_token, sign_token

NOW_S = 1_790_000_000
KEY, NEXT_KEY, OTHER_KEY = (PrivateKey("hohhot", bytes([number]) * 32) for number in (1, 2, 3))
TOKEN = Token("hohhot", "shanghai", "acme", "req-1", 5_000_000_000, NOW_S, NOW_S + LIFE_S)


def read(text: str, now_s: float = NOW_S, home: str = "hohhot", target: str = "shanghai") -> Token:
    keys = [NEXT_KEY.public, KEY.public]
    return read_token(text, home=home, target=target, keys=keys, now_s=now_s)


def coded(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def signed(head: Any, claims: Any) -> str:
    """Return a JWS with a signature that fits, whatever it says."""
    text = f"{coded(head)}.{coded(claims)}"
    signature = base64.urlsafe_b64encode(KEY.sign(text.encode())).rstrip(b"=").decode()
    return f"{text}.{signature}"


HEAD = {"alg": "Ed25519", "kid": KEY.public.id.hex(), "typ": "steppe-tenant+jwt"}
CLAIMS = {
    "v": 1,
    "iss": "hohhot",
    "aud": "shanghai",
    "sub": "acme",
    "jti": "req-1",
    "max_uj": 5,
    "iat": NOW_S,
    "exp": NOW_S + 60,
}


def test_a_token_is_read_as_it_was_signed() -> None:
    assert read(sign_token(TOKEN, KEY)) == TOKEN
    assert read(sign_token(TOKEN, NEXT_KEY)) == TOKEN
    assert len(sign_token(TOKEN, KEY)) < 500


def test_another_library_reads_a_token() -> None:
    raw = base64.urlsafe_b64encode(KEY.public.raw).rstrip(b"=").decode()
    key = OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": raw})
    found = jws.deserialize_compact(sign_token(TOKEN, KEY), key, algorithms=["Ed25519"])
    assert json.loads(found.payload)["aud"] == "shanghai"


def test_a_text_that_is_not_ascii_is_not_signed() -> None:
    with pytest.raises(UsageError):
        sign_token(replace(TOKEN, tenant="Zoë"), KEY)


@pytest.mark.parametrize(
    ("home", "target", "found"),
    [
        ("guizhou", "shanghai", "token.iss: asked for guizhou, found hohhot"),
        ("hohhot", "guizhou", "token.aud: asked for guizhou, found shanghai"),
    ],
)
def test_a_token_of_another_home_or_for_another_site_is_refused(
    home: str, target: str, found: str
) -> None:
    with pytest.raises(TokenError) as error:
        read(sign_token(TOKEN, KEY), home=home, target=target)
    assert str(error.value) == found


@pytest.mark.parametrize(
    ("head", "claims", "found"),
    [
        (HEAD | {"alg": "none"}, CLAIMS, "asked for Ed25519, found 'none'"),
        (HEAD | {"alg": "HS256"}, CLAIMS, "asked for Ed25519, found 'HS256'"),
        (HEAD | {"alg": "EdDSA"}, CLAIMS, "asked for Ed25519, found 'EdDSA'"),
        (HEAD | {"typ": "JWT"}, CLAIMS, "asked for type steppe-tenant+jwt"),
        (HEAD | {"crit": ["b64"], "b64": False}, CLAIMS, "asked for Ed25519"),
        (HEAD | {"kid": OTHER_KEY.public.id.hex()}, CLAIMS, "asked for a known key"),
        ([], CLAIMS, "token: header: asked for an object"),
        (HEAD, [], "token: asked for an object"),
        (HEAD, CLAIMS | {"v": 2}, "token.v: asked for 1, found 2"),
        (HEAD, CLAIMS | {"exp": "soon"}, "token.exp: asked for an integer"),
        (HEAD, CLAIMS | {"exp": NOW_S + 60.5}, "token.exp: asked for an integer"),
        (HEAD, CLAIMS | {"exp": NOW_S + 61}, "token.exp: asked for a life of at most 60 s"),
        (HEAD, CLAIMS | {"exp": NOW_S}, "token.exp: asked for a life of at most 60 s"),
        (HEAD, CLAIMS | {"max_uj": -1}, "token.max_uj"),
        (HEAD, CLAIMS | {"aud": ["shanghai"]}, "token.aud"),
        (HEAD, CLAIMS | {"jti": ""}, "token.jti"),
        (HEAD, CLAIMS | {"sub": "a\nb"}, "token.sub"),
    ],
)
def test_a_signed_token_that_is_wrong_is_refused(head: Any, claims: Any, found: str) -> None:
    with pytest.raises(TokenError) as error:
        read(signed(head, claims))
    assert found in str(error.value)


@pytest.mark.parametrize("text", ["", ".", "..", "a.b.c", "é.é.é", "a" * 5000, "a.b.c.d", "=.=.="])
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(TokenError):
        read(text)


@given(st.integers(0, len(sign_token(TOKEN, KEY)) - 1), st.characters(max_codepoint=127))
def test_a_token_with_one_other_character_is_refused(place: int, character: str) -> None:
    text = sign_token(TOKEN, KEY)
    changed = text[:place] + character + text[place + 1 :]
    if changed != text:
        with pytest.raises(TokenError):
            read(changed)


@given(st.floats(-200, 200))
def test_a_token_is_valid_only_around_its_life(offset_s: float) -> None:
    text = sign_token(TOKEN, KEY)
    if -LEEWAY_S <= offset_s < LIFE_S + LEEWAY_S:
        assert read(text, NOW_S + offset_s) == TOKEN
    else:
        with pytest.raises(TokenError, match=r"token\.exp"):
            read(text, NOW_S + offset_s)


def test_a_token_of_a_clock_far_ahead_is_refused_though_it_has_not_expired() -> None:
    ahead = replace(TOKEN, issued_s=NOW_S + 3600, expires_s=NOW_S + 3660)
    with pytest.raises(TokenError, match="the clocks of the sites differ"):
        read(sign_token(ahead, KEY))


def test_a_token_is_used_once() -> None:
    guard = ReplayGuard()
    guard.use(TOKEN, NOW_S)
    with pytest.raises(TokenError, match="request req-1 of hohhot was here before"):
        guard.use(TOKEN, NOW_S + LIFE_S + LEEWAY_S)
    guard.use(replace(TOKEN, home="guizhou"), NOW_S)
    guard.use(replace(TOKEN, request="req-2"), NOW_S)


def test_a_clock_that_is_set_back_lets_no_token_be_used_again() -> None:
    guard = ReplayGuard()
    guard.use(TOKEN, NOW_S)
    later = replace(TOKEN, request="req-2", issued_s=NOW_S + 600, expires_s=NOW_S + 660)
    guard.use(later, NOW_S + 600)
    with pytest.raises(TokenError, match="was set back"):
        guard.use(TOKEN, NOW_S + 1)
    with pytest.raises(TokenError, match="was here before"):
        guard.use(later, NOW_S + 1)


def test_one_home_cannot_take_the_room_of_another() -> None:
    guard = ReplayGuard(most=2)
    for number in range(2):
        guard.use(replace(TOKEN, request=f"req-{number}"), NOW_S)
    with pytest.raises(TokenError, match="at most 2 requests a minute of hohhot"):
        guard.use(replace(TOKEN, request="req-2"), NOW_S)
    guard.use(replace(TOKEN, home="guizhou"), NOW_S)
    guard.use(replace(TOKEN, request="req-3", expires_s=NOW_S + 160), NOW_S + 100)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 60), st.integers(-300, 300)), max_size=40)
)
def test_whatever_the_clock_does_no_token_is_used_twice(
    uses: list[tuple[int, int, int]],
) -> None:
    used: set[Token] = set()
    guard, now_s = ReplayGuard(), NOW_S
    for number, age_s, step_s in uses:
        now_s += step_s
        token = replace(
            TOKEN, request=f"req-{number}", issued_s=now_s - age_s, expires_s=now_s - age_s + 60
        )
        tokens = [token, *used]
        for each in tokens:
            try:
                guard.use(read(sign_token(each, KEY), now_s), now_s)
            except TokenError:
                continue
            assert each not in used
            used.add(each)

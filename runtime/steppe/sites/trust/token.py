"""Tokens of tenants: the home site names the tenant of a request, and its most joules.

A token is a compact JWS (RFC 7515) with Ed25519 (RFC 9864). It is for one request and one site, and
lives 60 s. Its end is the only time of another host that is compared with a clock here, with a
leeway; the numbers of beats and local times do the rest.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from steppe.ledger.receipt import canonical
from steppe.ledger.signing import PrivateKey, PublicKey
from steppe.sites.beats.fields import NAME, Fields, SiteMessageError

LIFE_S = 60
"""Longest life of a token, s."""
LEEWAY_S = 5.0
"""By how much the clocks of two sites may differ, s."""
HEADER = "x-steppe-site-token"
"""Header that carries the token of a forwarded request."""
_TYPE, _ALGORITHM, _VERSION = "steppe-tenant+jwt", "Ed25519", 1
_CHARS = 4096
_TEXT, _MOST = 128, (1 << 63) - 1


class TokenError(SiteMessageError):
    """A token is refused."""


@dataclass(frozen=True, slots=True)
class Token:
    """What a home site says of one request.

    Attributes:
        home: The site of the tenant, which pays.
        target: The only site that may accept it.
        tenant: The tenant, as the home site calls it; ASCII.
        request: Id of the request, unique at the home site; ASCII.
        most_uj: Energy that the home site pays for, uJ.
        issued_s: Clock of the home site when it was signed, s since the Unix epoch.
        expires_s: Its end by that clock, s.
    """

    home: str
    target: str
    tenant: str
    request: str
    most_uj: int
    issued_s: int
    expires_s: int


def sign_token(token: Token, key: PrivateKey) -> str:
    """Return a token as text.

    Raises:
        UsageError: A text of it is not ASCII.
    """
    assert 0 < token.expires_s - token.issued_s <= LIFE_S, "life of a token"
    head = canonical({"alg": _ALGORITHM, "kid": key.public.id.hex(), "typ": _TYPE})
    claims = {
        "v": _VERSION,
        "iss": token.home,
        "aud": token.target,
        "sub": token.tenant,
        "jti": token.request,
        "max_uj": token.most_uj,
        "iat": token.issued_s,
        "exp": token.expires_s,
    }
    signed = f"{_coded(head)}.{_coded(canonical(claims))}"
    return f"{signed}.{_coded(key.sign(signed.encode()))}"


def read_token(
    text: str,
    *,
    home: str,
    target: str,
    keys: Sequence[PublicKey],
    now_s: float,
    leeway_s: float = LEEWAY_S,
) -> Token:
    """Return a token after all checks but that it was not used before.

    Args:
        text: The token.
        home: The site that has sent the request, as its certificate names it.
        target: This site.
        keys: The keys of `home`.
        now_s: Clock of this host, s since the Unix epoch.
        leeway_s: By how much it may differ from that of `home`, s.

    Raises:
        TokenError: The first thing that is wrong.
    """
    token = signed_token(text, keys)
    for name, asked, found in (("iss", home, token.home), ("aud", target, token.target)):
        if asked != found:
            raise TokenError(f"token.{name}: asked for {asked}, found {found}")
    life_s = token.expires_s - token.issued_s
    if not 0 < life_s <= LIFE_S:
        raise TokenError(f"token.exp: asked for a life of at most {LIFE_S} s, found {life_s} s")
    left_s = token.expires_s - now_s
    if left_s <= -leeway_s:
        raise TokenError(
            f"token.exp: asked for a token that lives, found its end {-left_s:.0f} s ago"
        )
    if left_s > LIFE_S + leeway_s:
        asked = f"asked for an end in at most {LIFE_S} s"
        raise TokenError(
            f"token.exp: {asked}, found {left_s:.0f} s: the clocks of the sites differ"
        )
    return token


def signed_token(text: str, keys: Sequence[PublicKey]) -> Token:
    """Return a token that one of these keys has signed, whatever the time is.

    Args:
        text: The token.
        keys: Keys of the home site.

    Raises:
        TokenError: It is none, or none of them has.
    """
    try:
        return _claims(_signed_claims(text, keys))
    except SiteMessageError as error:
        raise TokenError(str(error)) from error


def _signed_claims(text: str, keys: Sequence[PublicKey]) -> Fields:
    """Return the claims of a token that one of these keys has signed.

    Raises:
        MessageError: It is none, or none has.
    """
    parts = text.split(".") if len(text) <= _CHARS and text.isascii() else []
    if len(parts) != 3:
        raise SiteMessageError(f"token: asked for a compact JWS of at most {_CHARS} characters")
    head = _object(parts[0], "token: header")
    if "crit" in head.values or head.values.get("alg") != _ALGORITHM:
        raise SiteMessageError(
            f"token: asked for {_ALGORITHM}, found {head.values.get('alg')!r:.20}"
        )
    if head.values.get("typ") != _TYPE:
        raise SiteMessageError(
            f"token: asked for type {_TYPE}, found {head.values.get('typ')!r:.40}"
        )
    key = next((each for each in keys if each.id.hex() == head.values.get("kid")), None)
    if key is None:
        raise SiteMessageError(
            f"token: asked for a known key, found {head.values.get('kid')!r:.20}"
        )
    if not key.is_valid(_decoded(parts[2], "token: signature"), f"{parts[0]}.{parts[1]}".encode()):
        raise SiteMessageError("token: its signature does not fit")
    return _object(parts[1], "token")


def _claims(claims: Fields) -> Token:
    if (version := claims.integer("v", 0, _MOST)) != _VERSION:
        raise SiteMessageError(f"token.v: asked for {_VERSION}, found {version}")
    return Token(
        home=claims.text("iss", 63, NAME),
        target=claims.text("aud", 63, NAME),
        tenant=claims.text("sub", _TEXT),
        request=claims.text("jti", _TEXT),
        most_uj=claims.integer("max_uj", 0, _MOST),
        issued_s=claims.integer("iat", 0, _MOST),
        expires_s=claims.integer("exp", 0, _MOST),
    )


def _object(part: str, where: str) -> Fields:
    try:
        value: Any = orjson.loads(_decoded(part, where))
    except orjson.JSONDecodeError as error:
        raise SiteMessageError(f"{where}: asked for JSON, found {error}") from error
    return Fields.of(value, where)


def _decoded(part: str, where: str) -> bytes:
    try:
        found = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise SiteMessageError(f"{where}: asked for base64url, found {part[:20]!r}") from error
    if _coded(found) != part:  # one text per value: padding and spare bits are refused
        raise SiteMessageError(f"{where}: asked for base64url without padding, found {part[:20]!r}")
    return found


def _coded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

"""Signed contents: JWS in compact form (RFC 7515) with ES256 or RS256, by joserfc.

A key belongs to one source. DSX Flex signs `data` only, so whoever runs the broker may change the
attributes beside it. Our own messages repeat them in the protected header, as `ce`; a receiver
that does not know this parameter ignores it. Where a message of others has `ce`, it must match;
a key that is `bound` requires it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from joserfc import jws
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, RSAKey

from steppe.errors import UsageError
from steppe.grid.dsx.envelope import Envelope, MessageError, json_object, shown

Algorithm = Literal["ES256", "RS256"]
_SMALLEST_RSA_BITS = 2048
_BOUND = ("id", "source", "type", "time")


def _registry(algorithm: str) -> jws.JWSRegistry:
    # RFC 7515 has unknown parameters ignored unless `crit` names them, and `crit` is refused below.
    return jws.JWSRegistry(algorithms=[algorithm], strict_check_header=False)


def _import(pem: str, algorithm: Algorithm, what: str) -> ECKey | RSAKey:
    try:
        if algorithm == "ES256":
            curve = ECKey.import_key(pem)
            found = str(curve.as_dict(private=False).get("crv"))
            if found != "P-256":
                raise UsageError(f"{what}: ES256 asks for a key on P-256, found {found}")
            return curve
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SecurityWarning)  # refused below, with its name
            key = RSAKey.import_key(pem)
    except (JoseError, ValueError) as error:
        raise UsageError(f"{what}: asked for a PEM key for {algorithm}, found {error}") from None
    bits = key.raw_value.key_size
    if bits < _SMALLEST_RSA_BITS:
        raise UsageError(f"{what}: asked for {_SMALLEST_RSA_BITS} bits or more, found {bits}")
    return key


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A public key, and the only source that it is valid for.

    Attributes:
        kid: Its name in the header of a JWS.
        source: `//grid/v1/<role>/<identifier>`.
        algorithm: The only algorithm that it is used with.
        pem: The key.
        bound: Whether its messages must repeat their attributes in the protected header.
    """

    kid: str
    source: str
    algorithm: Algorithm
    pem: str
    bound: bool = False


class KeyRing:
    """The keys that a site trusts."""

    def __init__(self, keys: Iterable[TrustedKey]) -> None:
        """Import the keys.

        Raises:
            UsageError: A key cannot be read or is too weak, or two have one name.
        """
        self._keys: dict[str, tuple[TrustedKey, ECKey | RSAKey]] = {}
        for each in keys:
            if each.kid in self._keys:
                raise UsageError(f"keys: asked for one key of each name, found two of {each.kid}")
            self._keys[each.kid] = each, _import(each.pem, each.algorithm, f"key {each.kid}")

    def verify(self, envelope: Envelope) -> dict[str, Any]:
        """Return the content of a message whose signature holds.

        Raises:
            MessageError: The signature is missing, wrong, of an unknown key or of another source.
        """
        try:
            parts = jws.extract_compact(envelope.data.encode())
            header = parts.headers()
            trusted, key = self._key(header, envelope.source)
            registry = _registry(trusted.algorithm)
            valid = jws.validate_compact(parts, key, [trusted.algorithm], registry)
        except (JoseError, ValueError) as error:
            raise MessageError(f"data: asked for a signed text, found {error}") from None
        if not valid:
            raise MessageError(f"data: the signature is not one of key {trusted.kid}")
        _check_bound(header, trusted, envelope)
        return json_object("data", parts.payload)

    def _key(self, header: Mapping[str, Any], source: str) -> tuple[TrustedKey, ECKey | RSAKey]:
        if "crit" in header or "b64" in header:
            raise MessageError("data: asked for a header without crit and b64, found one")
        kid = header.get("kid")
        found = self._keys.get(kid) if isinstance(kid, str) else None
        if found is None:
            raise MessageError(f"data: asked for a key that is trusted, found kid {shown(kid)}")
        trusted, _ = found
        if header.get("alg") != trusted.algorithm:
            asked = f"key {kid} is for {trusted.algorithm}"
            raise MessageError(f"data: {asked}, found {shown(header.get('alg'))}")
        if source != trusted.source:
            raise MessageError(f"data: key {kid} is of {trusted.source}, found source {source}")
        return found


def _check_bound(header: Mapping[str, Any], key: TrustedKey, envelope: Envelope) -> None:
    signed = header.get("ce")
    if signed is None and not key.bound:
        return
    for name in _BOUND:
        found = signed.get(name) if isinstance(signed, dict) else None
        if found != getattr(envelope, name):
            asked = f"{name} as signed, {shown(found)}"
            raise MessageError(f"message: asked for {asked}, found {getattr(envelope, name)}")


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs what one source sends.

    Attributes:
        kid: The name of its key.
        source: `//grid/v1/<role>/<identifier>`.
        algorithm: ES256 or RS256.
        pem: The private key.

    Raises:
        UsageError: The key cannot be read, is too weak, or is a public one.
    """

    kid: str
    source: str
    algorithm: Algorithm
    pem: str = field(repr=False)
    _key: ECKey | RSAKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        key = _import(self.pem, self.algorithm, f"key {self.kid}")
        if not key.is_private:
            raise UsageError(f"key {self.kid}: asked for a private key, found a public one")
        object.__setattr__(self, "_key", key)

    def sign(self, content: bytes, attributes: Mapping[str, str]) -> str:
        """Return the signed text of a content.

        Args:
            content: JSON.
            attributes: `id`, `source`, `type` and `time` of the message.
        """
        header = {"alg": self.algorithm, "kid": self.kid, "ce": dict(attributes)}
        return jws.serialize_compact(
            header, content, self._key, [self.algorithm], _registry(self.algorithm)
        )

    def public_key(self, *, bound: bool = False) -> TrustedKey:
        """Return the key that checks its signatures."""
        pem = self._key.as_pem(private=False).decode()
        return TrustedKey(self.kid, self.source, self.algorithm, pem, bound)


def new_key(algorithm: Algorithm) -> str:
    """Return a new private key, PEM."""
    if algorithm == "ES256":
        return ECKey.generate_key("P-256", private=True).as_pem(private=True).decode()
    return RSAKey.generate_key(_SMALLEST_RSA_BITS, private=True).as_pem(private=True).decode()

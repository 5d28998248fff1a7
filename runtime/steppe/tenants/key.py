"""API keys: `sk-steppe-PREFIX-SECRET`.

Only the SHA-256 of a key is kept. A slow hash with a salt protects passwords, which people choose
and reuse. The secret here is 256 random bits, so no list of likely ones exists, and finding it
from its hash takes about 2^255 tries (NIST SP 800-63B-4, 3.1.2.2 asks for 112 bits).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field

from steppe.errors import SteppeError

SECRET_BYTES = 32
_KEY = re.compile(r"sk-steppe-([0-9a-f]{8})-[A-Za-z0-9_-]{43}")


class KeyRefusedError(SteppeError):
    """A key is malformed, unknown, expired or revoked; the message contains no secret."""


@dataclass(frozen=True, slots=True)
class StoredKey:
    """What is kept of a key.

    Attributes:
        tenant: Name of its tenant.
        prefix: Its public part, unique.
        digest: SHA-256 of the whole key, hexadecimal.
        created_epoch_s: When it was made, s since the Unix epoch.
        expires_epoch_s: From when on it is refused, s since the Unix epoch; None for never.
        revoked_epoch_s: When it was revoked, s since the Unix epoch; None if it was not.
    """

    tenant: str
    prefix: str
    digest: str = field(repr=False)
    created_epoch_s: float = 0.0
    expires_epoch_s: float | None = None
    revoked_epoch_s: float | None = None

    def is_valid(self, now_epoch_s: float) -> bool:
        """Return whether the key is accepted at this time."""
        has_expired = self.expires_epoch_s is not None and now_epoch_s >= self.expires_epoch_s
        return self.revoked_epoch_s is None and not has_expired


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made: the only time that its text is known here.

    Attributes:
        text: The whole key.
        stored: What is kept of it.
    """

    text: str = field(repr=False)
    stored: StoredKey


def make_key(tenant: str, now_epoch_s: float, expires_epoch_s: float | None = None) -> NewKey:
    """Return a new key for a tenant.

    Its prefix begins with a letter: YAML reads others, such as `112931e3`, as numbers.
    """
    prefix = secrets.choice("abcdef") + secrets.token_hex(4)[1:]
    text = f"sk-steppe-{prefix}-{secrets.token_urlsafe(SECRET_BYTES)}"
    return NewKey(text, StoredKey(tenant, prefix, digest_of(text), now_epoch_s, expires_epoch_s))


def digest_of(text: str) -> str:
    """Return the SHA-256 of a key, hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def prefix_of(text: str) -> str:
    """Return the prefix of a key.

    Raises:
        KeyRefusedError: It is not a key of Steppe.
    """
    match = _KEY.fullmatch(text)
    if match is None:
        raise KeyRefusedError("asked for a key sk-steppe-PREFIX-SECRET, found another text")
    return match[1]


def matches(text: str, digest: str) -> bool:
    """Return whether a key has this digest; takes the same time wherever they differ."""
    return hmac.compare_digest(digest_of(text), digest)

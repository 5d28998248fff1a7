"""Finds the tenant of a key or of a name."""

from __future__ import annotations

from steppe.tenants.key import KeyRefusedError, StoredKey, matches, prefix_of
from steppe.tenants.tenant import KnownTenants, Tenant

_NO_DIGEST = "0" * 64
"""Compared with a key of an unknown prefix, so that both answers take the same time."""


class Directory:
    """All tenants and keys that a gateway has at one time."""

    def __init__(self, *sources: KnownTenants) -> None:
        """Take the tenants of these sources; the first one that has a name or a prefix counts."""
        self._tenants: dict[str, Tenant] = {}
        self._keys: dict[str, StoredKey] = {}
        for source in sources:
            names = {tenant.name for tenant in source.tenants} - self._tenants.keys()
            self._tenants.update({t.name: t for t in source.tenants if t.name in names})
            for key in source.keys:
                if key.tenant in names:
                    self._keys.setdefault(key.prefix, key)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all tenants."""
        return tuple(self._tenants)

    def tenant(self, name: str) -> Tenant | None:
        """Return the tenant of a name; None if it is unknown."""
        return self._tenants.get(name)

    def owner(self, key: str, now_epoch_s: float) -> Tenant:
        """Return the tenant of a key.

        Args:
            key: The whole key.
            now_epoch_s: The time, s since the Unix epoch.

        Raises:
            KeyRefusedError: The key is malformed, unknown, expired or revoked.
        """
        prefix = prefix_of(key)
        stored = self._keys.get(prefix)
        if not matches(key, _NO_DIGEST if stored is None else stored.digest) or stored is None:
            raise KeyRefusedError(f"the key sk-steppe-{prefix}-... is unknown")
        if stored.revoked_epoch_s is not None:
            raise KeyRefusedError(f"the key sk-steppe-{prefix}-... is revoked")
        if not stored.is_valid(now_epoch_s):
            raise KeyRefusedError(f"the key sk-steppe-{prefix}-... has expired")
        return self._tenants[stored.tenant]

"""What each tenant used: requests, tokens and joules per model and hour."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from steppe.gateway.ended_requests import iso

HOUR_S = 3600
MOST_HOURS = 24 * 8
"""Hours that are kept."""

UsageKey = tuple[str, str, int]
"""Tenant, model and hour of some usage."""


@dataclass(frozen=True, slots=True)
class UsageRow:
    """The usage of one tenant of one model in one hour.

    Attributes:
        tenant: The tenant.
        model: The model, or its adapter, by the name that clients use.
        hour: Begin of the hour in which the requests arrived, hours since the Unix epoch.
        requests: Requests that ended.
        completed: Those of them that completed.
        prompt_tokens: Prompt tokens, cached ones included.
        cached_tokens: Those of them that the prefix cache held.
        output_tokens: Tokens generated.
        energy_j: Energy charged to them, J.
        source: The worst source of these joules.
        boundary: What they enclose: `gpu`, `node` or `site`.
    """

    tenant: str
    model: str
    hour: int
    requests: int = 0
    completed: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    energy_j: float = 0.0
    source: str = "counter"
    boundary: str = "gpu"

    @property
    def key(self) -> UsageKey:
        """Tenant, model and hour."""
        return self.tenant, self.model, self.hour

    def shown(self) -> dict[str, Any]:
        """Return it as clients see it."""
        return {**asdict(self), "hour": iso(self.hour * HOUR_S)}


class UsageTable:
    """The usage of the last `MOST_HOURS` hours."""

    def __init__(self) -> None:
        """Begin without rows."""
        self._rows: dict[UsageKey, UsageRow] = {}

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._rows)

    def set(self, rows: Iterable[UsageRow]) -> None:
        """Replace rows by newer ones, or add them."""
        for row in rows:
            self._rows[row.key] = row
        if self._rows:
            oldest = max(row.hour for row in self._rows.values()) - MOST_HOURS
            for key in [key for key in self._rows if key[2] <= oldest]:
                del self._rows[key]

    def rows(
        self, tenant: str | None = None, model: str | None = None, since_s: float = 0.0
    ) -> list[UsageRow]:
        """Return rows, the oldest hour first.

        Args:
            tenant: Only this tenant's; None for all.
            model: Only this model's; None for all.
            since_s: Only hours that end after this, s since the Unix epoch.
        """
        found = [
            row
            for row in self._rows.values()
            if (tenant is None or row.tenant == tenant)
            and (model is None or row.model == model)
            and (row.hour + 1) * HOUR_S > since_s
        ]
        return sorted(found, key=lambda row: (row.hour, row.tenant, row.model))

"""Sums the usage of each tenant by model and hour, from the requests that are recorded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from steppe.energy.window import worst
from steppe.gateway.usage import HOUR_S, MOST_HOURS, UsageKey, UsageRow
from steppe.report.records import RequestRecord


class UsageTotals:
    """Running totals by tenant, model and hour; it notes which have changed.

    Attributes:
        began_epoch_s: When the run began, s since the Unix epoch.
    """

    def __init__(self, began_epoch_s: float) -> None:
        """Begin without requests at the begin of a run, s since the Unix epoch."""
        self.began_epoch_s = began_epoch_s
        self._rows: dict[UsageKey, UsageRow] = {}
        self._changed: set[UsageKey] = set()

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._rows)

    def add(self, requests: Iterable[RequestRecord]) -> None:
        """Add requests whose energy is complete."""
        for request in requests:
            hour = int((self.began_epoch_s + request.arrival_s) // HOUR_S)
            key = request.tenant, request.adapter or request.model, hour
            if key not in self._rows:
                self._forget(hour - MOST_HOURS)
            self._rows[key] = _added(self._rows.get(key) or UsageRow(*key), request)
            self._changed.add(key)

    def copy(self) -> UsageTotals:
        """Return the same totals, all of them changed, for a gateway that has none."""
        made = UsageTotals(self.began_epoch_s)
        made._rows = dict(self._rows)
        made.change_all()
        return made

    def take_changed(self) -> tuple[UsageRow, ...]:
        """Return the rows that have changed since the last call."""
        changed, self._changed = self._changed, set()
        return tuple(self._rows[key] for key in changed if key in self._rows)

    def change_all(self) -> None:
        """Let the next `take_changed` return all rows."""
        self._changed = set(self._rows)

    def _forget(self, oldest: int) -> None:
        for key in [key for key in self._rows if key[2] <= oldest]:
            del self._rows[key]


def _added(row: UsageRow, request: RequestRecord) -> UsageRow:
    is_first = not row.requests
    source = request.energy_source
    return replace(
        row,
        requests=row.requests + 1,
        completed=row.completed + (request.outcome == "completed"),
        prompt_tokens=row.prompt_tokens + request.prompt_tokens,
        cached_tokens=row.cached_tokens + (request.cached_tokens or 0),
        output_tokens=row.output_tokens + request.output_tokens,
        energy_j=row.energy_j + (request.energy_j or 0.0),
        source=source if is_first else str(worst((row.source, source))),
        boundary=request.boundary,
    )

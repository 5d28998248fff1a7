"""A calendar month as a span of hours."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from steppe.errors import UsageError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TEXT = re.compile(r"([0-9]{4})-([0-9]{2})")


@dataclass(frozen=True, slots=True)
class Month:
    """A month.

    Attributes:
        year: Year, from 1970.
        month: Month, 1 to 12.
        utc_offset_hours: Offset of its midnights from UTC, as in a tariff.
    """

    year: int
    month: int
    utc_offset_hours: int = 0

    @classmethod
    def read(cls, text: str, utc_offset_hours: int = 0) -> Month:
        """Return the month of a text such as `2026-11`.

        Raises:
            UsageError: It is none.
        """
        found = _TEXT.fullmatch(text)
        if found and int(found[1]) in range(1970, 9999) and int(found[2]) in range(1, 13):
            return cls(int(found[1]), int(found[2]), utc_offset_hours)
        raise UsageError(f"month: asked for one such as 2026-11, found {text!r:.60}")

    @property
    def text(self) -> str:
        """Its name, such as `2026-11`."""
        return f"{self.year:04}-{self.month:02}"

    @property
    def hours(self) -> range:
        """Its hours, since the Unix epoch (UTC)."""
        year, month = divmod(self.year * 12 + self.month, 12)
        following = self._hour_of(year, month + 1)
        return range(self._hour_of(self.year, self.month), following)

    def local(self, hour: int) -> datetime:
        """Return the begin of an hour by its offset, as a time without a zone."""
        return (EPOCH + timedelta(hours=hour + self.utc_offset_hours)).replace(tzinfo=None)

    def _hour_of(self, year: int, month: int) -> int:
        return (datetime(year, month, 1, tzinfo=UTC) - EPOCH).days * 24 - self.utc_offset_hours


def hour_text(hour: int) -> str:
    """Return the begin of an hour since the Unix epoch, such as `2026-11-01T00:00:00Z`."""
    return f"{EPOCH + timedelta(hours=hour):%Y-%m-%dT%H:%M:%SZ}"

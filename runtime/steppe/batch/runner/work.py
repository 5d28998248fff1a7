"""Declares a job's open rows to the gateway, which answers how many of them it takes now."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp
import orjson

_TIMEOUT = aiohttp.ClientTimeout(total=5.0)
_UNKNOWN = frozenset({404, 405, 501})
"""Statuses of a gateway that takes no declared work."""


@dataclass(frozen=True, slots=True)
class OpenWork:
    """What a job still has to do.

    Attributes:
        model: The model of its rows.
        rows: Rows without a result.
        prompt_tokens: Their prompt tokens, estimated.
        output_tokens: Their output tokens, estimated.
        when: `now`, `deadline` or `surplus`.
        deadline_epoch_s: When they should be done, s since the Unix epoch; None for never.
        outstanding: Rows that the gateway has.
        ttl_s: Time after which the gateway forgets it, s.
    """

    model: str
    rows: int
    prompt_tokens: int
    output_tokens: int
    when: str
    deadline_epoch_s: float | None = None
    outstanding: int = 0
    ttl_s: float = 30.0

    def body(self) -> bytes:
        """Return it as JSON."""
        deadline = None if self.deadline_epoch_s is None else _iso(self.deadline_epoch_s)
        return orjson.dumps(
            {
                "model": self.model,
                "rows": self.rows,
                "prompt_tokens": self.prompt_tokens,
                "output_tokens": self.output_tokens,
                "deadline": deadline,
                "when": self.when,
                "open": self.outstanding,
                "ttl_s": self.ttl_s,
            }
        )


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a gateway takes of declared work.

    Attributes:
        outstanding: Rows that it takes now; None if it says nothing, so that a fixed number goes.
        reason: Why so many, in its word; empty if it says nothing.
        tokens_per_s: Output tokens per second that it expects; None if unknown.
        finish_epoch_s: When it expects the last row to be done, s since the Unix epoch.
        sure: Probability that this is in time, from 0 to 1; None if unknown.
    """

    outstanding: int | None = None
    reason: str = ""
    tokens_per_s: float | None = None
    finish_epoch_s: float | None = None
    sure: float | None = None


SAYS_NOTHING = Wanted()


class WorkDeclaration:
    """One piece of work at one gateway; an old gateway without such calls is asked rarely."""

    def __init__(
        self, session: aiohttp.ClientSession, address: str, headers: dict[str, str]
    ) -> None:
        """Prepare; nothing is sent.

        Args:
            session: An open session.
            address: Address of the work, `.../steppe/v1/work/ID`.
            headers: Headers of the calls.
        """
        self._session, self._address, self._headers = session, address, headers
        self._is_known = True

    @property
    def every_s(self) -> float:
        """Time until the next declaration, s."""
        return 1.0 if self._is_known else 30.0

    async def declare(self, work: OpenWork) -> Wanted | None:
        """Declare the work, and return what the gateway takes of it.

        Returns:
            What it takes; None if it did not answer now, so that the last answer holds.
        """
        headers = {"Content-Type": "application/json", **self._headers}
        try:
            async with self._session.put(
                self._address, data=work.body(), headers=headers, timeout=_TIMEOUT
            ) as response:
                text = await response.read()
        except (TimeoutError, aiohttp.ClientError, OSError):
            return None
        self._is_known = response.status not in _UNKNOWN
        if not self._is_known:
            return SAYS_NOTHING
        return _wanted(text) if response.status == 200 else None

    async def withdraw(self) -> None:
        """Let the gateway know that nothing of the work is left, or that its runner ends."""
        if not self._is_known:
            return
        try:
            async with self._session.delete(
                self._address, headers=self._headers, timeout=_TIMEOUT
            ) as response:
                await response.read()
        except (TimeoutError, aiohttp.ClientError, OSError):
            return  # it forgets the work by itself, after its time to live


def _wanted(text: bytes) -> Wanted | None:
    try:
        found = orjson.loads(text)
        outstanding = found["outstanding"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
    if not isinstance(outstanding, int) or outstanding < 0:
        return None
    return Wanted(
        outstanding=outstanding,
        reason=str(found.get("reason") or ""),
        tokens_per_s=_number(found.get("tokens_per_s")),
        finish_epoch_s=_epoch_s(found.get("expected_finish")),
        sure=_number(found.get("sure")),
    )


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _iso(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).isoformat()


def _epoch_s(text: Any) -> float | None:
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


async def pause(event: asyncio.Event, longest_s: float) -> None:
    """Wait for an event, at most so long, s."""
    try:
        async with asyncio.timeout(longest_s):
            await event.wait()
    except TimeoutError:
        return

"""The answer to one row, as Python programs get it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from steppe.batch.row import RowResult


@dataclass(frozen=True, slots=True)
class RowAnswer:
    """The answer to one row, or why there is none.

    Attributes:
        number: The row's place in the input, from 0.
        custom_id: Its id; `row-N` if it has none.
        status: HTTP status of the answer; 0 if there was none.
        body: The answer as the API has it; None if there was none.
        error: Why the row failed, one line; empty if it did not.
        prompt_tokens: Tokens of the prompt.
        output_tokens: Tokens of the answer.
        energy_j: Energy of the attempt that gave it, J.
        wasted_j: Energy of the attempts before, J.
        energy_source: Where the joules are from; empty if unknown.
        replica: The replica that answered; empty if unknown.
        attempts: Attempts, the last one too.
    """

    number: int
    custom_id: str
    status: int
    body: dict[str, Any] | None
    error: str
    prompt_tokens: int
    output_tokens: int
    energy_j: float
    wasted_j: float
    energy_source: str
    replica: str
    attempts: int

    @property
    def text(self) -> str:
        """The generated text of the first choice; empty without one."""
        choices = (self.body or {}).get("choices") or [{}]
        message = choices[0].get("message") or {}
        return str(message.get("content") or choices[0].get("text") or "")

    @property
    def ok(self) -> bool:
        """Whether the row has an answer."""
        return not self.error


def answer_of(result: RowResult) -> RowAnswer:
    """Return the answer that a result has."""
    body = _object(result.body)
    return RowAnswer(
        number=result.number,
        custom_id=result.custom_id,
        status=result.status,
        body=body,
        error=_error(result, body) if result.failed else "",
        prompt_tokens=result.prompt_tokens,
        output_tokens=result.output_tokens,
        energy_j=result.energy_j,
        wasted_j=result.wasted_j,
        energy_source=result.energy_source,
        replica=result.replica,
        attempts=result.attempts,
    )


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def _error(result: RowResult, body: dict[str, Any] | None) -> str:
    if result.error or result.error_code:
        return result.error or result.error_code
    error = (body or {}).get("error")
    message = error.get("message") if isinstance(error, dict) else None
    return f"status {result.status}: {message or 'no reason given'}"

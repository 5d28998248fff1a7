"""What a gateway answered to a row: the row's result, a refusal, or a failed attempt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from steppe.batch.row import Claim, RowResult
from steppe.errors import SteppeError

REQUEST_ID = "X-Request-Id"
REPLICA = "X-Steppe-Replica"
ENERGY_WAIT = "X-Steppe-Energy-Wait"

_NEVER_FITS = "request_too_large"
"""The code of a 429 for a request that no waiting helps."""
_OF_THE_ROW = "model_not_allowed"
"""The code of a 403 that other rows, of other models, need not get."""
LIMITED = 429
"""Status of a gateway where a limit of the tenant is reached."""
UNPAID = 402
"""Status of a gateway where the tenant cannot pay now: its other rows wait, too."""
_NOT_THE_ROW = frozenset({UNPAID, 408, 425, LIMITED, 503})
"""Statuses of a gateway that is busy, or whose client was slow or has no money."""
_LONGEST_REASON = 500


class GatewayRefusedError(SteppeError):
    """A gateway refuses every row of a job, such as for a wrong key."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The end of a row.

    Attributes:
        result: Its result: an answer, or the row's own error.
        energy_wait_s: Time that the answer was held for its energy, s; None if its server meters
            none.
    """

    result: RowResult
    energy_wait_s: float | None = None

    @property
    def lacks_energy(self) -> bool:
        """Whether its energy was not known in time, and will be a little later."""
        answered = self.energy_wait_s is not None and not self.result.failed
        return answered and not self.result.energy_source


@dataclass(frozen=True, slots=True)
class Refused:
    """The gateway has no room for the row now.

    Attributes:
        status: 429 for a limit of the tenant, 402 if it cannot pay, else that of a gateway that is
            busy.
        retry_after_s: Time after which it may have room, s; None if it does not say.
        reason: Why, one line.
        code: The same, for programs.
    """

    status: int
    retry_after_s: float | None
    reason: str
    code: str = ""

    @property
    def unpaid(self) -> str:
        """Why the tenant cannot pay, for programs; empty if it can."""
        return (self.code or "payment_required") if self.status == UNPAID else ""


@dataclass(frozen=True, slots=True)
class Failed:
    """An attempt that failed at a replica.

    Attributes:
        status: The HTTP status.
        replica: The replica; empty if unknown.
        request_id: Id of the request at the gateway.
        reason: What was found, one line.
    """

    status: int
    replica: str
    request_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection to the gateway broke, or there was none.

    Attributes:
        was_sent: Whether the gateway had the row.
        reason: What was found, one line.
    """

    was_sent: bool
    reason: str


Outcome = Answered | Refused | Failed | Lost


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """An HTTP answer to a row, whole.

    Attributes:
        status: Its status.
        headers: Its headers, by their names in any case.
        body: Its body.
        request_id: The id that the row was sent with.
        started_epoch_s: When it was sent, s since the Unix epoch.
        ended_epoch_s: When its last byte came, s since the Unix epoch.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    request_id: str
    started_epoch_s: float
    ended_epoch_s: float


def outcome_of(claim: Claim, answer: RawAnswer) -> Outcome:
    """Return what an answer means for a row.

    Raises:
        GatewayRefusedError: It would be the same for every row.
    """
    found, status = _object(answer.body), answer.status
    if status in (401, 403) and _code(found) != _OF_THE_ROW:
        raise GatewayRefusedError(f"the gateway answers {status}: {_reason(found, answer)}")
    replica = answer.headers.get(REPLICA, "")
    retry_s = _seconds(answer.headers.get("Retry-After"))
    # A replica's own 503 has no time at which to come back.
    is_of_replica = status == 503 and bool(replica) and retry_s is None
    if status in _NOT_THE_ROW and not is_of_replica and _code(found) != _NEVER_FITS:
        return Refused(status, retry_s, _reason(found, answer), _code(found))
    is_broken = status < 400 and found is None
    if status >= 500 or status < 200 or is_broken:
        reason = _reason(found, answer)
        return Failed(status, replica, answer.request_id, f"status {status}: {reason}")
    wait_s = _seconds(answer.headers.get(ENERGY_WAIT))
    return Answered(_result(claim, answer, found or {}, replica), wait_s)


def _result(claim: Claim, answer: RawAnswer, found: Mapping[str, Any], replica: str) -> RowResult:
    usage = _mapping(found.get("usage"))
    energy, details = _mapping(usage.get("energy")), _mapping(usage.get("prompt_tokens_details"))
    return RowResult(
        number=claim.row.number,
        custom_id=claim.row.custom_id,
        status=answer.status,
        request_id=answer.headers.get(REQUEST_ID, answer.request_id),
        body=answer.body,
        prompt_tokens=_count(usage.get("prompt_tokens")),
        cached_tokens=_count(details.get("cached_tokens")),
        output_tokens=_count(usage.get("completion_tokens")),
        energy_j=_number(energy.get("joules")),
        wasted_j=claim.wasted_j,
        energy_source=str(energy.get("source", "")),
        boundary=str(energy.get("boundary", "")),
        started_epoch_s=answer.started_epoch_s,
        ended_epoch_s=answer.ended_epoch_s,
        attempts=claim.attempts + 1,
        replica=replica,
        model=str(found.get("model", "")),
    )


def _object(body: bytes) -> dict[str, Any] | None:
    """Return a JSON object; None for anything else."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and value > 0 else 0.0


def _code(found: Mapping[str, Any] | None) -> str:
    return str(_mapping((found or {}).get("error")).get("code") or "")


def _reason(found: Mapping[str, Any] | None, answer: RawAnswer) -> str:
    """Return the message of an error, or the begin of a body, in one line."""
    message = _mapping((found or {}).get("error")).get("message")
    text = str(message) if message else answer.body[:200].decode(errors="replace")
    return " ".join(text.split())[:_LONGEST_REASON] or f"status {answer.status}, no body"


def _seconds(header: str | None) -> float | None:
    """Return a number of seconds in a header; the date form of `Retry-After` is not read."""
    try:
        found = float(header) if header is not None else None
    except ValueError:
        return None
    return found if found is not None and 0 <= found < float("inf") else None

"""The work protocol, `/steppe/v1/work/{id}`: runners declare what may wait, and learn their pace.

A runner repeats its declaration about once a second. The answer is how many of its rows may be open
at the gateway. The controller reads the declared work with the status of the gateway, plans it as
quantities with deadlines, and sends the pace of each job back with the state of the fleet.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from aiohttp import web

from steppe.control.batch_work import BatchPace, BatchWork, PaceReason, When, outstanding_rows
from steppe.errors import SteppeError
from steppe.gateway.access import CALLER, NOBODY, AccessControl
from steppe.gateway.answers import error_answer, json_answer
from steppe.gateway.fleet_state import FleetState
from steppe.gateway.pools import ModelNameError, Pool, Pools
from steppe.gateway.work_table import TooMuchWorkError, WorkTable

VALID_S = 1.0
"""How long an answer holds, s: after about this time a runner asks again."""
LEAST_TTL_S, MOST_TTL_S, USUAL_TTL_S = 1.0, 600.0, 30.0
MOST_COUNT = 1 << 53
"""Largest number of rows or tokens that JSON carries exactly."""
RETRY_AFTER_S = 30
BODY_BYTES = 16 << 10
"""Longest declaration, bytes; a tenant may send many of them at no charge."""
_NO_CONTROLLER = BatchPace(0.0, 1.0, PaceReason.HEADROOM)
"""The pace while the controller plans no batch work: that of an older version does not."""
_NOT_PLANNED_YET = BatchPace(0.0, 0.0, PaceReason.WAITS_FOR_SURPLUS)
_RUNS_AT_ONCE = BatchPace(0.0, 1.0, PaceReason.NOW)
_SILENT = BatchPace(0.0, 0.0, PaceReason.NO_POWER)


class InvalidWorkError(SteppeError):
    """A declaration is not valid.

    Attributes:
        param: The field that is at fault.
    """

    def __init__(self, param: str, message: str) -> None:
        super().__init__(f"{param}: {message}")
        self.param = param


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a runner sends.

    Attributes:
        model: The model that it asks for; None for the only one.
        rows: Rows that are not finished.
        prompt_tokens: Prompt tokens of these rows.
        output_tokens: Output tokens that are still to come.
        deadline_epoch_s: The deadline, s since the Unix epoch; None without one.
        when: When it may run.
        ttl_s: How long it lives, s.
    """

    model: str | None
    rows: int
    prompt_tokens: int
    output_tokens: int
    deadline_epoch_s: float | None
    when: When
    ttl_s: float


class WorkApi:
    """Keeps what runners declare, and answers with their pace.

    Attributes:
        on_withdraw: Forgets a job at other gateways, too, by its key; None if there are none.
    """

    def __init__(
        self,
        fleet: FleetState,
        pools: Pools,
        access: AccessControl,
        firm_open: Callable[[str], int],
        *,
        now_s: Callable[[], float] = time.monotonic,
        epoch_s: Callable[[], float] = time.time,
    ) -> None:
        """Begin without work.

        Args:
            fleet: What the controller says of the fleet.
            pools: The pools of the gateway.
            access: Which models a tenant may ask for.
            firm_open: Returns how many requests for a model are open that are not deferrable.
            now_s: Reads the monotonic clock, s.
            epoch_s: Reads the time, s since the Unix epoch.
        """
        self._fleet, self._pools, self._access = fleet, pools, access
        self._now_s, self._epoch_s = now_s, epoch_s
        self._firm_open, self._table = firm_open, WorkTable()
        self.on_withdraw: Callable[[str], Awaitable[bool]] | None = None

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        router.add_put("/steppe/v1/work/{id:[A-Za-z0-9._-]{1,128}}", self.declare)
        router.add_delete("/steppe/v1/work/{id:[A-Za-z0-9._-]{1,128}}", self.withdraw)

    @property
    def alive(self) -> tuple[BatchWork, ...]:
        """The declared work, for the controller."""
        return self._table.alive(self._now_s())

    def forget(self, key: str) -> bool:
        """Forget a job, by its key; return whether it was known."""
        return self._table.withdraw(key, self._now_s())

    async def declare(self, request: web.Request) -> web.Response:
        """Take a declaration; return how many rows may be open."""
        try:
            declared = read_declaration(await _read_body(request))
            pool = self._pools.of(declared.model)
        except InvalidWorkError as error:
            return _invalid(400, str(error), "invalid_value", error.param)
        except ModelNameError as error:
            return _invalid(error.status, str(error), error.code, "model")
        self._access.check_model(request, declared.model or pool.model.name)
        work = self._work_of(request, declared, pool)
        try:
            self._table.declare(work, self._now_s(), declared.ttl_s)
        except TooMuchWorkError as error:
            answer = error_answer(429, str(error), type_="rate_limit_error", code="too_much_work")
            answer.headers["Retry-After"] = str(RETRY_AFTER_S)
            return answer
        return json_answer(self._answer(work, pool))

    async def withdraw(self, request: web.Request) -> web.Response:
        """Forget a job that has ended."""
        id_ = request.match_info["id"]
        key = BatchWork(id_, _tenant(request), "", 0, 0, 0).key
        is_known = self.forget(key)
        if self.on_withdraw is not None:
            is_known |= await self.on_withdraw(key)
        if not is_known:
            message = f"asked for work {id_}, found none that is declared"
            return _invalid(404, message, "work_not_found", "id")
        return json_answer({"object": "steppe.work", "id": id_, "deleted": True})

    def _work_of(self, request: web.Request, declared: Declaration, pool: Pool) -> BatchWork:
        deadline_s = declared.deadline_epoch_s
        return BatchWork(
            id=request.match_info["id"],
            tenant=_tenant(request),
            model=pool.model.name,
            rows=declared.rows,
            prompt_tokens=declared.prompt_tokens,
            output_tokens=declared.output_tokens,
            due_in_s=None if deadline_s is None else deadline_s - self._epoch_s(),
            when=declared.when,
        )

    def _answer(self, work: BatchWork, pool: Pool) -> dict[str, Any]:
        pace, gate = self._pace(work), pool.gate
        if gate.is_stale:
            pace = _SILENT
        places = sum(gate.table.held.values())
        finish_s = pace.finish_in_s
        return {
            "object": "steppe.work",
            "id": work.id,
            "outstanding": outstanding_rows(work, pace, places, self._firm_open(work.model)),
            "tokens_per_s": pace.tokens_per_s or (0.0 if not pace.runs else None),
            "reason": pace.reason.value,
            "valid_s": VALID_S,
            "expected_finish": None if finish_s is None else _iso(self._epoch_s() + finish_s),
            "sure": pace.sure,
        }

    def _pace(self, work: BatchWork) -> BatchPace:
        """Return the pace that the controller gave a job last."""
        paces = self._fleet.values.get("batch")
        if paces is None:
            return _NO_CONTROLLER
        found = paces.get(work.key)
        if found is None:
            return _RUNS_AT_ONCE if work.when is When.NOW else _NOT_PLANNED_YET
        return pace_from(found, self._now_s() - self._fleet.set_s)


def pace_from(found: Mapping[str, Any], age_s: float) -> BatchPace:
    """Return a pace from the state of the fleet that is so old, s."""
    finish_s = found["finish_in_s"]
    return BatchPace(
        tokens_per_s=found["tokens_per_s"],
        share=found["share"],
        reason=PaceReason(found["reason"]),
        finish_in_s=None if finish_s is None else max(0.0, finish_s - age_s),
        sure=found["sure"],
    )


async def _read_body(request: web.Request) -> bytes:
    found = bytearray()
    while chunk := await request.content.readany():
        found += chunk
        if len(found) > BODY_BYTES:
            raise InvalidWorkError("body", f"asked for at most {BODY_BYTES} bytes, found more")
    return bytes(found)


def read_declaration(body: bytes) -> Declaration:
    """Return what a body declares.

    Raises:
        InvalidWorkError: It is no declaration.
    """
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        reason = error.msg.partition(": line ")[0]
        raise InvalidWorkError("body", f"asked for a JSON object, found {reason}") from error
    if not isinstance(found, dict):
        raise InvalidWorkError("body", f"asked for a JSON object, found {type(found).__name__}")
    model = found.get("model")
    if model is not None and not isinstance(model, str):
        raise InvalidWorkError("model", f"asked for a name, found {model!r:.60}")
    return Declaration(
        model,
        _count(found, "rows"),
        _count(found, "prompt_tokens"),
        _count(found, "output_tokens"),
        _deadline(found.get("deadline")),
        _when(found.get("when", When.SURPLUS)),
        _ttl(found.get("ttl_s", USUAL_TTL_S)),
    )


def _count(found: Mapping[str, Any], name: str) -> int:
    value = found.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MOST_COUNT:
        raise InvalidWorkError(name, f"asked for a whole number from 0, found {value!r:.60}")
    return value


def _deadline(value: object) -> float | None:
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(str(value)) if isinstance(value, str) else None
    except ValueError:
        moment = None
    if moment is None:
        raise InvalidWorkError("deadline", f"asked for a time in ISO 8601, found {value!r:.60}")
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _when(value: object) -> When:
    if isinstance(value, str) and value in [when.value for when in When]:
        return When(value)
    raise InvalidWorkError("when", f"asked for one of {', '.join(When)}, found {value!r:.60}")


def _ttl(value: object) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not LEAST_TTL_S <= float(str(value)) <= MOST_TTL_S:
        asked = f"asked for {LEAST_TTL_S:g} to {MOST_TTL_S:g} s"
        raise InvalidWorkError("ttl_s", f"{asked}, found {value!r:.60}")
    return float(str(value))


def _tenant(request: web.Request) -> str:
    tenant: str = request.get(CALLER, NOBODY).tenant.name
    return tenant


def _iso(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).isoformat()


def _invalid(status: int, message: str, code: str, param: str) -> web.Response:
    return error_answer(status, message, type_="invalid_request_error", code=code, param=param)

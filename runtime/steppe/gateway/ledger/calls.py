"""Asks the ledger for many requests in one call, and gives back what is not used."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import aiohttp
import orjson

from steppe.errors import SteppeError
from steppe.gateway.ledger.link import (
    ANSWER_S,
    STOPPING,
    UNAVAILABLE,
    AdmissionRequest,
    NotAdmitted,
    Verdict,
    read_verdict,
)
from steppe.gateway.run_service import RunService

ADMISSIONS, RELEASES = "/admissions", "/admissions/released"
MOST_IN_A_CALL = 256
MOST_RETURNED = 10_000
"""Requests whose holds are to be given back; the holds of further ones expire."""
_PAUSE_S, _STOP_S = 0.1, 1.0
"""Pause after a call that failed; longest time in which a stop gives holds back, s."""
UNSURE_S, REPEAT_S = 10.0, 10.0
"""A ledger that hung may take a request after it was given back. So what is given back within this
time after a call without an answer is given back again after that time, s."""
_SILENT = "the ledger does not answer"
_JSON = {"Content-Type": "application/json"}

_log = logging.getLogger(__name__)


class _CallFailedError(SteppeError):
    """A call got no answer that can be read; `is_refused` if another try is no use."""

    def __init__(self, message: str, *, is_refused: bool = False) -> None:
        super().__init__(message)
        self.is_refused = is_refused


@dataclass(slots=True)
class _Open:
    """A request without a verdict; `was_sent` if the ledger may know it."""

    asked: AdmissionRequest
    verdict: asyncio.Future[Verdict]
    timer: asyncio.TimerHandle
    was_sent: bool = False


class LedgerCalls:
    """One call to the ledger at a time; what arrives meanwhile goes together in the next one.

    So the ledger finds a request before it is given back, unless a call got no answer. Each request
    is asked for again until its time is over: the ledger takes a repeated one once.
    """

    def __init__(self, service: RunService, answer_s: float = ANSWER_S) -> None:
        """Begin without requests.

        Args:
            service: The ledger.
            answer_s: Longest time for its answer about a request, s.
        """
        self._service, self._answer_s = service, answer_s
        self._open: dict[str, _Open] = {}
        self._returned: dict[str, None] = {}
        self._task: asyncio.Task[None] | None = None
        self._is_closed, self._problem, self._unsure_until_s = False, "", 0.0

    def ask(self, asked: AdmissionRequest) -> asyncio.Future[Verdict]:
        """Return what the ledger will say of a request, within the time limit."""
        loop = asyncio.get_running_loop()
        verdict: asyncio.Future[Verdict] = loop.create_future()
        if self._is_closed:
            verdict.set_result(_stopping())
            return verdict
        timer = loop.call_later(self._answer_s, self._be_late, asked.request)
        self._open[asked.request] = _Open(asked, verdict, timer)
        self._go_on()
        return verdict

    def give_back(self, request: str) -> None:
        """Give back what is held for a request, or is going to be; once is enough."""
        found = self._open.pop(request, None)
        if found is not None:
            found.timer.cancel()
            found.verdict.cancel()
        if found is None or found.was_sent:
            self._return(request)

    def close(self) -> None:
        """Let no request wait any longer, because the gateway stops."""
        self._is_closed = True
        for found in list(self._open.values()):
            self._resolve(found, _stopping())
            self._return(found.asked.request)

    async def stop(self) -> None:
        """Give back what is to be given back, for a short time."""
        self.close()
        if (task := self._task) is not None:
            await asyncio.wait([task], timeout=_STOP_S)
            task.cancel()

    def _be_late(self, request: str) -> None:
        found = self._open[request]
        message = f"the ledger did not answer within {self._answer_s:g} s"
        reason = f": {self._problem}" if self._problem else ""
        self._resolve(found, NotAdmitted(UNAVAILABLE, message + reason))
        self._return(request)  # it may have been held all the same

    def _resolve(self, found: _Open, verdict: Verdict) -> None:
        found.timer.cancel()
        self._open.pop(found.asked.request, None)
        if not found.verdict.done():
            found.verdict.set_result(verdict)

    def _return(self, request: str) -> None:
        self._returned[request] = None
        if len(self._returned) > MOST_RETURNED:
            del self._returned[next(iter(self._returned))]
        self._go_on()

    def _go_on(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            while self._open or self._returned:
                await self._call()
        finally:
            self._task = None

    async def _call(self) -> None:
        try:
            await self._ask_some()
            await self._return_some()
            self._problem = ""
        except _CallFailedError as error:
            self._note(str(error))
            await asyncio.sleep(_PAUSE_S)

    async def _ask_some(self) -> None:
        """Ask for the oldest requests that have no verdict."""
        batch = list(islice(self._open.values(), MOST_IN_A_CALL))
        if not batch:
            return
        for found in batch:
            found.was_sent = True
        try:
            answers = await self._post(ADMISSIONS, [found.asked.values for found in batch])
            verdicts = _verdicts(answers, len(batch))
        except _CallFailedError as error:
            if not error.is_refused:
                raise
            self._note(str(error))
            verdicts = [NotAdmitted(UNAVAILABLE, f"{_SILENT}: {error}")] * len(batch)
        for found, verdict in zip(batch, verdicts, strict=True):
            self._resolve(found, verdict)

    async def _return_some(self) -> None:
        """Give back what is held for requests that are not served."""
        batch = list(islice(self._returned, MOST_IN_A_CALL))
        if not batch:
            return
        try:
            await self._post(RELEASES, batch)
        except _CallFailedError as error:
            if not error.is_refused:
                raise
            self._note(str(error))
        for request in batch:
            self._returned.pop(request, None)
        loop = asyncio.get_running_loop()
        if loop.time() < self._unsure_until_s and not self._is_closed:
            loop.call_later(REPEAT_S, self._return_again, batch)

    def _return_again(self, requests: Iterable[str]) -> None:
        if not self._is_closed:
            for request in requests:
                self._return(request)

    async def _post(self, path: str, values: Iterable[Any]) -> bytes:
        if not self._service.url:
            raise _CallFailedError("it is starting")
        body, url = orjson.dumps(list(values)), self._service.url + path
        try:
            async with asyncio.timeout(self._answer_s / 2):  # so that there is a second try
                async with self._service.session.post(url, data=body, headers=_JSON) as answer:
                    found = await answer.read()
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is one
            self._unsure_until_s = asyncio.get_running_loop().time() + UNSURE_S
            raise _CallFailedError(_named(error)) from error
        if answer.status >= 300:
            found_status = f"status {answer.status} to {path}"
            raise _CallFailedError(found_status, is_refused=answer.status < 500)
        return found

    def _note(self, problem: str) -> None:
        """Log a problem once, until a call succeeds or another problem comes."""
        if problem != self._problem:
            _log.warning("%s: %s", _SILENT, problem)
        self._problem = problem


def _verdicts(answer: bytes, asked: int) -> list[Verdict]:
    """Return the verdicts in an answer to so many requests."""
    try:
        verdicts = [read_verdict(each) for each in orjson.loads(answer)]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        message = f"asked for a list of verdicts, found {_named(error)}"
        raise _CallFailedError(message, is_refused=True) from error
    if len(verdicts) != asked:
        message = f"asked for {asked} verdicts, found {len(verdicts)}"
        raise _CallFailedError(message, is_refused=True)
    return verdicts


def _named(error: Exception) -> str:
    match error:
        case aiohttp.ClientConnectorError(os_error=OSError(errno=int(number))):
            return os.strerror(number)
        case TimeoutError():
            return "it is too slow"
        case _:
            return f"{type(error).__name__}: {error}"


def _stopping() -> NotAdmitted:
    return NotAdmitted(STOPPING, "the gateway is stopping")

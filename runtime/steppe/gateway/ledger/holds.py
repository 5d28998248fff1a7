"""What the ledger holds for a request while it is open.

The ledger is asked while the request is routed. No byte goes to the client before its answer, and
no replica gets the request before it if the tenant has little: so nothing is computed for nothing.
"""

from __future__ import annotations

import asyncio
import math
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from types import TracebackType

from steppe.errors import SteppeError
from steppe.gateway.ledger.calls import LedgerCalls
from steppe.gateway.ledger.funds import Funds
from steppe.gateway.ledger.link import AdmissionRequest, Admitted, NotAdmitted, Verdict
from steppe.gateway.ledger.metrics import LedgerLinkMetrics
from steppe.gateway.prompt_size import PromptSize
from steppe.gateway.request import UNSERVED, RequestContext
from steppe.ledger.tariff import Band
from steppe.tenants.limiter import RequestSize

QUOTE_HEADER = "x-steppe-quote"
"""Header with the id of a quote that a request is to be paid with."""
TEXT_SHARE, TEMPLATE_TOKENS = 1.5, 64
"""How much more tokens than estimated a text may have, and how many its template may add: what
costs more than its hold is the operator's loss."""


class DeniedByLedgerError(SteppeError):
    """The ledger refuses a request, or does not answer in time.

    Attributes:
        denied: Why.
    """

    def __init__(self, denied: NotAdmitted) -> None:
        super().__init__(denied.message)
        self.denied = denied


class Holds:
    """Asks the ledger for each request."""

    def __init__(
        self,
        calls: LedgerCalls,
        metrics: LedgerLinkMetrics,
        band: Callable[[], Band],
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create it.

        Args:
            calls: Asks the ledger.
            metrics: Gets its answers.
            band: Returns the band of tariffs that holds now.
            now_s: Reads the monotonic clock, s.
        """
        self._calls, self._metrics, self._band, self._now_s = calls, metrics, band, now_s
        self._funds = Funds()

    def begin(self, context: RequestContext, size: RequestSize, sequences: int) -> RequestHold:
        """Ask for the hold of a request.

        Args:
            context: The request.
            size: Its size, estimated for a text.
            sequences: Sequences that it generates.
        """
        most, headers = size.max_output_tokens, context.headers
        asked = AdmissionRequest(
            request=context.engine_id,
            tenant=headers.tenant,
            model=context.model,
            priority=headers.priority,
            band=self._band(),
            prompt_tokens=held_prompt_tokens(context.prompt, size.prompt_tokens),
            max_tokens=None if most is None else math.ceil(most / context.places),
            sequences=sequences,
            quote=headers.quote,
            key_id=headers.key_id,
        )
        return RequestHold(self, context, asked)

    def ask(self, asked: AdmissionRequest) -> tuple[asyncio.Future[Verdict], bool]:
        """Ask for a hold; return the verdict to come, and whether to wait for it at once."""
        has_plenty = self._funds.are_plenty(asked)
        self._funds.begin(asked)
        verdict, began_s = self._calls.ask(asked), self._now_s()

        def note(done: asyncio.Future[Verdict]) -> None:
            found = None if done.cancelled() else done.result()
            self._funds.end(asked, found)
            if found is not None:
                self._metrics.note(found, self._now_s() - began_s)

        verdict.add_done_callback(note)
        if not has_plenty:
            self._metrics.wait()
        return verdict, not has_plenty

    def give_back(self, asked: AdmissionRequest) -> None:
        """Give back what is held for a request that is not served, or is going to be."""
        self._calls.give_back(asked.request)


class RequestHold:
    """The hold of one request; its `async with` block ends as soon as the ledger refuses it."""

    def __init__(self, holds: Holds, context: RequestContext, asked: AdmissionRequest) -> None:
        """Ask for it."""
        self._holds, self._context = holds, context
        self._task: asyncio.Task[object] | None = None
        self._cancelled = 0
        self._has_cancelled = False
        self._ask(asked)

    def _ask(self, asked: AdmissionRequest) -> None:
        self._asked = asked
        self._verdict, self._is_scarce = self._holds.ask(asked)
        self._verdict.add_done_callback(self._look)

    def move(self) -> None:
        """Ask again, for another model: its rate is another one. No replica had the request."""
        self._holds.give_back(self._asked)
        context = self._context
        context.engine_id = uuid.uuid4().hex  # the ledger knows the old one, for the old model
        self._ask(replace(self._asked, request=context.engine_id, model=context.model))

    async def before_replica(self) -> None:
        """Wait for the answer if the tenant has little.

        Raises:
            DeniedByLedgerError: The ledger refuses the request.
        """
        if self._is_scarce:
            await self.known()

    async def known(self) -> None:
        """Wait for the answer.

        Raises:
            DeniedByLedgerError: The ledger refuses the request.
        """
        while not self._verdict.done():
            await asyncio.wait([self._verdict])  # it is another one after a move
        if isinstance(denied := self._verdict.result(), NotAdmitted):
            raise DeniedByLedgerError(denied)

    async def end(self) -> None:
        """Note the terms of a request that has ended; give its hold back if it was not served."""
        context = self._context
        was_served = context.replica is not None or bool(context.site)
        if was_served:
            with suppress(DeniedByLedgerError, asyncio.CancelledError):
                await self.known()  # a client that has left is billed what the engine counted
            verdict = self._verdict.result() if self._verdict.done() else None
            if isinstance(verdict, Admitted):
                context.terms = verdict.terms
            elif context.finish == "cancelled":
                context.finish = "rejected"  # it was never admitted
        if not was_served or context.finish in UNSERVED:
            self._holds.give_back(self._asked)

    async def __aenter__(self) -> RequestHold:
        """Begin to watch for a refusal."""
        self._task = asyncio.current_task()
        assert self._task is not None, "requests are handled in tasks"
        self._cancelled = self._task.cancelling()
        self._look(self._verdict)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wait for the answer if all is well.

        Raises:
            DeniedByLedgerError: The ledger refuses the request.
        """
        task, self._task = self._task, None
        assert task is not None, "the block was entered"
        if self._has_cancelled:
            if kind is not asyncio.CancelledError:
                with suppress(asyncio.CancelledError):  # it is still to come
                    await asyncio.sleep(0)
            if task.uncancel() > self._cancelled:
                raise asyncio.CancelledError  # the client has left at the same time
            await self.known()
        if kind is None:
            await self.known()

    def _look(self, verdict: asyncio.Future[Verdict]) -> None:
        """End the block if the ledger has refused."""
        is_current = verdict is self._verdict and verdict.done() and not verdict.cancelled()
        if is_current and self._task is not None and isinstance(verdict.result(), NotAdmitted):
            self._has_cancelled = True
            self._task.cancel()


def held_prompt_tokens(size: PromptSize, estimate: int) -> int:
    """Return the tokens that a hold counts for a prompt: rather too many than too few.

    Args:
        size: The prompt, as its client sent it.
        estimate: Its tokens, estimated.
    """
    if not size.text_bytes:
        return size.token_ids
    of_text = math.ceil(TEXT_SHARE * (estimate - size.token_ids))
    return size.token_ids + min(size.text_bytes, of_text) + TEMPLATE_TOKENS

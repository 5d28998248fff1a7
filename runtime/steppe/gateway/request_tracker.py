"""Tracks requests from arrival to end, and counts them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import replace

from steppe.control.admission import PRIORITIES, Ticket
from steppe.gateway.model_counts import ModelCounts
from steppe.gateway.prompt_size import UNKNOWN_SIZE, PromptCount, PromptSize
from steppe.gateway.recent_times import WINDOW_S
from steppe.gateway.request import ClientHeaders, FinishedRequest, RequestContext, request_id
from steppe.gateway.served_model import GatewayModel
from steppe.gateway.status import GatewayStatus

ID_REUSE_S = 90.0
"""An id that a replica had is not used again for this long after its end, s: its last steps may be
reported late, and are charged by then."""

Waiting = tuple[int, int]
"""Waiting requests for one model, each with its sequences, and those of class `deferrable`."""


class RequestTracker:
    """Counts requests, and keeps finished ones until they are fetched.

    Attributes:
        counts: The counts of each model, by its name.
    """

    def __init__(
        self,
        started_s: float,
        started_epoch_s: float,
        models: Iterable[GatewayModel],
        gateway: str = "",
        recent_s: float = WINDOW_S,
    ) -> None:
        """Start counting.

        Args:
            started_s: The present time, s on the monotonic clock.
            started_epoch_s: The present time, s since the Unix epoch.
            models: The served models.
            gateway: Name of the gateway; empty if there is only one.
            recent_s: How long a request is recent after its end, s.
        """
        self._gateway = gateway
        self.counts = {model.name: ModelCounts(model, started_s, recent_s) for model in models}
        self._started_s, self._started_epoch_s = started_s, started_epoch_s
        self._arrived = 0
        self._open: dict[str, RequestContext] = {}
        self._ended_s: dict[str, float] = {}  # of ids not to use again yet, oldest first
        self._unfetched: list[FinishedRequest] = []

    def open(
        self,
        headers: ClientHeaders,
        now_s: float,
        model: str,
        *,
        wants_stream: bool = False,
        prompt: PromptSize = UNKNOWN_SIZE,
        places: int = 1,
        adapter: str = "",
        cost: float = 1.0,
        alias: str = "",
        ttft_s: float | None = None,
        is_here: bool = True,
    ) -> RequestContext:
        """Start tracking a request; it keeps the id of its headers if that is valid and unused.

        Args:
            headers: The headers that the gateway uses.
            now_s: The time, s.
            model: The model that serves it.
            wants_stream: Whether the client asked for an event stream.
            prompt: Size of its prompt.
            places: Its sequences.
            adapter: The adapter of the model that it asks for.
            cost: What serving it takes.
            alias: The alias that it asks for.
            ttft_s: Longest time to its first token, s; that of the model if None.
            is_here: Whether it is certain to be served here; else `stay` is called if it is.
        """
        self._arrived += 1
        id_ = request_id(headers.request_id)
        if id_ in self._open or self._is_recent(id_, now_s):
            id_ = uuid.uuid4().hex
        counts = self.counts[model]
        rank = PRIORITIES.index(headers.priority)
        context = RequestContext(
            id_,
            headers,
            Ticket.of(
                rank,
                self._arrived,
                now_s,
                counts.model.ttft_s if ttft_s is None else ttft_s,
                tenant=headers.tenant,
                weight=headers.weight,
                cost=cost,
            ),
            now_s,
            model=model,
            adapter=adapter,
            alias=alias,
            wants_stream=wants_stream,
            prompt=prompt,
            counted=counts.arrive(headers.priority, prompt) if is_here else PromptCount(),
            places=places,
            is_here=is_here,
        )
        self._open[id_] = context
        return context

    def stay(self, context: RequestContext) -> None:
        """Count an open request that is served here, after all."""
        context.is_here = True
        counts = self.counts[context.model]
        context.counted = counts.arrive(context.headers.priority, context.prompt)

    def move(self, context: RequestContext, model: str) -> None:
        """Count an open request that another model is going to serve."""
        self.counts[context.model].leave(context.headers.priority, context.counted)
        context.model = model
        context.counted = self.counts[model].arrive(context.headers.priority, context.prompt)

    @property
    def is_idle(self) -> bool:
        """Whether no request is open."""
        return not self._open

    def get(self, id_: str) -> RequestContext | None:
        """Return an open request; None if there is none with this id."""
        return self._open.get(id_)

    def close(self, context: RequestContext, now_s: float) -> FinishedRequest:
        """Record the end of a request."""
        self._open.pop(context.id, None)
        if context.replica is not None or context.site:
            self._ended_s[context.id] = now_s
        finished = self._finish(context, now_s)
        self.counts[context.model].end(context, finished, now_s)
        self._unfetched.append(finished)
        return finished

    def set_slo(self, model: str, ttft_s: float, tpot_s: float) -> None:
        """Judge the requests for a model by other times from now on, s."""
        self.counts[model].set_slo(ttft_s, tpot_s)

    def drain(self) -> list[FinishedRequest]:
        """Return the requests that finished since the last call."""
        finished, self._unfetched = self._unfetched, []
        return finished

    def unfinished(self, now_s: float) -> list[FinishedRequest]:
        """Return the open requests as cancelled, for a record that ends now; they go on."""
        return [
            self._finish(replace(context, finish="cancelled", status=499), now_s)
            for context in self._open.values()
        ]

    def status(
        self, now_s: float, waiting: Mapping[str, Waiting], outstanding: dict[str, int]
    ) -> GatewayStatus:
        """Return the counts for the controller.

        Args:
            now_s: The present time, s on the monotonic clock.
            waiting: Waiting requests of each model; one that is left out has none.
            outstanding: Requests of each replica.
        """
        overdue = dict.fromkeys(self.counts, 0)
        for context in (each for each in self._open.values() if each.is_here):
            slo = self.counts[context.model].slo
            slo.note_first(context)
            overdue[context.model] += slo.is_overdue(context, now_s)
        models = {
            name: counts.status(*waiting.get(name, (0, 0)), overdue[name])
            for name, counts in self.counts.items()
        }
        return GatewayStatus.of(models, outstanding)

    def _is_recent(self, id_: str, now_s: float) -> bool:
        """Return whether an id ended less than `ID_REUSE_S` ago."""
        while self._ended_s and next(iter(self._ended_s.values())) <= now_s - ID_REUSE_S:
            del self._ended_s[next(iter(self._ended_s))]
        return id_ in self._ended_s

    def _finish(self, context: RequestContext, now_s: float) -> FinishedRequest:
        usage, first_s = context.usage, context.first_text_s
        arrival_s = context.arrival_s - self._started_s
        return FinishedRequest(
            id=context.id,
            model=context.model,
            adapter=context.adapter,
            asked_model=context.alias,
            wants_energy=context.tail is not None,
            wait_s=None if context.sent_s is None else context.sent_s - context.arrival_s,
            engine_id=context.engine_id,
            tenant=context.headers.tenant,
            priority=context.headers.priority,
            arrival_s=arrival_s,
            arrival_epoch_s=self._started_epoch_s + arrival_s,
            ttft_s=None if first_s is None else first_s - context.arrival_s,
            e2e_s=now_s - context.arrival_s,
            prompt_tokens=None if usage is None else usage.prompt_tokens,
            cached_tokens=None if usage is None else usage.cached_tokens,
            output_tokens=None
            if usage is None
            else max(0, usage.output_tokens - context.earlier_tokens),
            finish=context.finish,
            status=context.status,
            replica=context.replica,
            streamed=context.wants_stream or context.scanner is not None,
            continued=context.continued,
            gateway=self._gateway,
            terms=context.terms,
            key_id=context.headers.key_id,
            site=context.site,
        )

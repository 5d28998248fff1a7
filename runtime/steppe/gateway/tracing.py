"""OpenTelemetry traces of requests: wait, prefill and decode as spans, with their joules.

The spans of a request are made when it has ended, from the times that are measured in any case, so
a trace costs nothing per token. They are sent once the energy is final.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from steppe.gateway.ended_requests import RequestEnergy
from steppe.gateway.request import FAILED, REFUSED, FinishedRequest

MOST_UNSETTLED = 20_000
"""Requests that wait for their energy; beyond it the oldest is sent without."""
_NS_PER_S = 1e9
_FAILED = FAILED | REFUSED


def otlp_traces(endpoint: str, share: float) -> RequestTraces:
    """Return traces that are sent to an OTLP collector over HTTP.

    Args:
        endpoint: Its address, such as `http://collector:4318/v1/traces`.
        share: Share of the requests without a trace of their own that get one.
    """
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return RequestTraces(OTLPSpanExporter(endpoint=endpoint), share)


@dataclass(frozen=True, slots=True)
class _Ended:
    span: Span
    end_ns: int


class RequestTraces:
    """Makes a trace of each request, or adds to that of its client.

    Use it on one event loop; it is not safe from other threads.
    """

    def __init__(self, exporter: SpanExporter, share: float = 1.0) -> None:
        """Begin without requests; `share` of those without a trace of their own get one."""
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(share)),
            resource=Resource.create({"service.name": "steppe-gateway"}),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer: Tracer = self._provider.get_tracer("steppe.gateway")
        self._context = TraceContextTextMapPropagator()
        self._unsettled: OrderedDict[str, _Ended] = OrderedDict()

    def begin(self, headers: MutableMapping[str, str], name: str, arrival_epoch_s: float) -> Span:
        """Begin the span of a request, and name it to the replica in `traceparent`.

        Args:
            headers: Headers of the request, for the replica; their `traceparent` is the parent.
            name: Method and path.
            arrival_epoch_s: When the request arrived, s since the Unix epoch.
        """
        lowered = {key.lower(): value for key, value in headers.items()}
        parent: Context = self._context.extract(lowered)
        span = self._tracer.start_span(
            name, parent, kind=SpanKind.SERVER, start_time=_ns(arrival_epoch_s)
        )
        carried: dict[str, str] = {}
        self._context.inject(carried, set_span_in_context(span))
        headers.update(carried)
        return span

    def end(self, span: Span, request: FinishedRequest) -> None:
        """Add the parts of a request that has ended; its energy is still missing."""
        if not isinstance(span, ReadableSpan) or span.start_time is None:
            return  # it is not traced
        arrival_ns = span.start_time
        span.set_attributes(_attributes(request))
        if request.finish in _FAILED:
            span.set_status(Status(StatusCode.ERROR, request.finish))
        context = set_span_in_context(span)
        for name, begin_s, until_s in _parts(request):
            part = self._tracer.start_span(name, context, start_time=arrival_ns + _ns(begin_s))
            part.end(arrival_ns + _ns(until_s))
        self._unsettled[request.id] = _Ended(span, arrival_ns + _ns(request.e2e_s))
        if len(self._unsettled) > MOST_UNSETTLED:
            _, ended = self._unsettled.popitem(last=False)
            ended.span.end(ended.end_ns)
        elif request.replica is None:  # it took no energy here
            self._finish(request.id, {"steppe.energy.joules": 0.0})

    def settle(self, energies: Iterable[RequestEnergy]) -> None:
        """Send the traces of requests whose energy is final."""
        for energy in energies:
            if energy.is_final:
                self._finish(
                    energy.id,
                    {
                        "steppe.energy.joules": energy.energy_j,
                        "steppe.energy.source": str(energy.source),
                        "steppe.energy.boundary": energy.boundary,
                    },
                )

    def close(self) -> None:
        """Send what is left, without energy; this may wait for the collector."""
        for ended in self._unsettled.values():
            ended.span.end(ended.end_ns)
        self._unsettled.clear()
        self._provider.shutdown()

    def _finish(self, id_: str, attributes: Mapping[str, str | float]) -> None:
        ended = self._unsettled.pop(id_, None)
        if ended is not None:
            ended.span.set_attributes(dict(attributes))
            ended.span.end(ended.end_ns)


def _parts(request: FinishedRequest) -> list[tuple[str, float, float]]:
    """Return name, begin and end of the parts of a request, s since its arrival."""
    if request.wait_s is None:
        return [("gateway.wait", 0.0, request.e2e_s)]
    wait = ("gateway.wait", 0.0, request.wait_s)
    if request.ttft_s is None or request.ttft_s < request.wait_s:
        return [wait, ("generate", request.wait_s, request.e2e_s)]
    return [
        wait,
        ("prefill", request.wait_s, request.ttft_s),
        ("decode", request.ttft_s, request.e2e_s),
    ]


def _attributes(request: FinishedRequest) -> dict[str, AttributeValue]:
    """Return the attributes, named as OpenTelemetry's conventions for generative AI do."""
    found: dict[str, AttributeValue | None] = {
        "gen_ai.operation.name": "generate",
        "gen_ai.request.model": request.asked_model or request.adapter or request.model,
        "gen_ai.response.model": request.adapter or request.model,
        "gen_ai.response.finish_reasons": (request.finish,),
        "gen_ai.usage.input_tokens": request.prompt_tokens,
        "gen_ai.usage.output_tokens": request.output_tokens,
        "gen_ai.server.time_to_first_token": request.ttft_s,
        "http.response.status_code": request.status,
        "steppe.request.id": request.id,
        "steppe.tenant": request.tenant,
        "steppe.priority": request.priority,
        "steppe.route.replica": request.replica,
        "steppe.route.site": request.site or None,
        "steppe.cached_tokens": request.cached_tokens,
    }
    return {name: value for name, value in found.items() if value is not None}


def _ns(time_s: float) -> int:
    return round(time_s * _NS_PER_S)

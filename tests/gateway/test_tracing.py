"""Traces of requests, exported to memory."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.gateway.site import Site, SiteFactory

from steppe.gateway.server import DriverNews, RequestEnergy
from steppe.gateway.tracing import RequestTraces

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{PARENT}-01"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
async def traced(open_site: SiteFactory, exporter: InMemorySpanExporter) -> Site:
    return await open_site(traces=RequestTraces(exporter), max_waiting=0)


async def spans(site: Site, exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    """Return the spans by name, after the gateway has stopped and sent them."""
    await site.gateway.stop()
    return {span.name: span for span in exporter.get_finished_spans()}


def settle(site: Site, energy_j: float) -> None:
    ended = site.gateway.drain_finished()
    energies = [RequestEnergy(r.id, energy_j, "counter", "gpu", is_final=True) for r in ended]
    site.gateway.tell(DriverNews(tuple(energies)))


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def test_a_stream_has_its_parts_and_joules_and_is_part_of_the_trace_of_its_client(
    traced: Site, exporter: InMemorySpanExporter, chat_stream: bytes
) -> None:
    replica = await traced.awake_replica()
    replica.stream = [chat_stream]
    await traced.post(body=b'{"stream":true}', Content_Type="application/json", Traceparent=SAMPLED)
    assert exporter.get_finished_spans() == ()
    settle(traced, 4.5)
    found = await spans(traced, exporter)
    assert set(found) == {"POST /v1/chat/completions", "gateway.wait", "prefill", "decode"}
    whole = found.pop("POST /v1/chat/completions")
    assert whole.parent is not None
    assert (f"{whole.parent.trace_id:032x}", f"{whole.parent.span_id:016x}") == (TRACE, PARENT)
    values = attributes(whole)
    assert (values["steppe.energy.joules"], values["steppe.energy.source"]) == (4.5, "counter")
    assert (values["gen_ai.usage.output_tokens"], values["steppe.route.replica"]) == (3, "r0")
    assert whole.context is not None
    for part in found.values():
        assert part.parent is not None
        assert part.parent.span_id == whole.context.span_id
    edges = [
        (part.start_time, part.end_time)
        for part in (found["gateway.wait"], found["prefill"], found["decode"])
    ]
    assert edges[0][0] == whole.start_time
    assert [end for _, end in edges[:-1]] == [start for start, _ in edges[1:]]
    assert edges[-1][1] == whole.end_time
    sent = replica.received[0].headers["Traceparent"]
    assert sent == f"00-{TRACE}-{whole.context.span_id:016x}-01"


async def test_a_whole_answer_has_one_part_at_its_replica(
    traced: Site, exporter: InMemorySpanExporter
) -> None:
    await traced.awake_replica()
    await traced.post()
    found = await spans(traced, exporter)  # its energy never came
    assert set(found) == {"POST /v1/chat/completions", "gateway.wait", "generate"}
    assert "steppe.energy.joules" not in attributes(found["POST /v1/chat/completions"])


async def test_a_refused_request_is_an_error_without_energy(
    traced: Site, exporter: InMemorySpanExporter
) -> None:
    await traced.post()
    found = await spans(traced, exporter)
    whole = found["POST /v1/chat/completions"]
    assert whole.status.description == "rejected"
    assert attributes(whole)["steppe.energy.joules"] == 0.0


async def test_requests_outside_of_the_share_are_not_traced(
    open_site: SiteFactory, exporter: InMemorySpanExporter
) -> None:
    site = await open_site(traces=RequestTraces(exporter, share=0.0))
    replica = await site.awake_replica()
    await site.post()
    flags = replica.received[0].headers["Traceparent"].rpartition("-")[2]
    assert int(flags, 16) % 2 == 0
    await site.post(Traceparent=SAMPLED)
    assert len(await spans(site, exporter)) == 3


async def test_without_traces_the_header_of_the_client_passes_unchanged(site: Site) -> None:
    replica = await site.awake_replica()
    await site.post(Traceparent=SAMPLED)
    assert replica.received[0].headers["Traceparent"] == SAMPLED

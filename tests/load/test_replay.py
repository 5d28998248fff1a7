from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.fixtures.openai_server import FakeOpenAI

from steppe.load.arrivals import Arrival
from steppe.load.client import ChatOptions, ServerTarget
from steppe.load.replay import ClosedLoop, ReplayOptions, ReplayProgress, replay
from steppe.load.results import LoadResult
from steppe.report.records import Slo


def every(gap_s: float, count: int) -> tuple[Arrival, ...]:
    return tuple(Arrival(index * gap_s, 20 + index, 4) for index in range(count))


async def run(server: FakeOpenAI, arrivals: tuple[Arrival, ...], **options: Any) -> LoadResult:
    return await replay(ServerTarget(server.url, "small"), arrivals, ReplayOptions(**options))


async def test_every_request_completes_with_the_tokens_of_its_usage(server: FakeOpenAI) -> None:
    result = await run(server, every(0.01, 5), template_tokens=30)
    assert result.all_completed
    rows = [request.row() for request in result.requests]
    assert [row["output_tokens"] for row in rows] == [4] * 5
    assert [row["prompt_tokens"] for row in rows] == [31] * 5
    assert [row["index"] for row in rows] == list(range(5))


async def test_the_body_asks_for_a_stream_with_usage_and_exact_length(server: FakeOpenAI) -> None:
    await run(server, every(0.0, 1), chat=ChatOptions(seed=9))
    (body,) = server.bodies
    assert body["stream_options"] == {"include_usage": True}
    assert (body["max_tokens"], body["ignore_eos"], body["seed"]) == (4, True, 9)
    assert len(body["messages"][0]["content"].split()) == 20


async def test_a_tenant_is_named_in_a_header_and_the_default_one_is_not(
    server: FakeOpenAI,
) -> None:
    result = await run(server, (Arrival(0.0, 20, 4, tenant="flood"), Arrival(0.05, 20, 4)))
    assert [headers.get("x-steppe-tenant") for headers in server.headers] == ["flood", None]
    assert [request.row()["tenant"] for request in result.requests] == ["flood", "default"]


async def test_prompts_share_the_words_that_a_prefix_cache_is_to_hold(server: FakeOpenAI) -> None:
    arrivals = tuple(Arrival(0.05 * n, 30, 4, cached_tokens=10 * n) for n in range(3))
    result = await run(server, arrivals)
    first, second, third = (body["messages"][0]["content"].split() for body in server.bodies)
    assert second[:10] == third[:10]
    assert second[10:] != third[10:]
    assert first[:10] != second[:10]
    assert [request.row()["asked_cached_tokens"] for request in result.requests] == [0, 10, 20]


async def test_respecting_eos_sends_no_vendor_key(server: FakeOpenAI) -> None:
    await run(server, every(0.0, 1), chat=ChatOptions(ignore_eos=False))
    assert "ignore_eos" not in server.bodies[0]


async def test_requests_start_on_time_while_nothing_is_answered(server: FakeOpenAI) -> None:
    server.may_answer.clear()

    def release_after_the_last(progress: ReplayProgress) -> None:
        if progress.sent == 6:
            server.may_answer.set()

    result = await replay(
        ServerTarget(server.url, "small"), every(0.04, 6), on_progress=release_after_the_last
    )
    assert result.max_running == 6
    assert all(request.sent_s >= request.due_s for request in result.requests)
    spread_s = server.came_s[-1] - server.came_s[0]
    assert spread_s >= 0.15


async def test_the_begin_callback_runs_once_before_the_first_request(server: FakeOpenAI) -> None:
    sent_by_then: list[int] = []
    await run(server, every(0.0, 3), on_begin=lambda: sent_by_then.append(len(server.bodies)))
    assert sent_by_then == [0]


async def test_a_503_is_retried_after_its_retry_after(server: FakeOpenAI) -> None:
    server.refusals = [(503, {"Retry-After": "0"}), (503, {"Retry-After": "0"})]
    result = await run(server, every(0.0, 1))
    assert result.all_completed
    assert result.requests[0].retries == 2
    ttft_s = result.requests[0].ttft_s
    assert ttft_s is not None
    assert ttft_s >= 0.2


@pytest.mark.parametrize(
    ("status", "headers", "finish"),
    [
        (503, {}, "shed"),
        (503, {"Retry-After": "3600"}, "shed"),
        (503, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, "shed"),
        (429, {"Retry-After": "1"}, "rejected"),
        (500, {}, "failed"),
    ],
)
async def test_other_refusals_end_the_request_and_are_counted(
    server: FakeOpenAI, status: int, headers: dict[str, str], finish: str
) -> None:
    server.refusals = [(status, headers)]
    result = await run(server, every(0.0, 2))
    assert sorted(request.finish for request in result.requests) == sorted(["length", finish])
    assert not result.all_completed


@pytest.mark.parametrize(("status", "attainment"), [(400, 1.0), (500, 0.5)])
async def test_only_server_errors_count_for_attainment(
    server: FakeOpenAI, status: int, attainment: float
) -> None:
    server.refusals = [(status, {})]
    summary = (await run(server, every(0.0, 2))).summary(Slo(ttft_s=60.0, tpot_s=60.0))
    assert (summary["failed"], summary["slo_attainment"]) == (1, attainment)


async def test_an_error_body_that_is_not_utf8_is_decoded_with_replacements(
    server: FakeOpenAI,
) -> None:
    server.refusals, server.refusal = (
        [(500, {"Content-Type": "text/plain; charset=utf-8"})],
        b"n\xff",
    )
    result = await run(server, every(0.0, 1))
    assert result.errors == {"status 500: n\ufffd": 1}


async def test_a_stream_that_breaks_off_is_a_failure(server: FakeOpenAI) -> None:
    server.break_off = True
    result = await run(server, every(0.0, 1))
    assert result.errors == {"the stream broke off before [DONE]": 1}


async def test_an_unreachable_server_fails_every_request() -> None:
    result = await replay(ServerTarget("http://127.0.0.1:9", "small"), every(0.0, 2))
    assert [request.finish for request in result.requests] == ["failed", "failed"]


async def test_a_request_that_times_out_has_failed(server: FakeOpenAI) -> None:
    server.may_answer.clear()
    result = await run(server, every(0.0, 1), request_timeout_s=0.1)
    assert result.errors == {"timed out": 1}


async def test_the_deadline_cancels_unfinished_requests(server: FakeOpenAI) -> None:
    server.may_answer.clear()
    arrivals = (*every(0.01, 2), Arrival(60.0, 5, 5))
    result = await run(server, arrivals, deadline_s=0.2)
    assert [request.finish for request in result.requests] == ["cancelled", "cancelled"]
    assert result.summary(Slo(ttft_s=0.1, tpot_s=1.0))["slo_attainment"] == 0.0
    assert result.summary(Slo(ttft_s=9.0, tpot_s=1.0))["slo_attainment"] is None
    assert (result.not_sent, result.overdue) == (1, 0)


async def test_requests_that_were_due_and_never_sent_are_overdue(server: FakeOpenAI) -> None:
    stop = asyncio.Event()
    arrivals = (*every(0.0, 1000), Arrival(60.0, 5, 5))
    result = await replay(
        ServerTarget(server.url, "small"), arrivals, on_progress=lambda _: stop.set(), stop=stop
    )
    assert len(result.requests) + result.not_sent == 1001
    assert result.overdue == result.not_sent - 1 > 0


async def test_a_closed_loop_that_is_stopped_has_nothing_overdue(server: FakeOpenAI) -> None:
    server.may_answer.clear()
    result = await run(server, every(0.0, 5), pacing=ClosedLoop(2), deadline_s=0.1)
    assert (result.not_sent, result.overdue) == (3, 0)


async def test_stop_ends_a_replay_early_and_keeps_its_results(server: FakeOpenAI) -> None:
    stop = asyncio.Event()

    def stop_after_one(progress: ReplayProgress) -> None:
        if progress.completed == 1:
            stop.set()

    arrivals = (Arrival(0.0, 5, 5), Arrival(60.0, 5, 5))
    result = await replay(
        ServerTarget(server.url, "small"), arrivals, on_progress=stop_after_one, stop=stop
    )
    assert [request.finish for request in result.requests] == ["length"]


async def test_cancelling_the_caller_leaves_no_task_behind(server: FakeOpenAI) -> None:
    server.may_answer.clear()
    before = asyncio.all_tasks()
    sent = asyncio.Event()
    task = asyncio.ensure_future(
        replay(ServerTarget(server.url, "small"), every(0.0, 3), on_progress=lambda _: sent.set())
    )
    await sent.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == before


async def test_a_closed_loop_keeps_its_concurrency_and_ignores_times(server: FakeOpenAI) -> None:
    result = await run(server, every(100.0, 20), pacing=ClosedLoop(3))
    assert result.all_completed
    assert len(result.requests) == 20
    assert result.max_running == 3
    assert server.most_running <= 4  # a handler may outlive its client's last byte


async def test_a_closed_loop_starts_at_most_as_many_senders_as_requests(
    server: FakeOpenAI,
) -> None:
    result = await run(server, every(0.0, 2), pacing=ClosedLoop(10**12))
    assert (result.all_completed, result.max_running) == (True, 2)


async def test_a_closed_loop_with_a_duration_repeats_the_arrivals_until_it_ends(
    server: FakeOpenAI,
) -> None:
    result = await run(server, every(100.0, 3), pacing=ClosedLoop(2, duration_s=0.5))
    assert result.all_completed
    assert len(result.requests) > 3
    assert max(request.sent_s for request in result.requests) < 5.0, "one begins in time, or soon"
    assert result.duration_s >= 0.5
    prompts = [request.arrival.prompt_tokens for request in result.requests]
    assert prompts[:6] == [20, 21, 22] * 2
    texts = {body["messages"][0]["content"] for body in server.bodies}
    assert len(texts) == len(server.bodies), "a repeated arrival must have a new prompt"


async def test_requests_outstanding_when_the_duration_ends_are_completed(
    server: FakeOpenAI,
) -> None:
    server.may_answer.clear()
    load = asyncio.create_task(run(server, every(0.0, 1), pacing=ClosedLoop(2, duration_s=0.05)))
    await asyncio.sleep(0.5)
    assert not load.done()
    server.may_answer.set()
    result = await load
    assert (result.all_completed, len(result.requests)) == (True, 2)


async def test_a_closed_loop_with_a_duration_that_is_stopped_has_nothing_unsent(
    server: FakeOpenAI,
) -> None:
    server.may_answer.clear()
    pacing = ClosedLoop(2, duration_s=60.0)
    result = await run(server, every(0.0, 5), pacing=pacing, deadline_s=0.1)
    assert [request.finish for request in result.requests] == ["cancelled", "cancelled"]
    assert (result.not_sent, result.overdue) == (0, 0)


async def test_progress_adds_up_at_the_end(server: FakeOpenAI) -> None:
    updates: list[ReplayProgress] = []
    server.refusals = [(503, {"Retry-After": "0"}), (500, {})]
    await replay(ServerTarget(server.url, "small"), every(0.0, 3), on_progress=updates.append)
    last = updates[-1]
    assert (last.sent, last.running, last.completed, last.unserved) == (3, 0, 2, 1)
    assert (last.retries, last.output_tokens) == (1, 8)


async def test_prompts_depend_only_on_the_seed_and_the_index(server: FakeOpenAI) -> None:
    for seed in (1, 1, 2):
        await run(server, every(0.02, 2), seed=seed)
    texts = [body["messages"][0]["content"] for body in server.bodies]
    assert sorted(texts[0:2]) == sorted(texts[2:4])
    assert len(set(texts)) == 4

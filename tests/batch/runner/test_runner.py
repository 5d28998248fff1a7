from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.fixtures.batch_gateway import (
    FakeGateway,
    answer_with,
    completion,
    die_mid_answer,
    hang_up,
    refusal,
)

from steppe.batch.job import Job, JobState, When, new_job_id
from steppe.batch.report.timeline import read_timeline
from steppe.batch.row import BadRow, RowResult, make_row
from steppe.batch.runner.answer import GatewayRefusedError
from steppe.batch.runner.progress import RunProgress
from steppe.batch.runner.runner import RunEnd, Runner
from steppe.batch.runner.settings import RunnerSettings
from steppe.batch.store.job_store import JobStore
from steppe.errors import JobBusyError

CHAT = "/v1/chat/completions"
SOON_S = 60.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    opened = JobStore(str(tmp_path / "jobs.sqlite"))
    yield opened
    opened.close()


def add_job(store: JobStore, *texts: str, loaded: bool = True) -> str:
    """Add a job with a row for each text."""
    id_ = new_job_id()
    state = JobState.IN_PROGRESS if loaded else JobState.VALIDATING
    store.add_job(Job(id_, "", "m", CHAT, When.DEADLINE, 0.0, state=state))
    add_rows(store, id_, *texts)
    return id_


def add_rows(store: JobStore, id_: str, *texts: str) -> None:
    store.add_rows(id_, [row(number, text) for number, text in enumerate(texts)])


def row(number: int, text: str) -> Any:
    body = {"model": "m", "messages": [{"role": "user", "content": text}], "max_tokens": 7}
    return make_row(number, text, CHAT, body)


def runner(store: JobStore, id_: str, gateway: FakeGateway, **more: Any) -> Runner:
    on_progress = more.pop("on_progress", lambda progress: None)
    settings = RunnerSettings(gateway.url, **{"stop_grace_s": 0.2, "retry_pause_s": 0.05, **more})
    return Runner(store, id_, settings, on_progress=on_progress)


async def run(store: JobStore, id_: str, gateway: FakeGateway, **more: Any) -> RunEnd:
    async with asyncio.timeout(SOON_S):
        return await runner(store, id_, gateway, **more).run()


def results(store: JobStore, id_: str) -> dict[str, RowResult]:
    found = [stored.result for stored in store.results(id_)]
    assert len({result.custom_id for result in found}) == len(found), "a row has two results"
    return {result.custom_id: result for result in found}


async def wait_until(condition: Any) -> None:
    async with asyncio.timeout(SOON_S):
        while not condition():
            await asyncio.sleep(0.01)


async def test_every_row_gets_its_answer_with_tokens_joules_and_replica(store: JobStore) -> None:
    texts = [f"row {number}" for number in range(200)]
    id_ = add_job(store, *texts)
    async with FakeGateway().running() as gateway:
        end = await run(store, id_, gateway)
    assert (end.state, end.counts.completed, end.counts.failed) == (JobState.COMPLETED, 200, 0)
    found = results(store, id_)
    assert set(found) == set(texts)
    one = found["row 7"]
    assert (one.status, one.output_tokens, one.prompt_tokens) == (200, 3, 5)
    assert (one.energy_j, one.energy_source, one.boundary, one.replica) == (
        2.0, "emulated", "gpu", "r0",
    )  # fmt: skip
    assert (one.attempts, one.model) == (1, "m")
    assert 0 < one.started_epoch_s <= one.ended_epoch_s
    assert store.totals(id_).output_tokens == 600
    job = store.job(id_)
    assert job is not None
    assert {JobState.FINALIZING, JobState.COMPLETED} <= set(job.entered)


async def test_rows_travel_as_deferrable_requests_that_ask_for_their_energy(
    store: JobStore,
) -> None:
    id_ = add_job(store, "a", "b")
    async with FakeGateway().running() as gateway:
        await run(store, id_, gateway, headers=(("Authorization", "Bearer key"),))
    for headers in gateway.headers:
        assert headers["x-steppe-priority"] == "deferrable"
        assert headers["x-steppe-energy"] == "true"
        assert headers["authorization"] == "Bearer key"
    assert len({headers["x-request-id"] for headers in gateway.headers}) == 2


async def test_a_gateway_without_the_work_protocol_gets_a_fixed_number_of_rows(
    store: JobStore,
) -> None:
    id_ = add_job(store, *[str(number) for number in range(60)])

    async def slowly(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        await asyncio.sleep(0.01)
        return web.json_response(completion())

    async with FakeGateway(every=slowly).running() as gateway:
        await run(store, id_, gateway, most_outstanding=7)
    assert gateway.most_open == 7


async def test_no_more_rows_are_open_than_the_gateway_wants(store: JobStore) -> None:
    id_ = add_job(store, *[str(number) for number in range(40)])

    async def slowly(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        await asyncio.sleep(0.02)
        return web.json_response(completion())

    async with FakeGateway(every=slowly, wanted=3).running() as gateway:
        end = await run(store, id_, gateway)
    assert end.state is JobState.COMPLETED
    assert gateway.most_open == 3
    declared = gateway.work[0]
    assert (declared["model"], declared["rows"], declared["when"]) == ("m", 40, "deadline")
    assert declared["output_tokens"] == 7 * 40
    assert gateway.withdrawn == 1


async def test_work_that_the_gateway_does_not_want_yet_waits(store: JobStore) -> None:
    id_ = add_job(store, "a")
    seen: list[RunProgress] = []
    async with FakeGateway(wanted=0).running() as gateway:
        waiting = runner(store, id_, gateway, on_progress=seen.append)
        running = asyncio.create_task(waiting.run())
        await wait_until(lambda: seen and seen[-1].allowed == 0)
        assert not gateway.seen
        gateway.wanted = 2
        async with asyncio.timeout(SOON_S):
            assert (await running).state is JobState.COMPLETED
    assert seen[-1].finish.sure == 0.9


async def test_a_busy_gateway_costs_no_attempt(store: JobStore) -> None:
    busy = answer_with(lambda: refusal(503, "queue_full", "0"))
    limit = answer_with(lambda: refusal(429, "rate_limit_exceeded", "0"))
    id_ = add_job(store, "a", "b", "c")
    gateway = FakeGateway({"a": [busy] * 6, "b": [limit, busy]})
    async with gateway.running():
        end = await run(store, id_, gateway, most_attempts=2)
    assert end.counts.completed == 3
    assert results(store, id_)["a"].attempts == 1
    assert gateway.seen["a"] == 7


async def test_a_job_whose_tenant_cannot_pay_waits_and_says_why(
    store: JobStore, caplog: pytest.LogCaptureFixture
) -> None:
    texts = [f"row {number}" for number in range(12)]
    id_, seen = add_job(store, *texts), list[RunProgress]()
    refused = 0

    async def answer(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        nonlocal refused
        if not any(progress.reason for progress in seen):
            refused += 1
            return refusal(402, "insufficient_funds", "0.3")
        return web.json_response(completion())

    gateway = FakeGateway(every=answer)
    async with gateway.running(), asyncio.timeout(SOON_S):
        end = await run(store, id_, gateway, on_progress=seen.append)
    assert (end.state, end.counts.completed) == (JobState.COMPLETED, 12)
    assert {each.attempts for each in results(store, id_).values()} == {1}
    assert "insufficient_funds" in {progress.reason for progress in seen}
    assert seen[-1].reason == ""
    assert refused < 60  # all rows once, then one at a time
    assert caplog.text.count("asked for a row, found insufficient_funds") == 1


async def test_a_row_that_nobody_pays_for_expires_with_its_job(store: JobStore) -> None:
    id_ = add_job(store, "a")
    gateway = FakeGateway(every=answer_with(lambda: refusal(402, "no_account", "3600")))
    async with gateway.running(), asyncio.timeout(SOON_S):
        ends_s = time.time() + 1.0
        end = await run(store, id_, gateway, expires_epoch_s=ends_s)
    assert end.state is JobState.EXPIRED
    assert results(store, id_)["a"].error_code == "batch_expired"


async def test_a_bad_row_is_an_error_at_once_and_the_others_go_on(store: JobStore) -> None:
    id_ = add_job(store, "good", "bad", "large")
    gateway = FakeGateway(
        {
            "bad": [answer_with(lambda: refusal(400, "invalid_value"))],
            "large": [answer_with(lambda: refusal(429, "request_too_large"))],
        }
    )
    async with gateway.running():
        end = await run(store, id_, gateway)
    assert (end.state, end.counts.completed, end.counts.failed) == (JobState.COMPLETED, 1, 2)
    found = results(store, id_)["bad"]
    assert (found.status, found.failed, found.error) == (400, True, "")
    assert b"invalid_value" in found.body
    assert gateway.seen["bad"] == 1


async def test_a_row_that_fails_replicas_is_tried_elsewhere_and_its_joules_are_wasted(
    store: JobStore,
) -> None:
    def failed() -> web.Response:
        response = refusal(500, "engine_dead")
        response.headers["X-Steppe-Replica"] = "r1"
        return response

    id_ = add_job(store, "a", "b")
    gateway = FakeGateway({"a": [answer_with(failed)]}, books={"any": 4.0})
    async with gateway.running():
        await run(store, id_, gateway)
    found = results(store, id_)["a"]
    assert (found.status, found.attempts, found.wasted_j, found.energy_j) == (200, 2, 4.0, 2.0)
    assert [
        headers["x-steppe-avoid"] for headers in gateway.headers if "x-steppe-avoid" in headers
    ] == ["r1"]
    assert store.totals(id_).wasted_j == 4.0


async def test_a_poison_row_becomes_an_error_after_its_attempts(store: JobStore) -> None:
    dead = answer_with(lambda: refusal(502, "replica_lost"))
    id_ = add_job(store, "poison", *[str(number) for number in range(20)])
    gateway = FakeGateway({"poison": [dead] * 9})
    async with gateway.running():
        end = await run(store, id_, gateway, most_attempts=3)
    assert (end.counts.completed, end.counts.failed) == (20, 1)
    found = results(store, id_)["poison"]
    assert (found.status, found.error_code, found.attempts) == (502, "attempts_exhausted", 3)
    assert found.error.startswith("tried 3 times, the last one ended with: status 502: ")
    assert gateway.seen["poison"] == 3


@pytest.mark.parametrize("broken", [die_mid_answer, hang_up])
async def test_a_connection_that_breaks_is_no_fault_of_the_row(
    store: JobStore, broken: Any
) -> None:
    id_ = add_job(store, "a", "b")
    gateway = FakeGateway({"a": [broken, broken]})
    async with gateway.running():
        end = await run(store, id_, gateway, most_attempts=1)
    assert end.counts.completed == 2
    assert results(store, id_)["a"].attempts == 1


async def test_a_gateway_that_is_away_is_waited_for(store: JobStore, unused_tcp_port: int) -> None:
    id_ = add_job(store, "a", "b")
    gateway = FakeGateway(url=f"http://127.0.0.1:{unused_tcp_port}")
    running = asyncio.create_task(runner(store, id_, gateway, most_backoff_s=0.1).run())
    await asyncio.sleep(0.3)
    async with gateway.running(unused_tcp_port), asyncio.timeout(SOON_S):
        assert (await running).counts.completed == 2


async def test_a_wrong_key_stops_the_job_and_no_row_is_an_error(store: JobStore) -> None:
    id_ = add_job(store, "a", "b")
    gateway = FakeGateway(every=answer_with(lambda: refusal(401, "invalid_api_key")))
    async with gateway.running():
        with pytest.raises(GatewayRefusedError, match="the gateway answers 401"):
            await run(store, id_, gateway)
    counts = store.counts(id_)
    assert (counts.waiting, counts.running, counts.finished) == (2, 0, 0)
    assert store.lease_owner(id_, 0.0) is None


async def test_a_stopped_job_goes_on_where_it_was(store: JobStore) -> None:
    texts = [str(number) for number in range(50)]
    id_ = add_job(store, *texts)
    never = asyncio.Event()

    async def hold(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if int(body["messages"][0]["content"]) >= 20:
            await never.wait()
        return web.json_response(completion())

    async with FakeGateway(every=hold).running() as gateway:
        first = runner(store, id_, gateway, most_outstanding=30)
        running = asyncio.create_task(first.run())
        await wait_until(lambda: store.counts(id_).completed == 20)
        first.stop()
        async with asyncio.timeout(SOON_S):
            end = await running
        assert end.state is JobState.IN_PROGRESS
        assert (end.counts.waiting, end.counts.running) == (30, 0)
        gateway.every = None
        assert (await run(store, id_, gateway)).state is JobState.COMPLETED
    assert set(results(store, id_)) == set(texts)
    assert all(gateway.seen[text] == 1 for text in texts[:20])


async def test_a_second_runner_of_a_job_is_refused_in_one_line(store: JobStore) -> None:
    id_ = add_job(store, "a")
    async with FakeGateway(wanted=0).running() as gateway:
        first = runner(store, id_, gateway)
        running = asyncio.create_task(first.run())
        await wait_until(lambda: gateway.work)
        with pytest.raises(JobBusyError, match=f"asked to run job {id_}, found it run by "):
            await run(store, id_, gateway)
        first.stop()
        async with asyncio.timeout(SOON_S):
            await running


async def test_a_cancelled_job_ends_with_the_results_that_it_has(store: JobStore) -> None:
    id_ = add_job(store, "a", "b")
    gateway = FakeGateway({"b": [answer_with(lambda: refusal(503, "no_replica", "100000"))]})
    async with gateway.running():
        running = asyncio.create_task(runner(store, id_, gateway).run())
        await wait_until(lambda: store.counts(id_).completed == 1)
        store.change_state(id_, JobState.CANCELLING, 1.0, [JobState.IN_PROGRESS])
        async with asyncio.timeout(SOON_S):
            end = await running
    assert end.state is JobState.CANCELLED
    assert results(store, id_)["b"].error_code == "batch_cancelled"


async def test_rows_that_come_too_late_expire(store: JobStore) -> None:
    id_ = add_job(store, "a")
    async with FakeGateway(wanted=0).running() as gateway:
        end = await run(store, id_, gateway, expires_epoch_s=1.0)
    assert end.state is JobState.EXPIRED
    assert results(store, id_)["a"].error_code == "batch_expired"


async def test_a_late_job_expires_at_a_gateway_that_refuses_every_row(store: JobStore) -> None:
    id_ = add_job(store, "a")
    gateway = FakeGateway(every=answer_with(lambda: refusal(401, "invalid_api_key")))
    async with gateway.running():
        end = await run(store, id_, gateway, expires_epoch_s=1.0)
    assert end.state is JobState.EXPIRED
    assert results(store, id_)["a"].error_code == "batch_expired"
    assert not gateway.seen


async def test_an_answer_whose_energy_is_waited_for_is_kept_by_a_job_that_is_stopped(
    store: JobStore,
) -> None:
    id_ = add_job(store, "a")
    answered = asyncio.Event()

    async def without_energy(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        answer = completion()
        del answer["usage"]["energy"]
        answered.set()
        return web.json_response(answer, headers={"X-Steppe-Energy-Wait": "2.0"})

    async with FakeGateway(every=without_energy, books={"any": 7.5}).running() as gateway:
        first = runner(store, id_, gateway, stop_grace_s=SOON_S, retry_pause_s=0.5)
        running = asyncio.create_task(first.run())
        async with asyncio.timeout(SOON_S):
            await answered.wait()
            first.stop()
            end = await running
    assert (end.state, end.counts.completed) == (JobState.COMPLETED, 1)
    assert results(store, id_)["a"].energy_j == 7.5
    assert gateway.seen["a"] == 1


async def test_a_server_that_knows_no_energy_of_requests_costs_a_row_an_attempt_only(
    store: JobStore,
) -> None:
    id_ = add_job(store, "a")
    gateway = FakeGateway({"a": [answer_with(lambda: web.Response(status=500))]})
    gateway.about_requests = {"found": "nothing"}
    async with gateway.running():
        end = await run(store, id_, gateway)
    assert (end.state, end.counts.completed) == (JobState.COMPLETED, 1)
    assert results(store, id_)["a"].attempts == 2


async def test_rows_run_while_others_are_still_read(store: JobStore) -> None:
    id_ = add_job(store, "a", loaded=False)
    async with FakeGateway().running() as gateway:
        running = asyncio.create_task(runner(store, id_, gateway).run())
        await wait_until(lambda: store.counts(id_).completed == 1)
        add_rows(store, id_, "a", "b", "c")
        store.add_rows(id_, [BadRow(3, "row-4", "torn")])
        store.change_state(id_, JobState.IN_PROGRESS, 1.0, [JobState.VALIDATING])
        async with asyncio.timeout(SOON_S):
            end = await running
    assert (end.state, end.counts.completed, end.counts.failed) == (JobState.COMPLETED, 3, 1)


async def test_progress_and_timeline_show_the_job(store: JobStore, tmp_path: Path) -> None:
    id_ = add_job(store, "a", "b")
    seen: list[RunProgress] = []
    timeline = tmp_path / "timeline.jsonl"
    async with FakeGateway().running() as gateway:
        await run(store, id_, gateway, on_progress=seen.append, timeline=timeline, owner="me")
    last = seen[-1]
    assert (last.total, last.done, last.left, last.output_tokens) == (2, 2, 0, 6)
    assert last.energy_j == 4.0
    points = read_timeline(timeline)
    assert (points[0].runner, points[-1].progress.rows_done) == ("me", 2)
    assert points[-1].supply_w == 300.0


async def test_an_energy_that_comes_late_is_asked_for(store: JobStore) -> None:
    def without_energy() -> web.Response:
        body = completion()
        del body["usage"]["energy"]
        return web.json_response(body, headers={"X-Steppe-Energy-Wait": "2.0"})

    id_ = add_job(store, "a", "b")
    gateway = FakeGateway(every=answer_with(without_energy), books={"any": 7.5})
    async with gateway.running():
        await run(store, id_, gateway)
    found = results(store, id_)["a"]
    assert (found.energy_j, found.energy_source, found.boundary) == (7.5, "emulated", "gpu")


async def test_rows_that_wait_for_their_energy_take_no_place(store: JobStore) -> None:
    id_ = add_job(store, *[str(number) for number in range(600)])

    async def held(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        await asyncio.sleep(0.05)
        return web.json_response(completion(), headers={"X-Steppe-Energy-Wait": "1000"})

    async with FakeGateway(every=held).running() as gateway:
        await run(store, id_, gateway, most_outstanding=10)
    assert gateway.most_open > 10

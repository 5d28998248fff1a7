"""OpenAI's client against a gateway with a batch service and a replica."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai
import pytest
from aiohttp import web
from openai.types import Batch
from tests.gateway.site import CHAT_BODY, Clock, FakeReplica, Site, SiteFactory

from steppe.batch.api_client import ApiClient
from steppe.batch.rows.options import RowOptions
from steppe.batch.service.service import BatchService
from steppe.batch.service.settings import BatchSettings
from steppe.config import BatchSection
from steppe.engine.run_secret import secret_headers
from steppe.gateway.access import AccessSettings
from steppe.gateway.batch_api import UploadLimits
from steppe.gateway.driver_news import DriverNews
from steppe.run.batch_remote import fetch, submit
from steppe.tenants.key import make_key
from steppe.tenants.tenant import KnownTenants, Tenant

KEYS = {name: make_key(name, 0.0) for name in ("a", "b")}
SECRET, CHAT, MIB = "of-this-run", "/v1/chat/completions", 1 << 20
ENDED = ("completed", "failed", "expired", "cancelled")


@dataclass
class BatchSite:
    """A gateway with keys, a replica and a batch service that can be killed and started again."""

    site: Site
    replica: FakeReplica
    section: BatchSection
    offset_s: float = 0.0
    grace_s: float = 0.1
    service: BatchService | None = None
    clients: list[openai.AsyncOpenAI] = field(default_factory=list)

    async def start(self) -> None:
        settings = BatchSettings(
            self.section, self.site.url, secret_headers(SECRET), grace_s=self.grace_s
        )
        self.service = BatchService(settings, self.epoch_s, retry_s=0.1)
        self.site.gateway.tell(DriverNews(services={"batch": await self.service.start()}))

    async def stop(self) -> None:
        if self.service is not None:
            await self.service.stop()
        for client in self.clients:
            await client.close()

    def epoch_s(self) -> float:
        """The time, which a test may turn forward."""
        return 1e9 + self.offset_s

    def client(self, tenant: str = "a") -> openai.AsyncOpenAI:
        key = KEYS[tenant].text
        client = openai.AsyncOpenAI(base_url=self.site.url + "/v1", api_key=key, max_retries=0)
        self.clients.append(client)
        return client

    async def lines(self, file_id: str | None, tenant: str = "a") -> list[dict[str, Any]]:
        assert file_id is not None
        content = await self.client(tenant).files.content(file_id)
        return [json.loads(line) for line in content.text.splitlines()]


@pytest.fixture
async def batches(open_site: SiteFactory, tmp_path: Path) -> AsyncIterator[BatchSite]:
    known = KnownTenants(
        tuple(Tenant(name, models=("m",)) for name in KEYS),
        tuple(key.stored for key in KEYS.values()),
    )
    site = await open_site(
        access=AccessSettings(known, run_secret=SECRET),
        now_s=Clock(),  # so that no table of routes is ever too old
        energy_wait_s=0.01,
        uploads=UploadLimits(),
        run_secret=SECRET,
    )
    section = BatchSection(folder=tmp_path / "batch")
    opened = BatchSite(site, await site.awake_replica(), section)
    await opened.start()
    yield opened
    await opened.stop()


def line(custom_id: str, url: str = CHAT, **body: object) -> bytes:
    whole = {"model": "m", "messages": [{"role": "user", "content": custom_id}], **body}
    found = {"custom_id": custom_id, "method": "POST", "url": url, "body": whole}
    return json.dumps(found).encode() + b"\n"


def lines(count: int) -> bytes:
    return b"".join(line(f"id-{n}") for n in range(count))


async def created(
    client: openai.AsyncOpenAI, content: bytes, endpoint: Any = CHAT, **more: Any
) -> Batch:
    file = await client.files.create(file=("in.jsonl", content), purpose="batch")
    return await client.batches.create(
        input_file_id=file.id, endpoint=endpoint, completion_window="24h", **more
    )


async def until(
    client: openai.AsyncOpenAI, batch: Batch, condition: Callable[[Batch], bool]
) -> Batch:
    async with asyncio.timeout(50):
        while not condition(found := await client.batches.retrieve(batch.id)):
            await asyncio.sleep(0.02)
    return found


def completed(batch: Batch) -> int:
    return 0 if batch.request_counts is None else batch.request_counts.completed


def has_ended(batch: Batch) -> bool:
    return batch.status in ENDED


async def test_the_official_client_runs_a_batch_from_upload_to_download(
    batches: BatchSite,
) -> None:
    client = batches.client()
    batch = await created(client, lines(20), metadata={"project": "1"})
    assert (batch.status, batch.metadata) == ("validating", {"project": "1"})
    ended = await until(client, batch, has_ended)
    assert (ended.status, ended.error_file_id, ended.errors) == ("completed", None, None)
    counts = ended.request_counts
    assert counts is not None
    assert (counts.total, counts.completed, counts.failed) == (20, 20, 0)
    assert ended.usage is not None
    assert (ended.usage.input_tokens, ended.usage.output_tokens) == (20 * 11, 20 * 2)
    assert ended.usage.input_tokens_details.cached_tokens == 20 * 8
    assert (ended.model, ended.endpoint) == ("m", CHAT)
    times = (ended.created_at, ended.in_progress_at, ended.finalizing_at, ended.completed_at)
    assert all(times)
    found = await batches.lines(ended.output_file_id)
    assert {each["custom_id"] for each in found} == {f"id-{n}" for n in range(20)}
    for each in found:
        assert (each["response"]["status_code"], each["error"]) == (200, None)
        assert each["response"]["body"] == json.loads(CHAT_BODY)
    assert len({each["id"] for each in found}) == 20
    file = await client.files.retrieve(ended.output_file_id or "")
    assert (file.purpose, file.filename) == ("batch_output", f"{batch.id}_output.jsonl")
    assert [each.id async for each in client.batches.list()] == [batch.id]
    named = {each.id async for each in client.files.list(purpose="batch_output")}
    assert named == {ended.output_file_id}
    assert (await client.files.delete(ended.output_file_id or "")).deleted


async def test_rows_are_deferrable_requests_of_their_tenant_that_are_charged_to_it(
    batches: BatchSite,
) -> None:
    client = batches.client("b")
    await until(client, await created(client, lines(3)), has_ended)
    finished = batches.site.gateway.drain_finished()
    assert {(each.tenant, each.priority) for each in finished} == {("b", "deferrable")}
    assert len(finished) == 3
    rows = [each for each in batches.replica.received if each.target == CHAT]
    assert len(rows) == 3
    assert KEYS["b"].text not in str([each.headers for each in rows])


async def test_a_tenant_sees_nothing_of_another_one(batches: BatchSite) -> None:
    mine, other = batches.client("a"), batches.client("b")
    batch = await until(mine, await created(mine, lines(1)), has_ended)
    assert [each.id async for each in other.batches.list()] == []
    assert [each.id async for each in other.files.list()] == []
    for call in (other.batches.retrieve, other.batches.cancel):
        with pytest.raises(openai.NotFoundError):
            await call(batch.id)
    for file_id in (batch.input_file_id, batch.output_file_id or ""):
        for file_call in (other.files.retrieve, other.files.content, other.files.delete):
            with pytest.raises(openai.NotFoundError):
                await file_call(file_id)


async def test_bad_lines_go_to_the_error_file_and_the_rest_goes_on(batches: BatchSite) -> None:
    client = batches.client()
    content = (
        line("good")
        + b'{"custom_id": "torn", "method": "POST", "url"\n\n'
        + line("other-url", "/v1/embeddings")
        + line("good")
        + line("other-model", model="other")
    )
    ended = await until(client, await created(client, content), has_ended)
    counts = ended.request_counts
    assert counts is not None
    assert (ended.status, counts.total, counts.completed, counts.failed) == ("completed", 5, 1, 4)
    assert [each["custom_id"] for each in await batches.lines(ended.output_file_id)] == ["good"]
    failed = {each["custom_id"]: each for each in await batches.lines(ended.error_file_id)}
    assert failed["row-1"]["error"]["code"] == "invalid_row"
    assert "line 2" in failed["row-1"]["error"]["message"]
    assert CHAT in failed["other-url"]["error"]["message"]
    assert failed["good"]["error"]["code"] == "duplicate_custom_id"
    answer = failed["other-model"]["response"]
    assert (answer["status_code"], answer["body"]["error"]["code"]) == (403, "model_not_allowed")


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"\n", "empty_file"),
        (b"{}\nno JSON\n", "invalid_row"),
        (b"PAR1" + bytes(100), "invalid_row"),
        (lines(3), "too_many_requests"),
        (line("large", note="x" * 2000), "file_too_large"),
    ],
)
async def test_an_input_that_cannot_begin_fails_and_says_why(
    batches: BatchSite, content: bytes, code: str
) -> None:
    assert batches.service is not None
    await batches.service.stop()
    limits: dict[str, Any] = {"lines": 2, "file_bytes": 1000}
    batches.section = batches.section.model_copy(update=limits)
    await batches.start()
    if code == "file_too_large":
        import gzip  # a packed file is small, and its requests are not

        content = gzip.compress(content)
    client = batches.client()
    ended = await until(client, await created(client, content), has_ended)
    assert (ended.status, ended.output_file_id) == ("failed", None)
    assert ended.failed_at is not None
    assert ended.errors is not None
    assert ended.errors.data
    assert ended.errors.data[0].code == code
    assert not [each for each in batches.replica.received if each.target == CHAT]


@dataclass
class TiredReplica(FakeReplica):
    """Answers its first requests only."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.may_answer.clear() if len(self.received) >= 5 else self.may_answer.set()
        return await super().answer(request)


async def test_a_cancelled_batch_keeps_what_was_done(batches: BatchSite) -> None:
    client, tired = batches.client(), TiredReplica("r1")
    await tired.start()
    batches.site.stack.push_async_callback(tired.stop)
    batches.site.route(tired)
    batch = await created(client, lines(30))
    await until(client, batch, lambda found: completed(found) == 5)
    assert (await client.batches.cancel(batch.id)).status == "cancelling"
    ended = await until(client, batch, has_ended)
    counts = ended.request_counts
    assert counts is not None
    assert (ended.status, counts.completed, counts.failed) == ("cancelled", 5, 25)
    assert ended.cancelled_at is not None
    assert len(await batches.lines(ended.output_file_id)) == 5
    codes = [each["error"]["code"] for each in await batches.lines(ended.error_file_id)]
    assert codes == ["batch_cancelled"] * 25
    with pytest.raises(openai.ConflictError, match="found it cancelled"):
        await client.batches.cancel(batch.id)


async def test_rows_that_are_late_are_in_the_error_file(batches: BatchSite) -> None:
    client = batches.client()
    batches.replica.may_answer.clear()
    batch = await created(client, lines(20))
    await batches.site.until(lambda: len(batches.replica.received) > 0)
    batches.offset_s = 86_401.0
    ended = await until(client, batch, has_ended)
    counts = ended.request_counts
    assert counts is not None
    assert (ended.status, counts.completed, counts.failed) == ("expired", 0, 20)
    assert (ended.output_file_id, ended.expired_at) == (None, int(1e9 + 86_401))
    codes = {each["error"]["code"] for each in await batches.lines(ended.error_file_id)}
    assert codes == {"batch_expired"}


async def test_a_batch_goes_on_when_its_service_starts_again(batches: BatchSite) -> None:
    client = batches.client()
    batches.replica.may_answer.clear()
    batch = await created(client, lines(40))
    await batches.site.until(lambda: len(batches.replica.received) > 0)
    assert batches.service is not None
    stopping = asyncio.create_task(batches.service.stop())
    batches.replica.may_answer.set()
    await stopping
    batches.site.gateway.tell(DriverNews())
    with pytest.raises(openai.InternalServerError, match="is starting"):
        await client.batches.retrieve(batch.id)
    await batches.start()
    ended = await until(client, batch, has_ended)
    assert ended.status == "completed"
    found = await batches.lines(ended.output_file_id)
    assert sorted(each["custom_id"] for each in found) == sorted(f"id-{n}" for n in range(40))


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [("/v1/completions", {"prompt": "Hello"}), ("/v1/embeddings", {"input": "Hello"})],
)
async def test_completions_and_embeddings_are_batches_too(
    batches: BatchSite, endpoint: str, body: dict[str, str]
) -> None:
    client = batches.client()
    whole = {"model": "m", **body}
    row = {"custom_id": "1", "method": "POST", "url": endpoint, "body": whole}
    batch = await created(client, json.dumps(row).encode(), endpoint)
    assert (await until(client, batch, has_ended)).status == "completed"
    (received,) = [each for each in batches.replica.received if each.target == endpoint]
    assert json.loads(received.body) == whole


async def test_a_job_has_a_report(batches: BatchSite) -> None:
    client = batches.client()
    batch = await until(client, await created(client, lines(2)), has_ended)
    url = f"{batches.site.url}/steppe/v1/batches/{batch.id}/report"
    headers = {"Authorization": f"Bearer {KEYS['a'].text}"}
    async with batches.site.client.get(url, headers=headers) as answer:
        assert (answer.status, answer.content_type) == (200, "application/json")
        assert (await answer.json())["job"]["id"] == batch.id
    async with batches.site.client.get(url + "?format=html", headers=headers) as answer:
        assert answer.content_type == "text/html"
        assert batch.id in await answer.text()
    headers = {"Authorization": f"Bearer {KEYS['b'].text}"}
    async with batches.site.client.get(url, headers=headers) as answer:
        assert answer.status == 404


async def test_the_commands_submit_and_fetch_use_the_same_api(
    batches: BatchSite, tmp_path: Path
) -> None:
    table = tmp_path / "prompts.csv"
    table.write_text("text\nThe wind\nThe sun\n")
    key = (("Authorization", f"Bearer {KEYS['a'].text}"),)
    client = ApiClient(batches.site.url, key)
    options = RowOptions(model="m")
    batch = await asyncio.to_thread(submit, client, table, options, "2h", {"by": "a command"})
    await until(batches.client(), Batch.model_validate(batch), has_ended)
    ended = await asyncio.to_thread(client.batch, batch["id"])
    assert (ended["completion_window"], ended["metadata"]) == ("2h", {"by": "a command"})
    output, errors = tmp_path / "out.jsonl", tmp_path / "errors.jsonl"
    assert await asyncio.to_thread(fetch, client, ended, output, errors) == [output]
    assert len(output.read_text().splitlines()) == 2
    report = await asyncio.to_thread(client.report, batch["id"])
    assert report["job"]["id"] == batch["id"]

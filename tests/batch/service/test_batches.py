"""`/v1/batches` of the batch service: what a client may ask for."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.batch.service.running import CHAT, Running, ServiceFactory, error_of, lines
from tests.fixtures.batch_gateway import FakeGateway, answer_with, refusal

from steppe.batch.service.service import BatchService
from steppe.batch.service.settings import BatchSettings
from steppe.batch.service.window import shown_window
from steppe.batch.store.job_store import JobStore
from steppe.config import BatchSection
from steppe.errors import UsageError
from steppe.services.folder_lock import FolderLock


async def test_a_new_batch_has_every_field_of_openais_api(service: Running) -> None:
    file = await service.upload(lines(2))
    job = await service.create(file["id"], metadata={"project": "1"})
    assert job["id"].startswith("batch_")
    assert (job["object"], job["endpoint"], job["input_file_id"]) == ("batch", CHAT, file["id"])
    assert (job["completion_window"], job["metadata"]) == ("24h", {"project": "1"})
    assert job["expires_at"] in (job["created_at"] + 86_400, job["created_at"] + 86_401)
    counts = {"total": 0, "completed": 0, "failed": 0}
    assert (job["status"], job["request_counts"]) == ("validating", counts)
    empty = ("errors", "output_file_id", "error_file_id", "in_progress_at", "completed_at")
    assert [job[name] for name in empty] == [None] * 5


async def test_a_job_says_what_its_rows_wait_for(open_service: ServiceFactory) -> None:
    poor = FakeGateway(every=answer_with(lambda: refusal(402, "insufficient_funds")))
    async with poor.running() as gateway, asyncio.timeout(60):
        service = await open_service(gateway.url)
        job = await service.create((await service.upload(lines(3)))["id"])
        assert job["waits_for"] is None
        while job["waits_for"] is None:
            await asyncio.sleep(0.05)
            _, job = await service.call("GET", f"/v1/batches/{job['id']}")
        await service.stop()
    assert job["waits_for"] == "insufficient_funds"
    assert (job["status"], job["request_counts"]["failed"]) == ("in_progress", 0)


@pytest.mark.parametrize(
    ("wanted", "code", "param"),
    [
        ({"completion_window": "30m"}, "invalid_value", "completion_window"),
        ({"completion_window": "31d"}, "invalid_value", "completion_window"),
        ({"completion_window": 24}, "invalid_value", "completion_window"),
        ({"completion_window": "soon"}, "invalid_value", "completion_window"),
        ({"endpoint": "/v1/responses"}, "invalid_value", "endpoint"),
        ({"endpoint": None}, "invalid_value", "endpoint"),
        ({"input_file_id": "file-0"}, "file_not_found", "input_file_id"),
        ({"input_file_id": 1}, "invalid_value", "input_file_id"),
        ({"metadata": {"a": 1}}, "invalid_value", "metadata"),
        ({"metadata": {str(n): "" for n in range(17)}}, "invalid_value", "metadata"),
        ({"metadata": {"a" * 65: ""}}, "invalid_value", "metadata"),
        ({"metadata": {"a": "b" * 513}}, "invalid_value", "metadata"),
        ({"output_expires_after": {"anchor": "now"}}, "invalid_value", "output_expires_after"),
        ({"when": "never"}, "invalid_value", "when"),
        ({"surplus": True}, "unknown_parameter", "surplus"),
    ],
)
async def test_a_value_out_of_range_is_named(
    service: Running, wanted: dict[str, Any], code: str, param: str
) -> None:
    file = await service.upload(lines(1))
    whole = {"input_file_id": file["id"], "endpoint": CHAT, "completion_window": "24h"}
    status, answer = await service.call("POST", "/v1/batches", json={**whole, **wanted})
    assert (status, error_of(answer)) == (400, (code, param))


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff"])
async def test_a_body_that_is_no_object_is_refused(service: Running, body: bytes) -> None:
    status, answer = await service.call("POST", "/v1/batches", data=body)
    assert (status, error_of(answer)[0]) == (400, "invalid_json")


@pytest.mark.parametrize(("window", "length_s"), [("1h", 3600), ("90m", 5400), ("7d", 604_800)])
async def test_a_window_may_have_any_length_from_an_hour(
    service: Running, window: str, length_s: int
) -> None:
    file = await service.upload(lines(1))
    job = await service.create(file["id"], completion_window=window)
    assert job["expires_at"] - job["created_at"] in (length_s, length_s + 1)


def test_windows_are_shown_in_their_largest_unit() -> None:
    shown = [shown_window(length_s) for length_s in (30.0, 60.0, 5400.0, 86_400.0)]
    assert shown == ["30s", "1m", "90m", "1d"]


async def test_a_batch_is_not_there_for_another_tenant(service: Running) -> None:
    file = await service.upload(lines(1))
    status, answer = await service.call(
        "POST",
        "/v1/batches",
        "b",
        json={"input_file_id": file["id"], "endpoint": CHAT, "completion_window": "24h"},
    )
    assert (status, error_of(answer)) == (400, ("file_not_found", "input_file_id"))
    job = await service.create(file["id"])
    for method, path in (("GET", ""), ("POST", "/cancel")):
        status, answer = await service.call(method, f"/v1/batches/{job['id']}{path}", "b")
        assert (status, error_of(answer)) == (404, ("batch_not_found", "id"))
    assert (await service.call("GET", "/v1/batches", "b"))[1]["data"] == []
    assert (await service.call("GET", f"/v1/batches?after={job['id']}", "b"))[0] == 404


async def test_batches_are_listed_in_pages(service: Running) -> None:
    file = await service.upload(lines(1))
    ids = [(await service.create(file["id"]))["id"] for _ in range(3)]
    _, newest = await service.call("GET", "/v1/batches?limit=2")
    assert [job["id"] for job in newest["data"]] == ids[:0:-1]
    assert (newest["has_more"], newest["first_id"]) == (True, ids[2])
    _, rest = await service.call("GET", f"/v1/batches?after={ids[1]}")
    assert ([job["id"] for job in rest["data"]], rest["has_more"]) == ([ids[0]], False)
    for limit in ("0", "101", "x", "-1", "1e9"):
        status, answer = await service.call("GET", f"/v1/batches?limit={limit}")
        assert (status, error_of(answer)[1]) == (400, "limit")


async def test_a_folder_has_one_service_at_a_time(service: Running, tmp_path: Path) -> None:
    assert service.folder.stat().st_mode & 0o777 == 0o700
    with pytest.raises(UsageError, match=r"batch\.folder: .* is in use by another run"):
        await asyncio.to_thread(FolderLock, service.folder, 0.0, "batch.folder")
    await service.stop()
    FolderLock(service.folder, 0.0, "batch.folder").release()
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"batch\.folder: cannot write"):
        FolderLock(tmp_path / "file", 0.0, "batch.folder")


async def test_a_folder_has_a_name_of_its_own_that_stays(tmp_path: Path) -> None:
    first = FolderLock(tmp_path / "a", 0.0, "batch.folder")
    first.release()
    again = FolderLock(tmp_path / "a", 0.0, "batch.folder")
    copy = Path(shutil.copytree(tmp_path / "a", tmp_path / "b"))
    other = FolderLock(copy, 0.0, "batch.folder")
    assert again.owner == first.owner != other.owner
    again.release()
    other.release()


async def test_a_store_has_one_service_at_a_time_whatever_its_folder(
    open_service: ServiceFactory, tmp_path: Path
) -> None:
    store = str(tmp_path / "shared.db")
    first = await open_service(store=store)
    with pytest.raises(UsageError, match=r"batch\.store: .* in use by another run until"):
        await open_service(store=store, folder=tmp_path / "other")
    await first.stop()
    await open_service(store=store, folder=tmp_path / "other")


async def test_a_service_that_has_lost_its_store_stops(tmp_path: Path) -> None:
    settings = BatchSettings(BatchSection(folder=tmp_path / "b"), "http://here")
    service = BatchService(settings, renew_s=0.01)
    url = await service.start()
    store = JobStore(settings.store, tmp_path / "b" / "files")
    store.lease_store("other", time.time() + 1e6, 60.0)
    async with aiohttp.ClientSession() as client, asyncio.timeout(20):
        while await _answers(client, url):
            await asyncio.sleep(0.01)
    await service.stop()
    with pytest.raises(UsageError, match="in use by another run"):
        await service.start()
    assert store.end_store_lease("other")
    store.close()


async def _answers(client: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with client.get(url + "/metrics") as answer:
            return answer.status == 200
    except aiohttp.ClientConnectionError:
        return False


async def test_the_metrics_count_open_jobs(open_service: ServiceFactory) -> None:
    service = await open_service()
    await service.create((await service.upload(lines(1)))["id"])
    async with service.client.get(service.url + "/metrics") as answer:
        text = await answer.text()
    assert 'steppe_batch_rows_total{state="completed"} 0.0' in text
    assert 'steppe_batch_jobs{state="validating"}' in text


async def test_a_service_that_could_not_start_can_be_started_later(
    tmp_path: Path,
) -> None:
    bad = tmp_path / "bad.db"
    bad.write_text("no database, but a text that is long enough to be none " * 100)
    settings = BatchSettings(BatchSection(folder=tmp_path / "b", store=str(bad)), "http://here")
    service = BatchService(settings)
    with pytest.raises(UsageError, match="not a database"):
        await service.start()
    bad.unlink()
    assert (await service.start()).startswith("http://127.0.0.1:")
    await service.stop()

"""`/v1/files` of the batch service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from tests.batch.service.running import Running, ServiceFactory, error_of, form, lines


async def test_a_file_that_was_uploaded_can_be_seen_and_read(service: Running) -> None:
    content = lines(3)
    file = await service.upload(content)
    assert file["bytes"] == len(content)
    assert (file["object"], file["purpose"], file["filename"]) == ("file", "batch", "in.jsonl")
    assert (file["status"], file["status_details"]) == ("processed", None)
    assert file["expires_at"] == file["created_at"] + 30 * 86_400
    assert await service.call("GET", f"/v1/files/{file['id']}") == (200, file)
    async with service.client.get(
        f"{service.url}/v1/files/{file['id']}/content", headers={"x-steppe-tenant": "a"}
    ) as answer:
        assert await answer.read() == content
        assert answer.content_length == len(content)


async def test_a_file_is_not_there_for_another_tenant(service: Running) -> None:
    file = await service.upload(lines(1))
    place = f"/v1/files/{file['id']}"
    calls = (("GET", place), ("GET", place + "/content"), ("DELETE", place))
    for method, path in calls:
        status, answer = await service.call(method, path, "b")
        assert (status, error_of(answer)) == (404, ("file_not_found", "id"))
    assert (await service.call("GET", "/v1/files", "b"))[1]["data"] == []
    assert (await service.call("GET", place))[0] == 200
    status, answer = await service.call("GET", f"/v1/files?after={file['id']}", "b")
    assert (status, error_of(answer)[1]) == (400, "after")


async def test_files_are_listed_in_pages(service: Running) -> None:
    ids = [(await service.upload(lines(1)))["id"] for _ in range(3)]
    _, newest = await service.call("GET", "/v1/files?limit=2")
    assert [file["id"] for file in newest["data"]] == ids[:0:-1]
    assert (newest["has_more"], newest["last_id"]) == (True, ids[1])
    _, rest = await service.call("GET", f"/v1/files?after={ids[1]}")
    assert ([file["id"] for file in rest["data"]], rest["has_more"]) == ([ids[0]], False)
    _, oldest = await service.call("GET", "/v1/files?order=asc&purpose=batch")
    assert [file["id"] for file in oldest["data"]] == ids
    assert (await service.call("GET", "/v1/files?purpose=vision"))[1]["data"] == []


async def test_a_deleted_file_is_gone_from_the_disk(service: Running) -> None:
    file = await service.upload(lines(1))
    content = service.folder / "files" / file["id"]
    assert content.is_file()
    deleted = {"id": file["id"], "object": "file", "deleted": True}
    assert await service.call("DELETE", f"/v1/files/{file['id']}") == (200, deleted)
    assert not content.exists()
    assert (await service.call("DELETE", f"/v1/files/{file['id']}"))[0] == 404


async def test_files_are_there_after_a_restart(
    service: Running, open_service: ServiceFactory
) -> None:
    file = await service.upload(lines(1))
    await service.stop()
    again = await open_service()
    assert await again.call("GET", f"/v1/files/{file['id']}") == (200, file)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"purpose": "fine-tune"}, "purpose"),
        ({"purpose": ""}, "purpose"),
        ({"purpose": "x" * 2000}, "purpose"),
        ({"expires_after[anchor]": "now", "expires_after[seconds]": "4000"}, "expires_after"),
        ({"expires_after[anchor]": "created_at"}, "expires_after"),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "9"}, "expires_after"),
    ],
)
async def test_a_field_out_of_range_is_named(
    service: Running, fields: dict[str, str], param: str
) -> None:
    data = form(lines(1), **fields)
    status, answer = await service.call("POST", "/v1/files", data=data)
    assert (status, error_of(answer)[1]) == (400, param)
    assert list((service.folder / "files").glob("*")) == []


async def test_the_client_chooses_when_its_file_expires(service: Running) -> None:
    fields = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    file = await service.upload(lines(1), **fields)
    assert file["expires_at"] == file["created_at"] + 3600


async def test_a_form_without_a_file_is_refused(service: Running) -> None:
    data = aiohttp.FormData({"purpose": "batch"}, default_to_multipart=True)
    status, answer = await service.call("POST", "/v1/files", data=data)
    assert (status, error_of(answer)[1]) == (400, "file")
    status, answer = await service.call("POST", "/v1/files", json={})
    assert (status, error_of(answer)[1]) == (400, "file")


async def test_a_torn_form_leaves_nothing_behind(service: Running) -> None:
    torn = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n{"custom'
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    status, answer = await service.call("POST", "/v1/files", data=torn, headers=headers)
    assert (status, error_of(answer)[0]) == (400, "invalid_form")
    assert list((service.folder / "files").glob("*")) == []
    assert (await service.call("GET", "/v1/files"))[1]["data"] == []


async def test_an_upload_whose_client_is_gone_leaves_nothing_behind(service: Running) -> None:
    has_begun, never = asyncio.Event(), asyncio.Event()

    async def content() -> AsyncIterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        yield b"x" * (3 << 20)
        has_begun.set()
        await never.wait()

    headers = {"Content-Type": "multipart/form-data; boundary=x", "x-steppe-tenant": "a"}
    url, files = service.url + "/v1/files", service.folder / "files"
    sent = asyncio.create_task(service.client.request("POST", url, data=content(), headers=headers))
    await has_begun.wait()
    async with asyncio.timeout(20):
        while not list(files.glob("*")):
            await asyncio.sleep(0.001)
        sent.cancel()
        while list(files.glob("*")):
            await asyncio.sleep(0.001)


async def test_a_file_that_is_too_large_is_refused(open_service: ServiceFactory) -> None:
    service = await open_service(file_bytes=100)
    status, answer = await service.call("POST", "/v1/files", data=form(b"x" * 101))
    assert (status, error_of(answer)) == (413, ("file_too_large", "file"))
    assert list((service.folder / "files").glob("*")) == []
    assert (await service.upload(b"x" * 100))["bytes"] == 100


async def test_a_tenant_whose_files_take_all_its_room_has_to_delete_some(
    open_service: ServiceFactory,
) -> None:
    service = await open_service(tenant_bytes=100)
    file = await service.upload(b"x" * 100)
    status, answer = await service.call("POST", "/v1/files", data=form(b"x"))
    assert (status, error_of(answer)) == (429, ("storage_full", "file"))
    await service.upload(b"x", "b")
    await service.call("DELETE", f"/v1/files/{file['id']}")
    await service.upload(b"x")


async def test_uploads_at_the_same_time_keep_the_limit_of_a_tenant_together(
    open_service: ServiceFactory,
) -> None:
    service = await open_service(tenant_bytes=100)
    go_on = asyncio.Event()
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    tail = b'\r\n--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--x--\r\n'

    async def content() -> AsyncIterator[bytes]:
        yield head
        await go_on.wait()  # all are admitted before one has brought a byte
        yield b"x" * 40 + tail

    async def upload() -> int:
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        return (await service.call("POST", "/v1/files", data=content(), headers=headers))[0]

    sent = [asyncio.create_task(upload()) for _ in range(5)]
    async with asyncio.timeout(20):
        while len(list((service.folder / "files").glob("*.part"))) < 5:
            await asyncio.sleep(0.001)
        go_on.set()
        statuses = await asyncio.gather(*sent)
    files = (await service.call("GET", "/v1/files"))[1]["data"]
    assert set(statuses) <= {200, 429}
    assert statuses.count(200) == len(files) <= 2
    await service.upload(
        b"x" * (100 - sum(file["bytes"] for file in files))
    )  # nothing is left over


async def test_a_file_that_does_not_fit_beside_the_others_is_refused(
    open_service: ServiceFactory,
) -> None:
    service = await open_service(tenant_bytes=100)
    await service.upload(b"x" * 60)
    status, answer = await service.call("POST", "/v1/files", data=form(b"x" * 41))
    assert (status, error_of(answer)) == (429, ("storage_full", "file"))
    assert len(list((service.folder / "files").glob("*"))) == 1
    await service.upload(b"x" * 40)


async def test_only_the_run_itself_may_ask_the_service(open_service: ServiceFactory) -> None:
    service = await open_service(secret="of-this-run")
    for headers in ({}, {"X-Steppe-Run": "a guess"}):
        status, answer = await service.call("GET", "/v1/files", headers=headers)
        assert (status, answer["error"]["code"]) == (401, "not_this_run")
    assert (await service.call("GET", "/v1/files", headers={"X-Steppe-Run": "of-this-run"}))[
        0
    ] == 200


async def test_a_call_that_is_none_is_a_404_in_openais_shape(service: Running) -> None:
    status, answer = await service.call("GET", "/v1/files/a/b/c")
    assert (status, answer["error"]["code"]) == (404, "not_found")
    status, answer = await service.call("PATCH", "/v1/files")
    assert (status, answer["error"]["code"]) == (405, "method_not_allowed")

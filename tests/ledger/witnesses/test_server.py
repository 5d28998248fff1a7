"""A witness over HTTP: what it has signed is on disk, and it signs one history only."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from tests.ledger.log.test_witness import KEY, ORIGIN, WITNESS, leaves_of, request_of

from steppe.errors import UsageError
from steppe.ledger.log.witness import AddCheckpoint, check_cosignatures
from steppe.ledger.signing import PrivateKey
from steppe.ledger.tree import head_of
from steppe.ledger.witnesses.folder import WitnessFolder
from steppe.ledger.witnesses.server import WitnessServer

NOW_S = 1_764_000_000.9
LOGS = {ORIGIN: (KEY.public,)}


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    """A witness that signs nothing yet."""
    folder = WitnessFolder(tmp_path / "state")
    server = WitnessServer(folder, WITNESS, LOGS, lambda: NOW_S)
    yield await server.start("127.0.0.1", 0)
    await server.stop()
    folder.close()


async def post(url: str, body: str | bytes) -> tuple[int, str, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{url}/add-checkpoint", data=body) as response,
    ):
        return response.status, response.content_type, await response.text()


async def test_a_head_gets_a_line_that_readers_can_check(url: str) -> None:
    request = request_of(leaves_of(3), 0)
    status, kind, line = await post(url, request.text)
    assert (status, kind) == (200, "text/plain")
    found = check_cosignatures(request.note + line, [WITNESS.public], 1)
    assert found == {WITNESS.public: int(NOW_S)}


async def test_what_was_signed_outlives_the_witness(url: str, tmp_path: Path) -> None:
    assert (await post(url, request_of(leaves_of(5), 0).text))[0] == 200
    files = list((tmp_path / "state").rglob("head"))
    assert [path.read_text() for path in files] == [request_of(leaves_of(5), 0).note]
    with pytest.raises(UsageError, match="in use by another witness"):
        WitnessFolder(tmp_path / "state")
    copy = tmp_path / "copy" / files[0].parent.name
    copy.mkdir(parents=True)
    (copy / "head").write_text(files[0].read_text())
    folder = WitnessFolder(tmp_path / "copy")
    assert folder.heads([ORIGIN, "another"]) == {ORIGIN: head_of(leaves_of(5))}
    folder.close()


async def test_a_request_from_another_size_gets_the_size_that_was_signed(url: str) -> None:
    await post(url, request_of(leaves_of(5), 0).text)
    answer = await post(url, request_of(leaves_of(9), 3).text)
    assert answer == (409, "text/x.tlog.size", "5\n")
    assert (await post(url, request_of(leaves_of(9), 5).text))[0] == 200


async def test_a_fork_is_refused_and_kept_as_evidence(url: str, tmp_path: Path) -> None:
    await post(url, request_of(leaves_of(5), 0).text)
    fork = request_of(leaves_of(5, seed=1), 5)
    status, kind, text = await post(url, fork.text)
    assert (status, kind) == (409, "text/plain")
    assert "found a fork: last 5 leaves" in text
    (kept,) = (tmp_path / "state").rglob("fork")
    assert kept.read_text() == fork.note
    longer = request_of(leaves_of(9, seed=1), 5)
    status, _, text = await post(url, longer.text)
    assert status == 422
    assert "now 9 leaves" in text


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"old 0\n\n\xff\n", 400),
        ("", 400),
        ("old 0\n\nnothing\n", 400),
        (request_of(leaves_of(3), 0, PrivateKey(ORIGIN, bytes(32))).text, 403),
        (request_of(leaves_of(3), 0, PrivateKey("b", bytes(32))).text.replace(ORIGIN, "b"), 404),
        ("old 0\n\n" + "x" * 70_000, 413),
    ],
)
async def test_what_is_no_signed_head_is_refused(url: str, body: str | bytes, status: int) -> None:
    found, _, text = await post(url, body)
    assert found == status
    assert text.count("\n") <= 1


async def test_nothing_is_signed_that_is_not_on_disk(url: str, tmp_path: Path) -> None:
    request = request_of(leaves_of(5), 0)
    await post(url, request.text)
    (head,) = (tmp_path / "state").rglob("head")
    (head.parent / "head.draft").mkdir()
    status, _, text = await post(url, request_of(leaves_of(9), 5).text)
    assert (status, text) == (503, "witness: its disk cannot be written now\n")
    (head.parent / "head.draft").rmdir()
    assert (await post(url, request_of(leaves_of(7), 5).text))[0] == 200


async def test_the_same_head_is_signed_again(url: str) -> None:
    note = request_of(leaves_of(5), 0).note
    for old in (0, 5):
        assert (await post(url, AddCheckpoint(old, (), note).text))[0] == 200


def test_a_damaged_head_is_named(tmp_path: Path) -> None:
    folder = WitnessFolder(tmp_path)
    folder.keep(ORIGIN, request_of(leaves_of(5), 0).note)
    (head,) = tmp_path.rglob("head")
    head.write_text("torn")
    with pytest.raises(UsageError, match="head: found a damaged head"):
        WitnessServer(folder, WITNESS, LOGS)
    head.write_text(request_of(leaves_of(5), 0).note.replace(ORIGIN, "other"))
    with pytest.raises(UsageError, match=f"asked for the log {ORIGIN}, found other"):
        WitnessServer(folder, WITNESS, LOGS)
    folder.close()


async def test_the_key_of_a_log_and_a_taken_port_are_refused(url: str, tmp_path: Path) -> None:
    folder = WitnessFolder(tmp_path / "other")
    with pytest.raises(UsageError, match="asked for the key of a witness"):
        WitnessServer(folder, KEY, LOGS)
    server = WitnessServer(folder, WITNESS, LOGS)
    with pytest.raises(UsageError, match="witness: cannot listen on 127"):
        await server.start("127.0.0.1", int(url.rpartition(":")[2]))
    await server.stop()
    folder.close()

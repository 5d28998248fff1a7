"""Cosignatures come beside the publisher: it never waits, and slow witnesses hold up no other."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiohttp import web
from tests.ledger.log.test_witness import KEY, ORIGIN, SECOND, WITNESS

from steppe.ledger.log.checkpoint import Checkpoint
from steppe.ledger.log.log import COSIGNED, Log, LogReader
from steppe.ledger.log.witness import check_cosignatures
from steppe.ledger.signing import Note, PrivateKey, SignatureError
from steppe.ledger.witnesses.asking import WitnessAsker, WitnessPlace
from steppe.ledger.witnesses.folder import WitnessFolder
from steppe.ledger.witnesses.server import WitnessServer

LOGS = {ORIGIN: (KEY.public,)}
Start = Callable[[PrivateKey, Path], "asyncio.Future[str]"]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts witnesses."""
    running: list[tuple[WitnessServer, WitnessFolder]] = []

    async def begin(key: PrivateKey, place: Path) -> str:
        folder = WitnessFolder(place)
        server = WitnessServer(folder, key, LOGS)
        running.append((server, folder))
        return await server.start("127.0.0.1", 0)

    yield lambda key, place: asyncio.ensure_future(begin(key, place))
    for server, folder in running:
        await server.stop()
        folder.close()


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "log", ORIGIN, [KEY])


def asker_of(log: Log, *places: WitnessPlace) -> WitnessAsker:
    return WitnessAsker(LogReader(log.folder, ORIGIN, [KEY.public]), places, first_wait_s=0.01)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


def cosigned_size(log: Log) -> int:
    note = log.cosigned()
    return Checkpoint.read(Note.read(note).text).head.size if note else 0


def signers(log: Log) -> set[str]:
    known = [WITNESS.public, SECOND.public]
    return {key.name for key in check_cosignatures(log.cosigned(), known, 0)}


async def test_all_witnesses_sign_each_newest_head(log: Log, tmp_path: Path, start: Start) -> None:
    log.add([b"0"])
    places = [
        WitnessPlace(await start(key, tmp_path / name) + "/", key.public)
        for name, key in (("a", WITNESS), ("b", SECOND))
    ]
    asker = asker_of(log, *places)
    await asker.start()
    await until(lambda: cosigned_size(log) == 1)
    for number in range(1, 4):
        asker.take(log.add([b"%d" % number] * 100 * number).whole)
        size = log.head.size
        await until(lambda size=size: cosigned_size(log) == size)  # type: ignore[misc]
        assert signers(log) == {WITNESS.name, SECOND.name}
        assert log.note() == log.cosigned()
    await asker.stop()
    asker.take(log.add([b"late"]).whole)
    proof = log.proof(0)
    assert check_cosignatures(proof.checkpoint, [WITNESS.public, SECOND.public], 2)
    assert proof.check(b"0", ORIGIN, [KEY.public]).head.size == 601
    assert log.proof(601).check(b"late", ORIGIN, [KEY.public]).head.size == 602


async def test_a_witness_that_does_not_sign_holds_up_no_other_and_is_asked_again(
    log: Log, tmp_path: Path, start: Start
) -> None:
    blocked = tmp_path / "b" / hashlib.sha256(ORIGIN.encode()).hexdigest() / "head.draft"
    blocked.mkdir(parents=True)  # its state cannot be written
    places = [
        WitnessPlace(await start(key, tmp_path / name), key.public)
        for name, key in (("a", WITNESS), ("b", SECOND))
    ]
    asker = asker_of(log, *places)
    await asker.start()
    asker.take(log.add([b"0"]).whole)
    await until(lambda: cosigned_size(log) == 1)
    assert signers(log) == {WITNESS.name}
    assert "found status 503" in asker.asked[SECOND.name].problem
    blocked.rmdir()
    await until(lambda: signers(log) == {WITNESS.name, SECOND.name})
    assert asker.asked[SECOND.name].problem == ""
    await asker.stop()


async def test_a_witness_that_has_seen_more_than_the_log_is_a_problem(
    log: Log, tmp_path: Path, start: Start
) -> None:
    place = WitnessPlace(await start(WITNESS, tmp_path / "a"), WITNESS.public)
    longer = Log(tmp_path / "longer", ORIGIN, [KEY])
    longer.add([b"0", b"1"])
    first = asker_of(longer, place)
    await first.start()
    await until(lambda: first.asked[WITNESS.name].signed == 1)
    await first.stop()
    log.add([b"0"])
    second = asker_of(log, place)
    await second.start()
    await until(lambda: "found 2 signed: a longer log" in second.asked[WITNESS.name].problem)
    assert log.cosigned() == ""
    await second.stop()


@pytest.mark.parametrize(
    ("status", "answer", "problem"),
    [
        (200, "", "asked for 1 cosignatures"),
        (200, "\n\nanother text\n\n— a AAAAAAA=\n", "found another text"),
        (200, "— grid.example/w1 " + "A" * 104 + "\n", "asked for 1 cosignatures"),
        (200, "nothing", "asked for a text, an empty line and signatures"),
        (409, "many\n", "found status 409: many"),
        (503, "busy", "found status 503: busy"),
    ],
)
async def test_an_answer_that_is_no_cosignature_is_left_out(
    log: Log, status: int, answer: str, problem: str
) -> None:
    async def reply(_request: web.Request) -> web.Response:
        return web.Response(status=status, text=answer)

    application = web.Application()
    application.router.add_post("/add-checkpoint", reply)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    log.add([b"0"])
    asker = asker_of(log, WitnessPlace(url, WITNESS.public))
    await asker.start()
    await until(lambda: asker.asked[WITNESS.name].failed > 0)
    assert problem in asker.asked[WITNESS.name].problem
    await asker.stop()
    await runner.cleanup()
    assert not (log.folder / COSIGNED).exists()


def test_a_cosigned_head_of_an_older_key_is_left_out_of_proofs(log: Log) -> None:
    log.add([b"0"])
    (log.folder / COSIGNED).write_text(log.note())
    new = PrivateKey(ORIGIN, bytes(range(9, 41)))
    Log(log.folder, ORIGIN, [KEY, new]).add([b"1"])
    changed = Log(log.folder, ORIGIN, [new])
    assert changed.proof(0).check(b"0", ORIGIN, [new.public]).head.size == 2
    with pytest.raises(SignatureError):
        log.proof(0).check(b"0", ORIGIN, [new.public])

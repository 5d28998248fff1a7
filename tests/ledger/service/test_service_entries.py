"""Entries of other services: each is in the log once, and none can keep others out of it."""

from __future__ import annotations

import pytest
from tests.ledger.service.running import NOON_US, Running

from steppe.errors import UsageError
from steppe.ledger.log.log import LogReader
from steppe.ledger.log.tiles import MOST_BYTES
from steppe.ledger.receipt import canonical
from steppe.ledger.service_entry import GRID_EVENT, ServiceEntry
from steppe.ledger.signing import PublicKey
from steppe.ledger.store.ledger_store import ConflictError


def entry(id_: str, delivered_j: int = 7) -> ServiceEntry:
    body = canonical({"kind": GRID_EVENT, "v": 1, "id": id_, "delivered_j": delivered_j})
    return ServiceEntry(GRID_EVENT, id_, NOON_US, body)


async def test_an_entry_that_is_sent_again_is_logged_once(service: Running) -> None:
    assert await service.service.log_entries([entry("e1"), entry("e2")]) == 2
    assert await service.service.log_entries([entry("e2"), entry("e3")]) == 1
    store = service.store
    assert store.of_kind(GRID_EVENT) == [entry(id_).entry for id_ in ("e1", "e2", "e3")]
    store.close()


async def test_an_entry_is_in_the_signed_log(service: Running) -> None:
    await service.service.log_entries([entry("e1")])
    await service.stop()
    log = service.folder / "log"
    key = PublicKey.read((service.folder / "log.pub").read_text())
    reader = LogReader(log, "hohhot", [key])
    assert reader.checkpoint().head.size == 2
    assert reader.entry(1) == entry("e1").entry
    reader.proof(1).check(entry("e1").entry, "hohhot", [key])


async def test_other_bytes_of_a_logged_entry_are_refused_with_all_beside_them(
    service: Running,
) -> None:
    await service.service.log_entries([entry("e1")])
    with pytest.raises(ConflictError, match="grid_event e1: asked to log it, found other bytes"):
        await service.service.log_entries([entry("e2"), entry("e1", delivered_j=8)])
    store = service.store
    assert store.of_kind(GRID_EVENT) == [entry("e1").entry]
    store.close()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"kind": "receipt"},
            "asked for one of grid_event, commitment, settlement, remote_energy, found 'receipt'",
        ),
        ({"id": ""}, "asked for an id of 1 to 128 ASCII characters, found ''"),
        ({"id": "é"}, "asked for an id of 1 to 128 ASCII characters, found 'é'"),
        ({"time_us": -1}, "asked for a time from 0 us on, found -1"),
        ({"entry": b"{}"}, "asked for version 1 of it, found None"),
        ({"entry": b" " * (MOST_BYTES + 1)}, "asked for at most 65535 bytes, found 65536"),
    ],
)
def test_what_the_log_cannot_hold_is_refused(changes: dict[str, object], said: str) -> None:
    values: dict[str, object] = {"kind": GRID_EVENT, "id": "e1", "time_us": 0}
    values |= {"entry": entry("e1").entry, **changes}
    with pytest.raises(UsageError, match=said):
        ServiceEntry(**values)  # type: ignore[arg-type]

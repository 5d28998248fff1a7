"""A run with a ledger whose process is killed, and so are its drivers: each request once."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.serving import START_S, Load, Serving, wait_until

from steppe.errors import UsageError
from steppe.ledger.receipt import KIND, Receipt
from steppe.report.record_folder import read_requests
from steppe.run.ledger_audit import audit
from steppe.run.ledger_folder import ledger_folder

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

LEDGER = "ray::LedgerActor"
TARIFF = (
    "id: flat\ncurrency: CNY\nvalid_from_us: 0\nrates:\n- {prompt_nano: 100, output_nano: 400}\n"
)


@pytest.fixture
def ledger(tmp_path: Path, synthetic: dict[str, Any]) -> dict[str, Any]:
    """The sections of a run with a ledger in its record, and with prices."""
    (tmp_path / "tariff.yaml").write_text(TARIFF)
    return {"ledger": {"tariffs": [str(tmp_path / "tariff.yaml")]}, **synthetic}


def receipts(record: Path) -> dict[str, Receipt]:
    """Return the receipts of a run by the id that clients know; each must be there once."""
    with ledger_folder(record).opened() as store:
        found = [Receipt.read(entry) for entry in store.of_kind(KIND)]
    assert max(Counter(receipt.id for receipt in found).values(), default=1) == 1
    return {receipt.request: receipt for receipt in found}


def has_receipts(record: Path, ids: set[str]) -> bool:
    try:
        return ids <= receipts(record).keys()
    except UsageError:  # it does not have its store yet
        return False


def kill_ledger(fleet: Serving) -> None:
    (pid,) = before = fleet.pids(LEDGER)
    os.kill(pid, signal.SIGKILL)
    fleet.wait_for_another(LEDGER, before)


def assert_books_hold(fleet: Serving) -> dict[str, Any]:
    """Check the ledger against itself and against the record; return the last run in it."""
    found = audit(ledger_folder(fleet.record), lambda *_: None)
    assert found.faults == []
    summary = json.loads((fleet.record / "summary.json").read_text())
    booked = summary["ledger"][-1]
    parts = ("requests_uj", "idle_uj", "transition_uj", "unclaimed_uj")
    assert sum(booked[part] for part in parts) == booked["meter_uj"]
    assert (booked["waiting"], booked["lost"], booked["has_ended"]) == (0, 0, True)
    assert found.published == found.entries
    by_id = receipts(fleet.record)
    for request in read_requests(fleet.record):
        if request.id in by_id and request.outcome != "failed":
            receipt = by_id[request.id]
            assert receipt.energy_uj == round((request.energy_j or 0.0) * 1e6)
            assert receipt.output_tokens == request.output_tokens
            assert receipt.amount_nano == (
                100 * receipt.prompt_tokens + 400 * receipt.output_tokens
            )
    return dict(booked)


def test_each_request_has_one_receipt_though_ledger_and_driver_are_killed(
    serve: Callable[..., Serving], ledger: dict[str, Any]
) -> None:
    fleet = serve("--standby", **ledger)
    fleet.wait_for_words("serving on")
    wait_until(lambda: len(fleet.drivers()) == 2, "a standby", START_S)
    with Load(fleet, 3) as load:
        load.wait_for(6)
        ids = {answer.id for answer in load.completed}
        wait_until(lambda: has_receipts(fleet.record, ids), "receipts while the run goes on")
        kill_ledger(fleet)
        load.wait_for(6)
        os.kill(fleet.drivers()[0], signal.SIGKILL)
        fleet.wait_for_words("another driver has taken over")
        load.wait_for(6)
        kill_ledger(fleet)
        load.wait_for(3)
    served = {answer.id for answer in load.completed}
    os.kill(fleet.pid, signal.SIGTERM)
    assert fleet.process.wait(START_S) == 0
    wait_until(lambda: not fleet.alive(), "no process is left")
    booked = assert_books_hold(fleet)
    summary = json.loads((fleet.record / "summary.json").read_text())
    assert booked["meter_uj"] == round(summary["energy_j"] * 1e6)
    assert served <= receipts(fleet.record).keys()
    recorded = [each for each in read_requests(fleet.record) if each.replica is not None]
    refused = ("rejected", "shed", "invalid")  # such as those that came while the ledger was away
    assert {e.id for e in recorded if e.outcome not in refused} == receipts(fleet.record).keys()


def test_what_was_acknowledged_outlives_a_run_that_is_killed_without_a_standby(
    serve: Callable[..., Serving], ledger: dict[str, Any]
) -> None:
    fleet = serve(**ledger)
    fleet.wait_for_words("serving on")
    with Load(fleet, 3) as load:
        load.wait_for(6)
        ids = {answer.id for answer in load.completed}
        wait_until(lambda: has_receipts(fleet.record, ids), "receipts while the run goes on")
        os.kill(fleet.pid, signal.SIGKILL)
        fleet.process.wait(START_S)
    wait_until(fleet.is_gone, "no process is left", START_S)
    acknowledged = receipts(fleet.record)
    assert ids <= acknowledged.keys()
    again = fleet.again("--resume")
    again.wait_for_words("serving on")
    with Load(again, 2) as load:
        load.wait_for(4)
    assert again.end() == 0
    assert_books_hold(again)
    assert acknowledged.items() <= receipts(fleet.record).items()
    assert {answer.id for answer in load.completed} <= receipts(fleet.record).keys()

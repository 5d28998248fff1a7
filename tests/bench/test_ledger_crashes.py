"""A ledger whose process is killed, and what the benchmark finds where something is wrong."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from ledger_crashes import Notes, crash, document
from ledger_load import DEPOSITS, MadeRun
from ledger_verdict import Verdict, verdict_of
from steppe.ledger.tree import Head

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

KILLS = 12


@dataclass
class Killed:
    """A ledger that was killed some times, and what was found in it."""

    folder: Path
    run: MadeRun
    notes: Notes
    verdict: Verdict

    def look_again(self, shown: Mapping[str, bytes] | None = None, *heads: Head) -> Verdict:
        return verdict_of(self.folder, self.run, shown or {}, heads)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    place = tmp_path_factory.mktemp("ledger")
    return Killed(place / "ledger", *asyncio.run(crash(place, KILLS, seed=3)))


def test_a_ledger_that_is_killed_loses_and_doubles_nothing(killed: Killed) -> None:
    made: dict[str, Any] = document(killed.run, killed.notes, killed.verdict)
    assert made["results"]["booked_requests"] > 0
    assert made["results"]["ledger"]["meter_uj"] == sum(
        killed.run.bookings[-1].totals.meters.values()
    )
    assert made["results"]["ledger"]["entries"]["period"] > 72
    missed = [target for target in made["targets"] if not target["met"]]
    assert [target["name"] for target in missed] == ["kills"]
    assert missed[0]["value"] == KILLS


def test_a_request_without_a_receipt_is_found(killed: Killed) -> None:
    last = killed.run.bookings[-1]
    ended = next(iter(killed.run.ended.values()))
    more = replace(last, number=last.number + 1, requests=(replace(ended, id="nowhere"),))
    bookings, acknowledged = [*killed.run.bookings, more], killed.run.acknowledged + 1
    changed = replace(killed.run, bookings=bookings, acknowledged=acknowledged)
    found = verdict_of(killed.folder, changed, {}, [])
    assert (found.lost, found.doubled, found.wrong) == (1, 0, 0)


def test_a_receipt_with_another_price_than_that_of_its_admission_is_found(
    killed: Killed, monkeypatch: pytest.MonkeyPatch
) -> None:
    prices = {"standard": (100, 401), "deferrable": (10, 40)}
    monkeypatch.setattr("ledger_load.PRICES", prices)
    found = killed.look_again()
    assert found.wrong > 0
    assert found.balances > 0


def test_a_balance_that_is_not_exact_is_found(
    killed: Killed, monkeypatch: pytest.MonkeyPatch
) -> None:
    deposits = DEPOSITS | {"lab": DEPOSITS["lab"] + 1}
    monkeypatch.setattr("ledger_verdict.DEPOSITS", deposits)
    assert killed.look_again().balances == 1


def test_a_receipt_or_a_head_that_was_other_before_is_found(killed: Killed) -> None:
    id_ = next(iter(killed.run.ended))
    found = killed.look_again({id_: b"{}"}, Head(3, bytes(32)))
    assert (found.changed, found.heads) == (1, 1)


def test_numbers_that_fall_are_found(killed: Killed) -> None:
    run = replace(killed.run, faults=Counter())
    run.acknowledge(run.acknowledged - 1)
    run.acknowledge(len(run.bookings) + 1)
    assert run.faults == {"bookings that were forgotten": 1, "bookings that were never made": 1}

"""Why a receipt says what it says: what the record has of the time of its request."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.fixtures.ledger import (
    BOUNDARY,
    FIRST_HOUR,
    MONTH,
    PRICES,
    SITE,
    booked,
    fill_ledger,
    make_receipt,
)
from tests.fixtures.made_run import make_run

from steppe.cli import main
from steppe.ledger.booking import BookedTotals, Booking
from steppe.ledger.periods.closing import HOUR_US
from steppe.ledger.store.books import take
from steppe.ledger.store.ledger_store import LedgerStore
from steppe.report.record_folder import Recorder
from steppe.run.ledger_explain import find_receipt, meter_interval
from steppe.run.ledger_statement import books_of_month

MADE = make_run(duration_s=20)


def test_the_meter_interval_is_the_sum_of_the_ticks_in_between() -> None:
    replica = MADE.ticks[0].replicas[0].id
    found = meter_interval(MADE.ticks, replica, 2.0, 5.0)
    own = [one for tick in MADE.ticks[2:5] for one in tick.replicas if one.id == replica]
    assert found.ticks == 3
    assert found.metered_j == pytest.approx(sum(one.draw_w for one in own))
    assert found.output_tokens == pytest.approx(sum(one.output_tps for one in own))


def test_a_tick_that_is_partly_in_between_counts_by_its_part() -> None:
    replica = MADE.ticks[0].replicas[0].id
    whole = meter_interval(MADE.ticks, replica, 2.0, 3.0)
    half = meter_interval(MADE.ticks, replica, 2.25, 2.75)
    assert half.ticks == 1
    assert half.metered_j == pytest.approx(whole.metered_j / 2)
    assert meter_interval(MADE.ticks, "nothing", 2.0, 3.0).metered_j == 0


def test_the_record_shows_what_the_replica_took_meanwhile(tmp_path: Path) -> None:
    record = tmp_path / "run"
    ledger = fill_ledger(record / "ledger", hours=1)
    one, replica = ledger.receipts[1], MADE.ticks[0].replicas[0].id
    with Recorder(record) as recorder:
        for tick in MADE.ticks:
            recorder.tick(tick)
        row = replace(
            MADE.requests[0],
            id=one.request,
            tenant=one.tenant,
            output_tokens=one.output_tokens,
            arrival_s=2.0,
            e2e_s=3.0,
            replica=replica,
        )
        recorder.request(row)
    found = CliRunner().invoke(main, ["ledger", "explain", str(record), one.id])
    assert found.exit_code == 0, found.output
    interval = meter_interval(MADE.ticks, replica, 2.0, 5.0)
    said = f"replica {replica}, 2.000 to 5.000 s of the run, 3 ticks"
    assert f"{said}: {interval.metered_j:,.3f} J of its GPUs" in found.stdout
    share = one.energy_uj / 1e6 / interval.metered_j
    assert f"the request has {share:.1%} of it" in found.stdout
    assert "31 of some" in found.stdout


def test_a_receipt_is_found_by_names_that_are_not_plain_ascii(tmp_path: Path) -> None:
    store = LedgerStore(str(tmp_path / "ledger.db"))
    request = replace(booked(make_receipt(0)), tenant="b\u00fcro", request='a"\u00e4\\')
    totals = BookedTotals({"r0": request.energy_uj})
    booking = Booking("run-1", 1, FIRST_HOUR * HOUR_US, BOUNDARY, (request,), totals)
    with store.transaction() as transaction:
        take(transaction, booking, SITE, {PRICES.id: PRICES})
    _, found = find_receipt(store, 'a"\u00e4\\')
    assert found.id == request.id
    books = books_of_month(store, "b\u00fcro", MONTH, lambda done, count: None)
    assert [one.id for _, one in books.receipts] == [request.id]
    store.close()

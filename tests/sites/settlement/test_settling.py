"""A home and a target settle what went between them, each with its own ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest
from tests.sites.settlement.two_sites import BEGIN_S, HOME, LENGTH_S, MOST_UJ, TARGET, Pair, served

from steppe.ledger.corrections import Right
from steppe.ledger.service_entry import REMOTE_ENERGY, SETTLEMENT
from steppe.ledger.settlement import RemoteEnergy
from steppe.ledger.store.ledger_store import LedgerStore
from steppe.run.ledger_correct import correct
from steppe.run.ledger_folder import ledger_folder
from steppe.sites.settlement.answer import BadAnswerError
from steppe.sites.settlement.home import NotReadyError


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    found = await Pair.open(tmp_path)
    yield found
    await found.stop()


async def test_both_ledgers_have_the_same_bytes(pair: Pair) -> None:
    await pair.one("r1", 700)
    await pair.one("r2", 300)
    assert await pair.settle() == 1
    own, claimed = pair.both()
    assert own is not None
    assert claimed is not None
    assert own.entry == claimed.entry
    assert (own.receipts, own.output_tokens, own.energy_uj, own.owed_uj) == (2, 100, 1_000, 1_000)
    assert pair.mismatches() == []


async def test_a_period_is_settled_once_and_only_after_its_end(pair: Pair) -> None:
    await pair.one("r1")
    assert await pair.settle_now() == 0
    assert await pair.settle() == 1
    assert await pair.settle_now() == 0
    await pair.one("r2", 400)
    assert await pair.settle() == 1
    own, claimed = pair.both()
    assert own is not None
    assert own == claimed
    assert own.energy_uj == 400
    assert own.end_s == BEGIN_S + 2 * LENGTH_S


async def test_a_receipt_that_is_written_late_is_in_the_next_period(pair: Pair) -> None:
    pair.sent("r1")
    pair.taken("r1")
    await pair.settle()
    assert pair.mismatches() == [("missing_there", "r1")]
    await pair.serve(served("r1"))
    await pair.settle()
    own, claimed = pair.both()
    assert own is not None
    assert own == claimed
    assert own.owed_uj == 1_000
    assert pair.mismatches() == [("missing_there", "r1"), ("late", "r1")]


async def test_a_home_owes_no_more_than_its_token_says_and_both_say_so(pair: Pair) -> None:
    await pair.one("r1", MOST_UJ + 1_234)
    await pair.settle()
    own, claimed = pair.both()
    assert own is not None
    assert own == claimed
    assert (own.energy_uj, own.owed_uj) == (MOST_UJ + 1_234, MOST_UJ)
    assert pair.mismatches() == [("over_cap", "r1")]


async def test_a_receipt_for_nothing_sent_is_not_owed_and_is_listed(pair: Pair) -> None:
    await pair.one("r1", 700)
    await pair.serve(served("forged", 900))
    await pair.settle()
    own, claimed = pair.both()
    assert own is not None
    assert claimed is not None
    assert (own.owed_uj, claimed.owed_uj) == (700, 1_600)
    assert pair.mismatches() == [("missing_here", "forged")]


async def test_a_token_shows_that_the_home_sent_what_it_has_no_note_of(pair: Pair) -> None:
    pair.taken("r1")
    await pair.serve(served("r1"))
    await pair.settle()
    own, claimed = pair.both()
    assert own is not None
    assert own == claimed
    assert pair.mismatches() == [("unnoted", "r1")]


async def test_a_second_receipt_of_a_request_is_refused_also_later(pair: Pair) -> None:
    await pair.one("r1", 700)
    await pair.serve(served("r1", 100, id="again"))
    await pair.settle()
    own, claimed = pair.both()
    assert own is not None
    assert claimed is not None
    assert (own.owed_uj, claimed.owed_uj) == (700, 800)
    await pair.serve(served("r1", 50, id="once more"))
    await pair.settle()
    assert pair.mismatches() == [("duplicate", "r1")] * 2
    shown = pair.home.store.settled(1)[0]
    assert shown.own.owed_uj == 0
    assert shown.claimed.owed_uj == 50


async def test_other_tokens_than_came_are_listed(pair: Pair) -> None:
    pair.sent("r1", output_tokens=49)
    pair.sent("r2", output_tokens=20, end="lost", status=200)
    pair.sent("r3", end="refused", status=503, prompt_tokens=0, output_tokens=0)
    await pair.serve(served("r1"), served("r2"), served("r3"))
    await pair.settle()
    assert sorted(pair.mismatches()) == [("not_served", "r3"), ("tokens", "r1")]


async def test_a_receipt_that_was_changed_is_refused_with_the_whole_answer(pair: Pair) -> None:
    await pair.one("r1", 700)

    def cheaper(page: bytes) -> bytes:
        values = orjson.loads(page)
        row = values["rows"][0]
        row["entry"] = row["entry"].replace('"energy_uj":700', '"energy_uj":600')
        return orjson.dumps(values)

    pair.way.change = cheaper
    with pytest.raises(BadAnswerError, match="does not lead to the root"):
        await pair.settle()
    assert pair.both()[0] is None
    pair.way.change = None
    assert await pair.settle_now() == 1
    own, claimed = pair.both()
    assert own is not None
    assert own == claimed


async def test_a_receipt_that_is_left_out_is_seen(pair: Pair) -> None:
    await pair.one("r1", 700)
    await pair.one("r2", 300)

    def shorter(page: bytes) -> bytes:
        values = orjson.loads(page)
        del values["rows"][1]
        return orjson.dumps(values)

    pair.way.change = shorter
    with pytest.raises(BadAnswerError, match="asked for 1, the sum of its receipts, found 2"):
        await pair.settle()


async def test_pages_that_begin_again_do_not_go_on_for_ever(pair: Pair) -> None:
    await pair.one("r1", 700)
    first: list[bytes] = []

    def again(page: bytes) -> bytes:
        first.append(orjson.dumps(orjson.loads(page) | {"has_more": True}))
        assert len(first) < 100
        return first[0]

    pair.way.change = again
    with pytest.raises(BadAnswerError, match="asked for those after place 0, found place 0"):
        await pair.settle()


async def test_another_key_is_refused_once_one_is_known(pair: Pair) -> None:
    await pair.one("r1")
    await pair.settle()
    await pair.one("r2")
    known = pair.home.store.log_of(TARGET)
    assert known is not None

    def resigned(page: bytes) -> bytes:
        values = orjson.loads(page)
        text, _, _ = values["checkpoint"].rpartition("\n\n")
        signature = values["checkpoint"].splitlines()[-1]
        values["checkpoint"] = f"{text}\n\n{signature[:-4]}AAA=\n"
        return orjson.dumps(values)

    pair.way.change = resigned
    with pytest.raises(BadAnswerError, match="signature"):
        await pair.settle()


async def test_a_target_that_does_not_answer_is_asked_for_all_periods_later(pair: Pair) -> None:
    assert await pair.settle() == 1
    await pair.one("r1", 100)
    pair.way.is_cut = True
    with pytest.raises(NotReadyError):
        await pair.settle()
    await pair.way.side.close_due(HOME)
    await pair.one("r2", 200)
    pair.clock.end_period()
    await pair.target.published()
    await pair.way.side.close_due(HOME)
    pair.way.is_cut = False
    assert await pair.settle_now() == 2
    settled = pair.home.store.settled(10)
    assert [one.own.owed_uj for one in settled] == [200, 100]
    assert all(one.agrees for one in settled)
    assert pair.mismatches() == []


async def test_what_is_served_in_the_first_period_of_a_home_is_in_no_earlier_one(
    pair: Pair,
) -> None:
    await pair.one("r1", 100)
    await pair.target.published()
    pair.clock.now_s += 31.0  # the period before that in which the home begins may be closed
    await pair.way.side.close_due(HOME)
    assert await pair.settle() == 1
    own, claimed = pair.both()
    assert own is not None
    assert own == claimed
    assert own.owed_uj == 100
    assert pair.mismatches() == []


async def test_a_home_divides_what_it_owes_among_its_tenants(pair: Pair) -> None:
    await pair.one("r1", 700, tenant="lab")
    await pair.one("r2", MOST_UJ + 1, tenant="shop")
    await pair.one("r3", 5, tenant="lab")
    await pair.settle()
    store = LedgerStore(str(pair.home.folder / "ledger" / "ledger.db"))
    entry = RemoteEnergy.read(store.of_kind(REMOTE_ENERGY)[0])
    assert [(one.tenant, one.receipts, one.energy_uj, one.owed_uj) for one in entry.tenants] == [
        ("lab", 2, 705, 705),
        ("shop", 1, MOST_UJ + 1, MOST_UJ),
    ]
    own = pair.both()[0]
    assert own is not None
    assert entry.settlement == own.hash
    assert len(store.of_kind(SETTLEMENT)) == 1
    store.close()


async def test_a_log_that_does_not_begin_with_what_it_had_before_is_refused(pair: Pair) -> None:
    await pair.one("r1")
    await pair.settle()
    await pair.one("r2")

    def other(page: bytes) -> bytes:
        values = orjson.loads(page)
        values["consistency"] = values["consistency"][::-1] + values["consistency"]
        return orjson.dumps(values)

    pair.way.change = other
    with pytest.raises(BadAnswerError, match="consistency: "):
        await pair.settle()


async def test_a_correction_changes_what_is_owed_in_its_own_period(pair: Pair) -> None:
    await pair.one("r1", 700)
    await pair.settle()
    ledger = ledger_folder(pair.target.folder)
    with ledger.opened() as opened:
        right = Right(energy_uj=500)
        correct(opened, "r1", right, round(pair.clock.now_s * 1e6))
    await pair.serve()
    await pair.settle()
    own, claimed = pair.both()
    assert own is not None
    assert own == claimed
    assert (own.receipts, own.energy_uj, own.owed_uj) == (1, -200, -200)
    assert pair.mismatches() == []

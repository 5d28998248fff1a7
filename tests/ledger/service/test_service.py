"""The ledger service: holds, receipts and proofs, and what it does with what is handed to it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson
import pytest
from tests.fixtures.postgresql import postgresql
from tests.ledger.service.running import (
    HOUR,
    NOON_US,
    Running,
    ServiceFactory,
    asked,
    booked,
    booking,
)

from steppe.errors import UsageError
from steppe.ledger.entries import available, deposited, held
from steppe.ledger.log.checkpoint import Proof
from steppe.ledger.periods.checking import check_chain
from steppe.ledger.periods.closing import HOUR_US
from steppe.ledger.periods.period import KIND as PERIOD
from steppe.ledger.periods.period import Period
from steppe.ledger.quote import Quote
from steppe.ledger.receipt import Receipt
from steppe.ledger.signing import PrivateKey, PublicKey, SignatureError
from steppe.ledger.store.ledger_store import ConflictError, LedgerStore
from steppe.ledger.tariff import Tariff

HELD = 1_000 * 100 + 100 * 400
COST = 1_000 * 100 + 50 * 400


def give(running: Running, amount: int, tenant: str = "lab") -> None:
    store = running.store
    store.move([deposited(f"d-{tenant}", tenant, "CNY", amount)], NOON_US)
    store.close()


async def test_a_request_is_held_booked_and_proven(service: Running) -> None:
    give(service, 1_000_000)
    (terms,) = await service.admit(asked("r1"))
    free = 1_000_000 - HELD
    assert terms == {"terms": "flat-1/0", "currency": "CNY", "held": HELD, "free": free}
    assert await service.service.take(booking(1, booked("r1"), metered_uj=1_500)) == 1
    for name in ("r1", "req-r1"):
        status, entry = await service.call("GET", f"/steppe/v1/receipts/{name}")
        assert status == 200
    receipt = Receipt.read(entry)
    assert (receipt.id, receipt.seq, receipt.site) == ("r1", 0, "hohhot")
    assert (receipt.tariff, receipt.amount_nano) == ("flat-1/0", COST)
    (balance,) = (await service.get("/steppe/v1/balance"))["data"]
    assert (balance["available"], balance["held"]) == (1_000_000 - COST, 0)
    key = PublicKey.read((await service.call("GET", "/steppe/v1/log/key"))[1].decode())
    proof = Proof.read(await service.proof_of("/steppe/v1/receipts/r1"))
    assert proof.check(entry, "hohhot", [key]).head.size == 2
    _, entry = await service.call("GET", "/steppe/v1/tariffs/flat-1")
    proof = Proof.read(await service.proof_of("/steppe/v1/tariffs/flat-1"))
    proof.check(entry, "hohhot", [key])
    assert Tariff.read(entry).price_nano(receipt) == COST


@pytest.mark.slow
async def test_the_same_on_postgresql(open_service: ServiceFactory) -> None:
    with postgresql() as url:
        running = await open_service(store=url)
        store = LedgerStore(url)
        store.move([deposited("d1", "lab", "CNY", 3 * HELD)], NOON_US)
        outcomes = await running.admit(*(asked(f"r{n}") for n in range(5)))
        assert ["terms" in each for each in outcomes] == [True, True, True, False, False]
        for _ in range(2):
            step = booking(1, booked("r0"), booked("r1"), metered_uj=2_000)
            assert await running.service.take(step) == 1
        _, entry = await running.call("GET", "/steppe/v1/receipts/req-r1")
        key = PublicKey.read((await running.call("GET", "/steppe/v1/log/key"))[1].decode())
        proof = Proof.read(await running.proof_of("/steppe/v1/receipts/r1"))
        proof.check(entry, "hohhot", [key])
        (balance,) = (await running.get("/steppe/v1/balance"))["data"]
        assert (balance["available"], balance["held"]) == (2 * HELD - 2 * COST, HELD)
        assert store.audit() == []
        store.close()
        await running.stop()


async def test_a_booking_that_is_handed_over_twice_counts_once(service: Running) -> None:
    give(service, 1_000_000)
    await service.admit(asked("r1"))
    first = booking(1, booked("r1"), metered_uj=1_000)
    second = booking(2, booked("r2"), metered_uj=2_000)
    assert await service.service.take(second) == 0  # too early: the first one is missing
    for _ in range(2):
        assert await service.service.take(first) == 1
    assert await service.service.take(second) == 2
    assert await service.service.take(first) == 2
    with pytest.raises(ConflictError, match="booking 2, found another one"):
        await service.service.take(booking(2, booked("r3"), metered_uj=2_000))
    listed = await service.get("/steppe/v1/receipts")
    assert [each["receipt"]["id"] for each in listed["data"]] == ["r1", "r2"]
    (balance,) = (await service.get("/steppe/v1/balance"))["data"]
    assert balance["available"] == 1_000_000 - COST  # the second one had no hold


async def test_a_request_that_is_booked_twice_has_one_receipt(service: Running) -> None:
    await service.service.take(booking(1, booked("r1"), metered_uj=1_000))
    await service.service.take(booking(2, booked("r1"), booked("r2"), metered_uj=2_000))
    listed = await service.get("/steppe/v1/receipts")
    assert [each["receipt"]["id"] for each in listed["data"]] == ["r1", "r2"]
    assert [each["receipt"]["seq"] for each in listed["data"]] == [0, 1]


async def test_more_than_the_meters_have_counted_is_refused(service: Running) -> None:
    with pytest.raises(UsageError, match="at most the 999 uJ of its meters, found 1000 uJ"):
        await service.service.take(booking(1, booked("r1"), metered_uj=999))
    assert await service.service.take(booking(1, booked("r1"), metered_uj=1_000)) == 1


async def test_of_four_times_as_many_as_are_paid_for_no_more_are_admitted(
    service: Running,
) -> None:
    give(service, 10 * HELD)
    calls = [service.admit(asked(f"r{n}"), asked(f"s{n}")) for n in range(20)]
    outcomes = [each for found in await asyncio.gather(*calls) for each in found]
    assert sum("terms" in each for each in outcomes) == 10
    refused = next(each for each in outcomes if "code" in each)
    assert (refused["code"], refused["free"]) == ("insufficient_funds", 0)


async def test_what_failed_or_was_refused_costs_nothing(service: Running) -> None:
    give(service, 1_000_000)
    await service.admit(asked("r1"), asked("r2"), asked("r3"))
    failed, refused = booked("r1", finish="error"), booked("r2", 0, finish="shed", output_tokens=0)
    await service.service.take(booking(1, failed, refused, metered_uj=1_000))
    receipt = await service.get("/steppe/v1/receipts/r1")
    assert (receipt["finish"], receipt["energy_uj"], receipt["amount_nano"]) == ("failed", 0, 0)
    assert (receipt["output_tokens"], receipt["prompt_tokens"]) == (0, 0)
    assert (await service.call("GET", "/steppe/v1/receipts/r2"))[0] == 404
    (balance,) = (await service.get("/steppe/v1/balance"))["data"]
    assert (balance["available"], balance["held"]) == (1_000_000 - HELD, HELD)
    _, body = await service.call("POST", "/admissions/released", json=["r3", "r9"])
    assert body == b'{"released": 1}'


async def test_a_request_that_no_replica_had_has_no_receipt_and_its_hold_is_given_back(
    service: Running,
) -> None:
    give(service, 1_000_000)
    await service.admit(asked("r1"))
    left = booked("r1", 0, finish="cancelled", had_replica=False, prompt_tokens=0, output_tokens=0)
    await service.service.take(booking(1, left))
    assert (await service.call("GET", "/steppe/v1/receipts/r1"))[0] == 404
    (balance,) = (await service.get("/steppe/v1/balance"))["data"]
    assert (balance["available"], balance["held"]) == (1_000_000, 0)


async def test_a_tenant_sees_its_own_receipts_only(service: Running) -> None:
    mine, other = booked("r1"), booked("r2", tenant="school")
    await service.service.take(booking(1, mine, other, metered_uj=2_000))
    listed = await service.get("/steppe/v1/receipts", "school")
    assert [each["receipt"]["id"] for each in listed["data"]] == ["r2"]
    for path in ("/steppe/v1/receipts/r1", "/steppe/v1/receipts/r1/proof"):
        assert (await service.call("GET", path, "school"))[0] == 404


async def test_receipts_are_listed_in_parts(service: Running) -> None:
    requests = [booked(f"r{n}", 0) for n in range(5)]
    await service.service.take(booking(1, *requests))
    found, path = [], "/steppe/v1/receipts?limit=2"
    while True:
        listed = await service.get(path)
        found += [each["receipt"]["id"] for each in listed["data"]]
        if not listed["has_more"]:
            break
        path = f"/steppe/v1/receipts?limit=2&after={listed['data'][-1]['place']}"
    assert found == [f"r{n}" for n in range(5)]
    assert (await service.get(f"/steppe/v1/receipts?until={NOON_US}"))["data"] == []
    assert len((await service.get(f"/steppe/v1/receipts?since={NOON_US}"))["data"]) == 5


async def test_a_service_that_starts_again_goes_on(open_service: ServiceFactory) -> None:
    first = await open_service()
    give(first, 1_000_000)
    await first.admit(asked("r1"))
    await first.service.take(booking(1, metered_uj=100))
    await first.stop()
    again = await open_service()
    assert await again.service.take(booking(1, metered_uj=100)) == 1
    assert await again.service.take(booking(2, booked("r1"), metered_uj=2_000)) == 2
    (balance,) = (await again.get("/steppe/v1/balance"))["data"]
    assert (balance["available"], balance["held"]) == (1_000_000 - COST, 0)
    await again.proof_of("/steppe/v1/receipts/r1")


async def test_old_holds_are_given_back(open_service: ServiceFactory) -> None:
    first = await open_service(hold_s=60.0)
    give(first, 1_000_000)
    await first.admit(asked("r1"))
    await first.stop()
    first.clock.now_us += 61_000_000
    again = await open_service()
    async with asyncio.timeout(30):
        while (await again.get("/steppe/v1/balance"))["data"][0]["held"]:
            await asyncio.sleep(0.01)
    store = again.store
    assert store.audit() == []
    assert [each.balance for each in store.balances(available("lab"))] == [1_000_000]
    assert [each.balance for each in store.balances(held("lab"))] == [0]
    store.close()


async def test_only_calls_with_the_secret_of_the_run_are_answered(
    open_service: ServiceFactory,
) -> None:
    running = await open_service(secret="s" * 64)
    assert (await running.call("GET", "/steppe/v1/tariffs"))[0] == 401
    assert (await running.call("POST", "/admissions", json=[]))[0] == 401
    running.headers["X-Steppe-Run"] = "s" * 64
    assert (await running.call("GET", "/steppe/v1/tariffs"))[0] == 200


async def test_bad_calls_are_answered_with_one_line(service: Running) -> None:
    for body, text in (
        (b"[", "asked for JSON"),
        (b"{}", "asked for a list"),
    ):
        status, found = await service.call("POST", "/admissions", data=body)
        assert status == 400
        assert text.encode() in found
    assert (await service.call("GET", "/steppe/v1/receipts?limit=-1"))[0] == 400
    assert (await service.call("GET", "/steppe/v1/log/tile/..%2f..%2fkey"))[0] == 404
    assert (await service.call("GET", "/steppe/v1/tariffs/none"))[0] == 404


async def test_tiles_are_served_as_an_older_head_needs_them(service: Running) -> None:
    tiles = []
    for number in (1, 2):
        await service.service.take(booking(number, booked(f"r{number}", 0)))
        await service.proof_of(f"/steppe/v1/receipts/r{number}")
        status, tile = await service.call("GET", f"/steppe/v1/log/tile/0/000.p/{number + 1}")
        assert (status, len(tile)) == (200, 32 * (number + 1))
        tiles.append(tile)
    assert await service.call("GET", "/steppe/v1/log/tile/0/000.p/2") == (200, tiles[0])
    status, entries = await service.call("GET", "/steppe/v1/log/tile/entries/000.p/1")
    assert (status, len(entries)) == (200, 2 + int.from_bytes(entries[:2], "big"))
    for missing in ("0/000", "0/000.p/4", "0/001.p/1", "7/000.p/1", "0/000.p/0"):
        assert (await service.call("GET", f"/steppe/v1/log/tile/{missing}"))[0] == 404


async def test_a_bad_request_harms_no_other_of_its_call(service: Running) -> None:
    bad = [{"request": 5}, asked("r1", max_tokens=-1), asked("r2", sequences=10**6)]
    first, *refused, last = await service.admit(asked("r0"), *bad, asked("r3"))
    assert (first["terms"], last["terms"]) == ("flat-1/0", "flat-1/0")
    assert [each["code"] for each in refused] == ["invalid_request"] * 3
    assert "max_tokens: asked for a whole number" in refused[1]["message"]


async def test_metrics_count_receipts_and_decisions(service: Running) -> None:
    await service.admit(asked("r1"))
    await service.service.take(booking(1, booked("r1"), metered_uj=1_000))
    _, body = await service.call("GET", "/metrics")
    lines = body.decode().splitlines()
    assert 'steppe_ledger_receipts_total{finish="stop"} 1.0' in lines
    assert 'steppe_ledger_decisions_total{outcome="admitted"} 1.0' in lines
    assert "steppe_ledger_entries 2.0" in lines


async def test_prices_that_change_need_another_id(
    open_service: ServiceFactory, tariff_file: Path
) -> None:
    running = await open_service()
    await running.stop()
    tariff_file.write_text(tariff_file.read_text().replace("400", "500"))
    with pytest.raises(UsageError, match="give the new prices a new id"):
        await open_service()


async def test_a_store_that_is_not_that_of_the_log_is_refused(
    open_service: ServiceFactory,
) -> None:
    running = await open_service()
    await running.service.take(booking(1, booked("r1"), metered_uj=1_000))
    await running.proof_of("/steppe/v1/receipts/r1")
    await running.stop()
    for name in ("ledger.db", "ledger.db-wal", "ledger.db-shm"):
        (running.folder / name).unlink(missing_ok=True)
    with pytest.raises(UsageError, match="asked for the 2 entries of the log, found 1 of a store"):
        await open_service()


async def test_a_key_is_changed_while_both_sign(open_service: ServiceFactory) -> None:
    running = await open_service()
    old = PrivateKey.read(running.folder / "key")
    await running.service.take(booking(1, booked("r1"), metered_uj=1_000))
    await running.proof_of("/steppe/v1/receipts/r1")
    await running.stop()
    new, coming = PrivateKey.new("hohhot"), running.folder / "key.next"
    new.write(coming)
    running = await open_service()
    await running.service.take(booking(2, booked("r2"), metered_uj=2_000))
    proof = Proof.read(await running.proof_of("/steppe/v1/receipts/r2"))
    _, entry = await running.call("GET", "/steppe/v1/receipts/r2")
    for key in (old, new):
        proof.check(entry, "hohhot", [key.public])
    _, text = await running.call("GET", "/steppe/v1/log/key")
    assert text.decode().split() == [old.public.text, new.public.text]
    await running.stop()
    coming.replace(running.folder / "key")
    running = await open_service()
    await running.service.take(booking(3, booked("r3"), metered_uj=3_000))
    proof = Proof.read(await running.proof_of("/steppe/v1/receipts/r3"))
    with pytest.raises(SignatureError):
        proof.check(entry, "hohhot", [old.public])
    await running.stop()
    PrivateKey.new("elsewhere").write(coming)
    with pytest.raises(UsageError, match="asked for a key of the log hohhot, found elsewhere"):
        await open_service()


async def test_hours_of_a_down_time_are_closed_at_the_next_start(
    open_service: ServiceFactory,
) -> None:
    running = await open_service()
    await running.service.take(booking(1, booked("r1"), metered_uj=1_500))
    await running.stop()
    running.clock.now_us += 5 * HOUR_US
    running = await open_service()
    store = running.store
    async with asyncio.timeout(30):
        while len(store.of_kind(PERIOD)) < 4:
            await asyncio.sleep(0.01)
    entries = store.of_kind(PERIOD)
    store.close()
    periods = [Period.read(each) for each in entries]
    assert [each.hour - HOUR for each in periods] == [0, 1, 2, 3]
    assert [each.carried_out_uj for each in periods] == [500] * 4
    check_chain(entries)
    assert await running.service.take(booking(2, booked("r2"), metered_uj=2_500)) == 2
    receipt = await running.get("/steppe/v1/receipts/r2")
    assert receipt["hour"] == HOUR + 4  # the first one that is open


async def test_a_second_service_does_not_get_the_folder(
    service: Running, open_service: ServiceFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steppe.ledger.service.service.LOCK_WAIT_S", 0.0)
    with pytest.raises(UsageError, match=r"ledger\.folder: .* is in use by another run"):
        await open_service()


async def test_an_offer_is_signed_logged_and_honoured(service: Running) -> None:
    give(service, 1_000_000)
    body = {"model": "m", "tokens": 1_500}
    status, answer = await service.call("POST", "/steppe/v1/quote", json=body)
    assert status == 200, answer
    found = orjson.loads(answer)
    key = PublicKey.read((await service.call("GET", "/steppe/v1/log/key"))[1].decode())
    quote = Quote.of_note(found["note"], [key])
    assert (quote.id, quote.tariff, quote.tenant) == (found["id"], "flat-1/0", "lab")
    first = asked("r1", quote=quote.id)
    assert (await service.admit(first))[0]["terms"] == "flat-1/0"
    (refused,) = await service.admit(asked("r2", quote=quote.id))  # only 400 of 1,500 are left
    assert refused["code"] == "invalid_quote"
    await service.service.take(booking(1, booked("r1"), metered_uj=1_000))
    units = {each["unit"]: each for each in (await service.get("/steppe/v1/balance"))["data"]}
    assert units[f"quote:{quote.id}"]["available"] == 1_500 - 1_050


async def test_an_offer_without_a_rate_or_a_window_is_refused(service: Running) -> None:
    for body, status in (
        ({"model": "m", "tokens": 0}, 400),
        ({"model": "m", "tokens": 5, "until_us": NOON_US}, 400),
        ({"tokens": 5}, 400),
    ):
        assert (await service.call("POST", "/steppe/v1/quote", json=body))[0] == status

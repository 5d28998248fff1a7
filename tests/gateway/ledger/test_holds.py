"""What the ledger has to say before a client gets a byte, and a replica gets a request."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import pytest
from tests.gateway.ledger.fake_ledger import TERMS, FakeLedger
from tests.gateway.site import FakeReplica, Site, SiteFactory
from tests.gateway.token_replica import token_replica

from steppe.gateway.access import AccessSettings
from steppe.gateway.driver_news import DriverNews
from steppe.gateway.ledger.link import LedgerLink
from steppe.gateway.served_model import GatewayAlias, GatewayModel
from steppe.tenants.key import make_key
from steppe.tenants.tenant import KnownTenants, Tenant

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
JSON = {"Content_Type": "application/json"}
BODY = b'{"model":"m","max_tokens":40,"prompt":[1,2,3]}'
STREAM = b'{"model":"m","max_tokens":40,"prompt":[1,2,3],"stream":true}'
LOST = "http://127.0.0.1:9"


def error_of(body: bytes) -> dict[str, Any]:
    error: dict[str, Any] = json.loads(body)["error"]
    return error


async def ask(site: Site, body: bytes = BODY, path: str = TEXT, **headers: str) -> int:
    return (await site.post(path, body, **JSON, **headers))[0]


async def test_a_request_is_held_once_and_carries_its_terms(paid: Site, ledger: FakeLedger) -> None:
    await paid.awake_replica()
    assert await ask(paid, X_Steppe_Priority="deferrable", X_Steppe_Quote="q-1") == 200
    (done,) = paid.gateway.drain_finished()
    assert done.terms == TERMS
    assert ledger.asked == [
        {
            "request": done.engine_id,
            "tenant": "default",
            "model": "m",
            "priority": "deferrable",
            "band": "normal",
            "prompt_tokens": 3,
            "max_tokens": 40,
            "sequences": 1,
            "quote": "q-1",
            "key_id": "",
        }
    ]
    assert not ledger.returned


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"prompt": [1, 2], "n": 3, "max_tokens": 5}, (2, 5, 3)),
        ({"prompt": [[1, 2], [3]], "max_tokens": 5}, (3, 5, 2)),
        ({"prompt": [1]}, (1, None, 1)),
        ({"prompt": [1], "n": "7", "max_tokens": 5}, (1, 5, 7)),
        ({"prompt": [1], "n": 3, "best_of": 7.0, "max_tokens": 5}, (1, 5, 7)),
        ({"prompt": [1], "n": "many", "max_tokens": 5}, (1, 5, 1)),
        ({"prompt": [[1]] * 700, "n": 2, "max_tokens": 5}, (700, 5, 1400)),
        ({"prompt": [1], "n": 2**70, "max_tokens": 5}, (1, 5, 2**20)),
        ({"prompt": [1], "max_tokens": 900, "max_completion_tokens": 1}, (1, 900, 1)),
        ({"prompt": [1], "max_tokens": "900", "max_completion_tokens": 1}, (1, None, 1)),
        ({"prompt": [1], "max_tokens": 9, "max_completion_tokens": None}, (1, 9, 1)),
        ({"prompt": "a" * 400, "max_tokens": 1}, (150 + 64, 1, 1)),
        ({"prompt": "a", "max_tokens": 1}, (0 + 64, 1, 1)),
    ],
)
async def test_a_hold_counts_rather_too_many_tokens_of_a_text(
    paid: Site,
    ledger: FakeLedger,
    body: dict[str, Any],
    expected: tuple[int, int | None, int],
) -> None:
    await paid.awake_replica()
    assert await ask(paid, json.dumps({"model": "m", **body}).encode()) == 200
    (asked,) = ledger.asked
    assert (asked["prompt_tokens"], asked["max_tokens"], asked["sequences"]) == expected


async def test_a_surplus_of_power_is_the_band_of_the_hold(paid: Site, ledger: FakeLedger) -> None:
    await paid.awake_replica()
    for surplus_w in (99.0, 101.0):
        power = {"surplus_w": surplus_w, "draw_w": 100.0, "stale": False}
        paid.gateway.set_fleet_state(json.dumps({"power": power}).encode())
        assert await ask(paid) == 200
    assert [each["band"] for each in ledger.asked] == ["normal", "surplus"]


async def test_an_embedding_holds_nothing_for_output(paid: Site, ledger: FakeLedger) -> None:
    await paid.awake_replica()
    assert await ask(paid, b'{"model":"m","input":[1,2]}', "/v1/embeddings") == 200
    assert ledger.asked[0]["max_tokens"] == 0


async def test_the_public_part_of_a_key_goes_to_the_ledger(
    open_site: SiteFactory, ledger: FakeLedger
) -> None:
    key = make_key("lab", 0.0)
    access = AccessSettings(KnownTenants((Tenant("lab"),), (key.stored,)))
    site = await open_site(access=access, ledger=LedgerLink(answer_s=20.0))
    site.gateway.tell(DriverNews(services={"ledger": ledger.url}))
    await site.awake_replica()
    assert await ask(site, Authorization=f"Bearer {key.text}") == 200
    (asked,) = ledger.asked
    assert (asked["tenant"], asked["key_id"]) == ("lab", key.stored.prefix)


async def test_a_malformed_quote_is_a_400_before_the_ledger_is_asked(
    paid: Site, ledger: FakeLedger
) -> None:
    await paid.awake_replica()
    assert await ask(paid, X_Steppe_Quote="a b") == 400
    assert not ledger.calls


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("insufficient_funds", 402),
        ("no_account", 402),
        ("invalid_quote", 400),
        ("invalid_request", 400),
        ("conflict", 409),
    ],
)
async def test_a_refusal_of_the_ledger_names_its_reason_and_reaches_no_replica(
    paid: Site, ledger: FakeLedger, code: str, expected: int
) -> None:
    replica = await paid.awake_replica()
    ledger.free, ledger.refusal = 0, code
    status, headers, body = await paid.post(TEXT, BODY, **JSON, X_Request_Id="mine")
    error = error_of(body)
    assert (status, error["code"], error["type"]) == (expected, code, "billing_error")
    assert (error["message"], headers["X-Request-Id"]) == (
        "asked to hold 1 CNY, found 0 free",
        "mine",
    )
    assert not replica.received
    (done,) = paid.gateway.drain_finished()
    assert (done.status, done.finish, done.replica, done.terms) == (expected, "invalid", None, "")
    assert f'steppe_tenant_denied_total{{code="{code}",tenant="default"}} 1.0' in await shown(paid)


async def shown(site: Site) -> str:
    return (await site.get("/metrics"))[2].decode()


async def test_of_four_times_the_credit_exactly_the_credit_is_served(
    paid: Site, ledger: FakeLedger
) -> None:
    ledger.free = 50
    await paid.awake_replica()
    paid.route(FakeReplica("r0", paid.routes[0].url), limit=500)
    statuses = Counter(await asyncio.gather(*(ask(paid) for _ in range(200))))
    assert statuses == {200: 50, 402: 150}
    assert ledger.free == 0
    assert len(ledger.calls) < 100  # what arrives while the ledger is asked goes together


async def test_a_tenant_with_plenty_does_not_wait_for_the_ledger_before_its_replica(
    paid: Site, ledger: FakeLedger
) -> None:
    replica = await paid.awake_replica()
    assert await ask(paid) == 200
    ledger.may_answer.clear()
    sent = asyncio.create_task(ask(paid))
    await paid.until(lambda: len(replica.received) == 2)
    await asyncio.sleep(0)
    assert not sent.done()  # no byte goes to the client before the hold is known
    ledger.may_answer.set()
    assert await sent == 200


async def test_a_tenant_with_little_waits_for_the_ledger_before_its_replica(
    paid: Site, ledger: FakeLedger
) -> None:
    ledger.free = 20  # 19 more requests after the first one
    replica = await paid.awake_replica()
    assert await ask(paid) == 200
    ledger.may_answer.clear()
    sent = asyncio.create_task(ask(paid))
    await paid.until(lambda: len(ledger.calls) == 2)
    assert len(replica.received) == 1
    ledger.may_answer.set()
    assert await sent == 200


@pytest.mark.parametrize("energy", ["true", "false"])
@pytest.mark.parametrize("body", [BODY, STREAM], ids=["whole", "stream"])
async def test_a_late_refusal_ends_what_a_replica_has_begun(
    paid: Site, ledger: FakeLedger, body: bytes, energy: str
) -> None:
    replica = await paid.awake_replica()
    assert await ask(paid) == 200
    ledger.may_answer.clear()
    replica.may_answer.clear()
    sent = asyncio.create_task(paid.post(TEXT, body, X_Steppe_Energy=energy, **JSON))
    await paid.until(lambda: len(replica.received) == 2)
    ledger.free = 0
    ledger.may_answer.set()
    status, _, answer = await sent
    assert (status, error_of(answer)["code"]) == (402, "insufficient_funds")
    await paid.until(replica.disconnected.is_set)
    _, done = paid.gateway.drain_finished()
    assert (done.replica, done.finish, done.terms) == ("r0", "invalid", "")
    assert paid.gateway.status().outstanding == {"r0": 0}


async def test_a_refusal_after_the_whole_answer_has_come_hides_it(
    paid: Site, ledger: FakeLedger
) -> None:
    replica = await paid.awake_replica()
    replica.stream = [b'data: {"choices":[]}\n\n', b"data: [DONE]\n\n"]
    assert await ask(paid) == 200
    ledger.may_answer.clear()
    both = [asyncio.create_task(paid.post(TEXT, body, **JSON)) for body in (BODY, STREAM)]
    await paid.until(lambda: len(replica.received) == 3)
    ledger.free = 0
    ledger.may_answer.set()
    for status, _, answer in await asyncio.gather(*both):
        assert (status, error_of(answer)["code"]) == (402, "insufficient_funds")


async def test_a_stream_that_waits_gets_no_comment_before_its_hold_is_known(
    open_site: SiteFactory, ledger: FakeLedger
) -> None:
    site = await open_site(ledger=LedgerLink(answer_s=20.0), keep_alive_s=0.01)
    site.gateway.tell(DriverNews(services={"ledger": ledger.url}))
    replica = await site.awake_replica()
    assert await ask(site) == 200
    ledger.may_answer.clear()
    replica.may_answer.clear()
    sent = asyncio.create_task(site.post(TEXT, STREAM, **JSON))
    await site.until(lambda: len(replica.received) == 2)
    await asyncio.sleep(0.05)  # several comments are due
    ledger.free = 0
    ledger.may_answer.set()
    status, _, answer = await sent
    assert (status, error_of(answer)["code"]) == (402, "insufficient_funds")


async def test_a_retry_at_another_replica_is_held_once(paid: Site, ledger: FakeLedger) -> None:
    failing, healthy = await paid.replica("r0"), await paid.replica("r1")
    failing.status = 500
    paid.route(failing, healthy)
    while not failing.received:
        assert await ask(paid) == 200
    done = paid.gateway.drain_finished()
    assert {each.replica for each in done} == {"r1"}
    assert [each["request"] for each in ledger.asked] == [each.engine_id for each in done]
    assert not ledger.returned


async def test_a_stream_that_goes_on_elsewhere_keeps_its_hold(
    paid: Site, ledger: FakeLedger
) -> None:
    dying, healthy = await token_replica(paid, "r0", lives=[3]), await token_replica(paid, "r1")
    paid.route(dying)
    body = b'{"model":"m","stream":true,"prompt":"a","max_tokens":9}'
    sent = asyncio.create_task(ask(paid, body))
    await paid.until(lambda: not dying.lives)
    paid.route(healthy)
    assert await sent == 200
    (done,) = paid.gateway.drain_finished()
    assert (done.replica, done.terms, done.continued) == ("r1", TERMS, 1)
    assert len(ledger.asked) == 1
    assert not ledger.returned


async def test_what_no_replica_had_is_given_back(
    open_site: SiteFactory, ledger: FakeLedger
) -> None:
    ledger.free = 10  # little, so that each request has its hold before it is refused
    site = await open_site(ledger=LedgerLink(answer_s=20.0), max_waiting=0)
    site.gateway.tell(DriverNews(services={"ledger": ledger.url}))
    replica = await site.awake_replica(answers=False)
    site.route(replica, limit=1)
    first = asyncio.create_task(ask(site))
    await site.until(lambda: len(replica.received) == 1)
    assert await ask(site) == 503
    await site.until(lambda: len(ledger.returned) == 1)
    assert len(ledger.held) == 1
    replica.may_answer.set()
    assert await first == 200


async def test_what_a_replica_refuses_is_given_back(paid: Site, ledger: FakeLedger) -> None:
    replica = await paid.awake_replica()
    replica.status, replica.body = 400, b'{"detail":"no"}'
    assert await ask(paid) == 400
    await paid.until(lambda: len(ledger.returned) == 1)
    (done,) = paid.gateway.drain_finished()
    assert (done.finish, done.replica) == ("invalid", "r0")
    assert not ledger.held


async def test_a_client_that_leaves_before_the_verdict_is_billed_at_its_terms(
    paid: Site, ledger: FakeLedger
) -> None:
    replica = await paid.awake_replica()
    assert await ask(paid) == 200
    ledger.may_answer.clear()
    replica.may_answer.clear()
    sent = asyncio.create_task(ask(paid))
    await paid.until(lambda: len(replica.received) == 2)
    sent.cancel()
    await paid.until(replica.disconnected.is_set)
    ledger.may_answer.set()
    done = await finished(paid, 2)
    assert (done[1].finish, done[1].status, done[1].terms) == ("cancelled", 499, TERMS)
    assert not ledger.returned


async def finished(site: Site, count: int) -> list[Any]:
    """Return the first requests that ended, once there are so many."""
    done: list[Any] = []

    def are_there() -> bool:
        done.extend(site.gateway.drain_finished())
        return len(done) >= count

    await site.until(are_there)
    return done


async def test_a_client_that_leaves_and_could_not_pay_is_the_operators_loss(
    paid: Site, ledger: FakeLedger
) -> None:
    replica = await paid.awake_replica()
    assert await ask(paid) == 200
    ledger.may_answer.clear()
    replica.may_answer.clear()
    sent = asyncio.create_task(ask(paid))
    await paid.until(lambda: len(replica.received) == 2)
    sent.cancel()
    await paid.until(replica.disconnected.is_set)
    ledger.free = 0
    ledger.may_answer.set()
    done = await finished(paid, 2)
    assert (done[1].finish, done[1].replica, done[1].terms) == ("rejected", "r0", "")


async def test_a_client_that_leaves_before_its_replica_has_it_gets_its_hold_back(
    paid: Site, ledger: FakeLedger
) -> None:
    await paid.awake_replica()
    ledger.may_answer.clear()
    sent = asyncio.create_task(ask(paid))
    await paid.until(lambda: len(ledger.calls) == 1)
    sent.cancel()
    await finished(paid, 1)
    ledger.may_answer.set()
    await paid.until(lambda: len(ledger.returned) == 1)
    assert not ledger.held


BIG, SMALL = GatewayModel("big", ttft_s=5.0), GatewayModel("small", ttft_s=1.0)


async def test_a_request_that_moves_to_another_variant_is_held_at_its_price(
    open_site: SiteFactory, ledger: FakeLedger
) -> None:
    alias = GatewayAlias("assistant", ("big", "small"))
    site = await open_site(models=(BIG, SMALL), aliases=(alias,), ledger=LedgerLink(answer_s=20.0))
    site.gateway.tell(DriverNews(services={"ledger": ledger.url}))
    small = await site.replica("r-small")
    small.model = "small"
    sent = asyncio.create_task(ask(site, b'{"model":"assistant","prompt":[1],"max_tokens":2}'))
    await site.until(lambda: site.gateway.status().waiting == 1)
    site.route(small)
    site.gateway.set_shares({"assistant": {"big": 0.0, "small": 1.0}})
    assert await sent == 200
    (done,) = site.gateway.drain_finished()
    assert [each["model"] for each in ledger.asked] == ["big", "small"]
    assert done.engine_id == ledger.asked[1]["request"]
    assert small.received[0].headers["X-Request-Id"] == done.engine_id
    await site.until(lambda: ledger.returned == [ledger.asked[0]["request"]])
    assert ledger.held == {done.engine_id}


async def test_a_ledger_without_tariffs_is_not_asked(
    open_site: SiteFactory, ledger: FakeLedger
) -> None:
    site = await open_site(ledger=LedgerLink(asks=False))
    site.gateway.tell(DriverNews(services={"ledger": ledger.url}))
    await site.awake_replica()
    assert await ask(site) == 200
    (done,) = site.gateway.drain_finished()
    assert (done.terms, ledger.calls) == ("", [])

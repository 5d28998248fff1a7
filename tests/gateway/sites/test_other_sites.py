from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.gateway.sites.other_site import SitesMaker
from tests.gateway.test_continuing import CHAT, JSON, TEXT, USAGE, body_of, uninterrupted
from tests.gateway.token_replica import PROMPT, TOKENS, token_replica

from steppe.gateway import forwarder
from steppe.gateway.sites import other_sites

ASKED = {"messages": [{"role": "user", "content": "a"}], "model": "m"}


async def test_a_request_goes_to_the_site_that_the_router_chooses(make_sites: SitesMaker) -> None:
    sites = await make_sites("shanghai")
    home, other = sites.home, sites.others["shanghai"]
    here = await token_replica(home, "r0")
    home.route(here)
    sites.router.plan = ["shanghai"]
    body = body_of(CHAT)
    status, headers, found = await home.post(
        CHAT, body, **JSON, Authorization="Bearer secret", x_steppe_tenant="a", Cookie="c=1"
    )
    assert (status, found) == (200, uninterrupted(CHAT, body))
    assert headers["X-Steppe-Site"] == "shanghai"
    assert not here.bodies
    (received,) = other.received
    sent = {name.lower(): value for name, value in received.headers.items()}
    assert (sent["x-steppe-hop"], sent["x-request-id"]) == ("1", "e.1")
    assert sent.keys() <= {
        *("host", "accept", "content-type", "content-length"),
        *("x-steppe-hop", "x-steppe-tenant-token", "x-request-id"),
    }
    (ended,) = home.gateway.drain_finished()
    assert (ended.site, ended.replica, ended.finish) == ("shanghai", None, "stop")
    assert (ended.prompt_tokens, ended.output_tokens) == (len(PROMPT), len(TOKENS))


@pytest.mark.parametrize("more", [USAGE, {}, {"return_token_ids": True}, {"n": 2}], ids=str)
@pytest.mark.parametrize("path", [CHAT, TEXT])
async def test_a_client_gets_what_it_asked_for_and_both_books_get_the_usage(
    make_sites: SitesMaker, path: str, more: dict[str, Any]
) -> None:
    sites = await make_sites("shanghai")
    sites.router.plan = ["shanghai"]
    body = body_of(path, **more)
    assert (await sites.home.post(path, body, **JSON))[2] == uninterrupted(path, body)
    assert sites.others["shanghai"].bodies[0]["stream_options"]["include_usage"]
    ((_, outcome),) = sites.router.noted
    tokens = (outcome.prompt_tokens, outcome.output_tokens)
    assert (outcome.end, outcome.status, *tokens) == ("served", 200, len(PROMPT), len(TOKENS))
    assert outcome.started_epoch_s <= outcome.ended_epoch_s


async def test_what_the_router_chooses_by_is_read_from_the_request(make_sites: SitesMaker) -> None:
    sites = await make_sites("shanghai")
    home = sites.home
    home.route(await token_replica(home, "r0"))
    headers = {"x_steppe_priority": "interactive", "x_steppe_revision": "r7"}
    for content in ("first", "first", "other"):
        messages = [{"role": "user", "content": content}, {"role": "assistant", "content": "b"}]
        body = json.dumps({"model": "m", "messages": messages, "max_tokens": 50}).encode()
        await home.post(CHAT, body, **JSON, **headers)
    first, second, third = sites.router.asked
    assert (first.model, first.revision, first.priority) == ("m", "r7", "interactive")
    assert (first.regions, first.data_class) == (frozenset({"cn"}), "general")
    assert (first.output_tokens, first.ttft_s, first.hops) == (50, 2.0, 0)
    assert first.prompt_tokens > 0
    assert first.conversation == second.conversation
    assert third.conversation not in (None, first.conversation)


@pytest.mark.parametrize(
    "named", [{"prompt_cache_key": "c"}, {"session_id": "c"}, {}], ids=lambda n: str(*n)
)
async def test_a_conversation_may_be_named(make_sites: SitesMaker, named: dict[str, str]) -> None:
    sites = await make_sites("shanghai")
    sites.home.route(await token_replica(sites.home, "r0"))
    header = {} if named else {"x_steppe_conversation": "c"}
    for content in ("a", "b"):
        body = body_of(TEXT, prompt=content, **named)
        await sites.home.post(TEXT, body, **JSON, **header)
    first, second = sites.router.asked
    assert first.conversation is not None
    assert first.conversation == second.conversation


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
async def test_a_site_that_refuses_is_noted_and_the_request_is_served_here(
    make_sites: SitesMaker, status: int
) -> None:
    sites = await make_sites("shanghai", "guizhou")
    home, router = sites.home, sites.router
    here = await token_replica(home, "r0")
    home.route(here)
    for other in sites.others.values():
        other.status, other.answers_whole = status, True
    router.plan = ["shanghai", "guizhou", "shanghai"]
    body = body_of(CHAT)
    assert (await home.post(CHAT, body, **JSON))[2] == uninterrupted(CHAT, body)
    assert router.ends == [("shanghai", "refused"), ("guizhou", "refused")]
    assert router.noted[0][1].status == status
    assert len(here.bodies) == 1
    assert router.tried == [frozenset(), frozenset({"shanghai"})]
    (ended,) = home.gateway.drain_finished()
    assert (ended.site, ended.replica) == ("", "r0")


async def test_a_fault_of_the_client_is_not_tried_elsewhere(make_sites: SitesMaker) -> None:
    sites = await make_sites("shanghai", "guizhou")
    other = sites.others["shanghai"]
    other.status, other.answers_whole = 400, True
    other.body = b'{"error":{"message":"bad","type":"BadRequestError","code":400}}'
    sites.router.plan = ["shanghai", "guizhou"]
    status, _, found = await sites.home.post(CHAT, body_of(CHAT), **JSON)
    assert (status, json.loads(found)["error"]["message"]) == (400, "bad")
    assert sites.router.ends == [("shanghai", "served")]
    assert sites.router.noted[0][1].status == 400


async def test_a_site_that_takes_no_connection_has_had_nothing(make_sites: SitesMaker) -> None:
    sites = await make_sites("shanghai")
    await sites.others["shanghai"].stop()
    home = sites.home
    home.route(await token_replica(home, "r0"))
    sites.router.plan = ["shanghai"]
    body = body_of(CHAT)
    assert (await home.post(CHAT, body, **JSON))[2] == uninterrupted(CHAT, body)
    ((_, outcome),) = sites.router.noted
    assert (outcome.end, outcome.status, outcome.output_tokens) == ("unreachable", None, 0)


async def test_a_site_with_the_certificate_of_another_one_gets_nothing(
    make_sites: SitesMaker,
) -> None:
    sites = await make_sites("shanghai", certificate_of="guizhou")
    home = sites.home
    home.route(await token_replica(home, "r0"))
    sites.router.plan = ["shanghai"]
    body = body_of(CHAT)
    assert (await home.post(CHAT, body, **JSON))[2] == uninterrupted(CHAT, body)
    assert sites.router.ends == [("shanghai", "unreachable")]
    assert not sites.others["shanghai"].received


async def test_a_stream_lost_at_a_site_goes_on_at_another_one_and_here(
    make_sites: SitesMaker,
) -> None:
    sites = await make_sites("shanghai", "guizhou")
    home, router = sites.home, sites.router
    here = await token_replica(home, "r0", created=3)
    home.route(here)
    for more in (USAGE, {}):
        body = body_of(CHAT, **more)
        whole = uninterrupted(CHAT, body)
        for first, second in ((1, 3), (4, 2), (8, 9), (2, 11)):
            for name, lives in (("shanghai", first), ("guizhou", second)):
                sites.others[name].lives = [lives]
            router.plan, here.bodies = ["shanghai", "guizhou"], []
            router.noted.clear()
            status, _, found = await home.post(CHAT, body, **JSON)
            assert (status, found) == (200, whole), (first, second)
            assert router.ends[0] == ("shanghai", "lost")
            served = sum(outcome.output_tokens for _, outcome in router.noted)
            assert served <= len(TOKENS)
            (ended,) = home.gateway.drain_finished()
            assert (ended.finish, ended.output_tokens) == ("stop", len(TOKENS))
            assert ended.site in ("shanghai", "guizhou")
            assert (ended.replica == "r0") == bool(here.bodies)


@pytest.mark.parametrize("lives", [0, 4])
async def test_a_stream_that_gets_nothing_more_from_a_site_goes_on_here(
    make_sites: SitesMaker, monkeypatch: pytest.MonkeyPatch, lives: int
) -> None:
    monkeypatch.setattr(other_sites, "STUCK_S", 0.1)
    monkeypatch.setattr(other_sites, "FIRST_S", 0.1)
    monkeypatch.setattr(other_sites, "LOOK_S", 0.01)
    sites = await make_sites("shanghai", fails="stall", lives=[lives])
    sites.home.route(await token_replica(sites.home, "r0"))
    sites.router.plan = ["shanghai"]
    body = body_of(CHAT, **USAGE)
    assert (await sites.home.post(CHAT, body, **JSON))[2] == uninterrupted(CHAT, body)
    assert sites.router.ends == [("shanghai", "lost")]


async def test_a_stream_lost_here_goes_on_at_a_site_when_no_replica_is_awake(
    make_sites: SitesMaker,
) -> None:
    sites = await make_sites("shanghai")
    home, router, other = sites.home, sites.router, sites.others["shanghai"]
    dying = await token_replica(home, "r0", lives=[4])
    home.route(dying)
    dying.may_answer.clear()
    body = body_of(CHAT, **USAGE)
    task = asyncio.create_task(home.post(CHAT, body, **JSON))
    await home.until(lambda: bool(dying.received))
    router.plan = ["shanghai"]
    dying.may_answer.set()
    assert (await task)[2] == uninterrupted(CHAT, body)
    assert len(other.bodies[0]["vllm_xargs"]["steppe_output"]) == 3
    ((_, outcome),) = router.noted
    assert (outcome.end, outcome.output_tokens) == ("served", len(TOKENS) - 3)
    (ended,) = home.gateway.drain_finished()
    assert (ended.site, ended.replica, ended.continued) == ("shanghai", "r0", 1)


async def test_a_stream_lost_here_stays_while_a_replica_is_awake(make_sites: SitesMaker) -> None:
    sites = await make_sites("shanghai")
    home, router = sites.home, sites.router
    dying, healthy = await token_replica(home, "r0", lives=[4]), await token_replica(home, "r1")
    home.route(dying)
    task = asyncio.create_task(home.post(CHAT, body := body_of(CHAT), **JSON))
    await home.until(lambda: bool(dying.received))
    home.route(dying, healthy)
    router.plan = ["shanghai"]
    assert (await task)[2] == uninterrupted(CHAT, body)
    assert not sites.others["shanghai"].bodies


async def test_a_client_that_leaves_ends_the_call(make_sites: SitesMaker) -> None:
    sites = await make_sites("shanghai")
    other = sites.others["shanghai"]
    other.may_answer.clear()
    sites.router.plan = ["shanghai"]
    task = asyncio.create_task(sites.home.post(CHAT, body_of(CHAT), **JSON))
    await sites.home.until(lambda: bool(other.received))
    task.cancel()
    await sites.home.until(lambda: bool(sites.router.noted))
    assert sites.router.ends == [("shanghai", "cancelled")]


async def test_a_gateway_that_stops_ends_what_other_sites_still_answer(
    make_sites: SitesMaker,
) -> None:
    sites = await make_sites("shanghai")
    other = sites.others["shanghai"]
    other.may_answer.clear()
    sites.router.plan = ["shanghai"]
    task = asyncio.create_task(sites.home.post(CHAT, body_of(CHAT), **JSON))
    await sites.home.until(lambda: bool(other.received))
    await sites.home.gateway.stop()
    assert (await task)[0] == 503
    assert sites.router.ends == [("shanghai", "cancelled")]


async def test_a_request_that_waits_here_goes_to_a_site_that_has_room_later(
    make_sites: SitesMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarder, "RECONSIDER_S", 0.02)
    sites = await make_sites("shanghai")
    home, router = sites.home, sites.router
    body = body_of(CHAT)
    task = asyncio.create_task(home.post(CHAT, body, **JSON, x_steppe_priority="deferrable"))
    await home.until(lambda: len(router.asked) > 2)
    assert home.gateway.status().waiting <= 1
    router.plan = ["shanghai"]
    assert (await task)[2] == uninterrupted(CHAT, body)
    (ended,) = home.gateway.drain_finished()
    assert (ended.site, ended.replica) == ("shanghai", None)
    status = home.gateway.status()
    assert (status.arrived, status.finished, status.answered, status.waiting) == (1, 1, 0, 0)


async def test_a_request_keeps_its_place_while_it_looks_for_other_sites(
    make_sites: SitesMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarder, "RECONSIDER_S", 0.02)
    sites = await make_sites("shanghai")
    home, router = sites.home, sites.router
    replica = await token_replica(home, "r0")
    tasks = []
    for number in range(3):
        body = body_of(TEXT, prompt=str(number))
        tasks.append(asyncio.create_task(home.post(TEXT, body, **JSON)))
        await home.until(lambda: home.gateway.status().arrived == len(tasks))
    known = len(router.asked)
    await home.until(lambda: len(router.asked) > known + 6)
    home.route(replica, limit=1)
    assert [status for status, _, _ in await asyncio.gather(*tasks)] == [200] * 3
    assert [body["prompt"] for body in replica.bodies] == ["0", "1", "2"]


async def test_a_client_that_asks_for_energy_gets_what_the_site_has_metered(
    make_sites: SitesMaker,
) -> None:
    sites = await make_sites("shanghai")
    other = sites.others["shanghai"]
    usage = b'"usage":{"prompt_tokens":3,"completion_tokens":2,"energy":{"joules":1.5}}'
    other.body, other.answers_whole = b'{"choices":[],' + usage + b"}", True
    sites.router.plan = ["shanghai"]
    body = json.dumps(ASKED).encode()
    _, _, found = await sites.home.post(CHAT, body, **JSON, x_steppe_energy="true")
    assert json.loads(found)["usage"]["energy"] == {"joules": 1.5}
    assert other.received[0].headers["x-steppe-energy"] == "true"


async def test_requests_that_other_sites_serve_are_no_demand_here(make_sites: SitesMaker) -> None:
    sites = await make_sites("shanghai")
    home, router, other = sites.home, sites.router, sites.others["shanghai"]
    home.route(await token_replica(home, "r0"))
    router.plan = ["shanghai"]
    await home.post(CHAT, body_of(CHAT), **JSON)
    assert (home.gateway.status().arrived, home.gateway.status().finished) == (0, 0)
    other.status, other.answers_whole = 503, True
    router.plan = ["shanghai"]
    await home.post(CHAT, body_of(CHAT), **JSON)
    status = home.gateway.status()
    assert (status.arrived, status.finished, status.answered) == (1, 1, 1)


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/responses"])
async def test_what_needs_a_state_or_gives_no_text_stays(make_sites: SitesMaker, path: str) -> None:
    sites = await make_sites("shanghai")
    replica = await sites.home.awake_replica()
    sites.router.plan = ["shanghai"]
    await sites.home.post(path, b'{"model":"m","input":"a"}', **JSON)
    assert len(replica.received) == 1
    assert not sites.router.asked


async def test_a_whole_answer_comes_with_its_tokens(make_sites: SitesMaker) -> None:
    sites = await make_sites("shanghai")
    other = sites.others["shanghai"]
    other.answers_whole = True
    sites.router.plan = ["shanghai"]
    body = json.dumps(ASKED).encode()
    status, headers, found = await sites.home.post(CHAT, body, **JSON)
    assert (status, found) == (200, other.body)
    assert headers["X-Steppe-Site"] == "shanghai"
    assert "X-Replica" not in headers
    ((_, outcome),) = sites.router.noted
    assert (outcome.prompt_tokens, outcome.output_tokens) == (11, 2)

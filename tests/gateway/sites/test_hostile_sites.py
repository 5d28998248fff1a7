"""Another site that answers wrongly, too much, too slowly or not at all."""

from __future__ import annotations

import asyncio
import json

import pytest
from tests.gateway.sites.other_site import SitesMaker
from tests.gateway.test_continuing import CHAT, JSON, body_of, uninterrupted
from tests.gateway.token_replica import token_replica

from steppe.gateway.sites import other_sites

ASKED = json.dumps({"messages": [{"role": "user", "content": "a"}], "model": "m"}).encode()
COMMENT = b": waiting for power\n\n"
GIVES_UP = (
    b'event: error\ndata: {"error":{"message":"no power","type":"overloaded","code":"site_full"}}'
    b"\n\n"
)


@pytest.mark.parametrize("streams", [True, False])
@pytest.mark.parametrize("status", [204, 302, 308, 402, 405, 409])
async def test_an_answer_that_is_none_to_the_request_is_a_refusal(
    make_sites: SitesMaker, status: int, streams: bool
) -> None:
    sites = await make_sites("shanghai")
    here, other = await token_replica(sites.home, "r0"), sites.others["shanghai"]
    sites.home.route(here)
    other.status, other.answers_whole, other.location = status, True, "http://127.0.0.1:9/secrets"
    sites.router.plan = ["shanghai"]
    body = body_of(CHAT) if streams else ASKED
    answer, headers, _ = await sites.home.post(CHAT, body, **JSON)
    assert (answer, "Location" in headers, len(here.bodies)) == (200, False, 1)
    assert sites.router.ends == [("shanghai", "refused")]


async def test_a_whole_answer_to_a_stream_is_a_refusal(make_sites: SitesMaker) -> None:
    sites = await make_sites("shanghai")
    sites.home.route(await token_replica(sites.home, "r0"))
    sites.others["shanghai"].answers_whole = True
    sites.router.plan = ["shanghai"]
    body = body_of(CHAT)
    assert (await sites.home.post(CHAT, body, **JSON))[2] == uninterrupted(CHAT, body)
    assert sites.router.ends == [("shanghai", "refused")]


async def test_a_page_of_html_is_a_refusal(make_sites: SitesMaker) -> None:
    sites = await make_sites("shanghai")
    here, other = await token_replica(sites.home, "r0"), sites.others["shanghai"]
    sites.home.route(here)
    other.content_type, other.stream = "text/html", [b"<script>"]
    sites.router.plan = ["shanghai"]
    _, headers, _ = await sites.home.post(CHAT, ASKED, **JSON)
    assert "html" not in headers["Content-Type"]
    assert (sites.router.ends, len(here.bodies)) == ([("shanghai", "refused")], 1)


@pytest.mark.parametrize("streams", [True, False])
async def test_an_answer_without_an_end_is_given_up(
    make_sites: SitesMaker, monkeypatch: pytest.MonkeyPatch, streams: bool
) -> None:
    monkeypatch.setattr(other_sites, "MOST_BYTES", 10_000)
    sites = await make_sites("shanghai")
    here, other = await token_replica(sites.home, "r0"), sites.others["shanghai"]
    sites.home.route(here)
    never = asyncio.Event()
    if not streams:
        other.content_type = "application/json"
    other.stream = [b"data: " + 8_000 * b"x", 8_000 * b"x", never]
    sites.router.plan = ["shanghai"]
    body = body_of(CHAT) if streams else ASKED
    assert (await sites.home.post(CHAT, body, **JSON))[0] == 200
    assert (sites.router.ends, len(here.bodies)) == ([("shanghai", "lost")], 1)


@pytest.mark.parametrize("is_lost", [True, False])
async def test_a_whole_answer_that_does_not_come_is_computed_here(
    make_sites: SitesMaker, monkeypatch: pytest.MonkeyPatch, is_lost: bool
) -> None:
    monkeypatch.setattr(other_sites, "FIRST_S", 0.1)
    if not is_lost:
        monkeypatch.setattr(other_sites, "SLOW_TOKEN_S", 0.0)
    monkeypatch.setattr(other_sites, "LOOK_S", 0.01)
    sites = await make_sites("shanghai")
    here = await token_replica(sites.home, "r0")
    sites.home.route(here)
    sites.others["shanghai"].may_answer.clear()
    sites.router.plan, sites.router.lost = ["shanghai"], {"shanghai"} if is_lost else set()
    assert (await sites.home.post(CHAT, ASKED, **JSON))[0] == 200
    assert (sites.router.ends, len(here.bodies)) == ([("shanghai", "lost")], 1)


async def test_comments_of_a_site_do_not_hold_a_stream_there(
    make_sites: SitesMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(other_sites, "FIRST_S", 0.1)
    monkeypatch.setattr(other_sites, "LOOK_S", 0.01)
    sites = await make_sites("shanghai")
    sites.home.route(await token_replica(sites.home, "r0"))
    sites.others["shanghai"].stream = [COMMENT, COMMENT, asyncio.Event()]
    sites.router.plan = ["shanghai"]
    body = body_of(CHAT)
    assert (await sites.home.post(CHAT, body, **JSON))[2] == uninterrupted(CHAT, body)
    assert sites.router.ends == [("shanghai", "lost")]


@pytest.mark.parametrize("more", [{}, {"n": 2}], ids=str)
async def test_a_site_that_gives_up_after_a_comment_ends_no_stream(
    make_sites: SitesMaker, more: dict[str, int]
) -> None:
    sites = await make_sites("shanghai")
    sites.home.route(await token_replica(sites.home, "r0"))
    wait = asyncio.Event()
    sites.others["shanghai"].stream = [COMMENT, wait, GIVES_UP]
    sites.router.plan = ["shanghai"]
    body = body_of(CHAT, **more)
    task = asyncio.create_task(sites.home.post(CHAT, body, **JSON))
    await sites.home.until(lambda: bool(sites.others["shanghai"].received))
    wait.set()
    assert (await task)[2] == uninterrupted(CHAT, body)
    assert sites.router.ends == [("shanghai", "lost")]


async def test_a_path_that_the_door_of_a_site_refuses_stays_here(make_sites: SitesMaker) -> None:
    sites = await make_sites("shanghai")
    sites.home.route(await token_replica(sites.home, "r0"))
    sites.router.plan = ["shanghai"]
    await sites.home.post("/v1/%63hat/completions", body_of(CHAT), **JSON)
    assert not sites.router.asked


async def test_the_reason_of_a_refusal_reaches_the_router(make_sites: SitesMaker) -> None:
    sites = await make_sites("shanghai")
    sites.home.route(await token_replica(sites.home, "r0"))
    other = sites.others["shanghai"]
    other.status, other.answers_whole, other.refused = 403, True, "too_much_energy"
    sites.router.plan = ["shanghai"]
    await sites.home.post(CHAT, body_of(CHAT), **JSON)
    ((_, outcome),) = sites.router.noted
    assert (outcome.end, outcome.reason) == ("refused", "too_much_energy")

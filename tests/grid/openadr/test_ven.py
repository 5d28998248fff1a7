from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from tests.fixtures.openadr_events import body_of
from tests.fixtures.openadr_vtn import Client, OpenAdrVtn

from steppe.errors import ConfigError
from steppe.grid.openadr.client import VtnClient, VtnError, VtnPlace
from steppe.grid.openadr.reports import Span, report_of
from steppe.grid.openadr.times import text_of
from steppe.grid.openadr.translation import AgreedTerms
from steppe.grid.openadr.ven import Hook, OpenAdrVen, VenSettings

TERMS = AgreedTerms(subscription_w=500e3, most_w=10e6, lost_s=100.0)


class Clock:
    """A monotonic clock that is set by hand."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


Running = Callable[..., AbstractAsyncContextManager[OpenAdrVen]]


@pytest.fixture
def running(vtn: OpenAdrVtn) -> Running:
    """Open a VEN that polls only when it is told to."""

    @asynccontextmanager
    async def run(
        monotonic: Callable[[], float] = time.monotonic, **fields: Any
    ) -> AsyncIterator[OpenAdrVen]:
        place = fields.pop("place", VtnPlace(vtn.url, "site", "site secret"))
        settings = VenSettings(place, "steppe site", TERMS)
        ven = OpenAdrVen(replace(settings, **fields), monotonic=monotonic)
        await ven.open()
        try:
            yield ven
        finally:
            await ven.stop()

    return run


def now_body(type_: str, *values: Any, **fields: Any) -> dict[str, Any]:
    """Return an event that began a minute ago."""
    period = {"start": text_of(time.time() // 1 - 60), "duration": "PT1H"}
    return body_of(type_, *values, intervalPeriod=period, **fields)


def limit_w(ven: OpenAdrVen) -> float:
    return ven.standing().limit_w(time.time(), 450e3)


async def test_a_site_enrols_itself_and_its_resources_once(
    vtn: OpenAdrVtn, running: Running
) -> None:
    for _ in range(2):
        async with running(resources=("gpus", "battery")) as ven:
            assert await ven.poll() == ()
    assert [each["venName"] for each in vtn.has("vens")] == ["steppe site"]
    assert [each["resourceName"] for each in vtn.has("resources")] == ["gpus", "battery"]
    assert {each["clientID"] for each in vtn.has("resources")} == {"site"}


async def test_a_name_that_another_client_has_is_refused(vtn: OpenAdrVtn, running: Running) -> None:
    await vtn.post("vens", {"objectType": "VEN_VEN_REQUEST", "venName": "steppe site"}, "other")
    async with running() as ven:
        with pytest.raises(VtnError, match="/vens: the name steppe site belongs to another client"):
            await ven.poll()


async def test_events_of_all_pages_are_followed(vtn: OpenAdrVtn, running: Running) -> None:
    for number in range(120):
        body = now_body("IMPORT_CAPACITY_LIMIT", 400 - number, programID=f"program-{number}")
        await vtn.post("events", body)
    async with running() as ven:
        assert await ven.poll() == ()
        assert len(ven.events) == 120
        assert limit_w(ven) == 281e3
    assert vtn.calls.count("GET /events") % 3 == 0


async def test_a_list_that_changes_while_it_is_read_is_read_anew(vtn: OpenAdrVtn) -> None:
    for number in range(60):
        await vtn.post("programs", {"programName": f"program {number}"})
    place = VtnPlace(vtn.url, "site", "site secret")

    async def delete_one() -> None:
        while vtn.calls.count("GET /programs") == 0:
            await asyncio.sleep(0)
        del vtn.stored["programs"]["program-1"]

    async with VtnClient(place) as client, asyncio.TaskGroup() as group:
        group.create_task(delete_one())
        found = await client.all("/programs")
    names = {each["programName"] for each in found}
    assert names >= {f"program {number}" for number in range(1, 60)}


async def test_only_events_for_our_targets_are_followed(vtn: OpenAdrVtn, running: Running) -> None:
    request = {"objectType": "BL_VEN_REQUEST", "clientID": "site", "targets": ["feeder-7"]}
    await vtn.post("vens", {**request, "venName": "steppe site"}, "site")
    for number, feeder in enumerate(("feeder-7", "feeder-8")):
        body = now_body("SIMPLE", 1, targets=[feeder], programID=f"program-{number}")
        await vtn.post("events", body)
    async with running() as ven:
        assert await ven.poll() == ()
        assert [event.targets for event in ven.events] == [("feeder-7",)]


async def test_only_events_of_the_programs_that_are_named_are_followed(
    vtn: OpenAdrVtn, running: Running
) -> None:
    ours = await vtn.post("programs", {"programName": "envelope"})
    other = await vtn.post("programs", {"programName": "prices"})
    for program in (ours, other):
        await vtn.post("events", now_body("SIMPLE", 1, programID=program["id"]))
    async with running(programs=("envelope",)) as ven:
        assert await ven.poll() == ()
        assert [event.programID for event in ven.events] == [ours["id"]]
    async with running(programs=("absent",)) as ven:
        with pytest.raises(VtnError, match="there is no program absent for us"):
            await ven.poll()


async def test_events_come_by_webhook_without_a_poll(vtn: OpenAdrVtn, running: Running) -> None:
    async with running(hook=Hook("http://127.0.0.1:{port}")) as ven:
        await ven.poll()
        polls = vtn.calls.count("GET /events")
        event = await vtn.post("events", now_body("IMPORT_CAPACITY_LIMIT", 300))
        assert limit_w(ven) == 300e3
        await vtn.put("events", event["id"], now_body("IMPORT_CAPACITY_LIMIT", 200))
        assert limit_w(ven) == 200e3
        await vtn.delete("events", event["id"])
        assert limit_w(ven) == 500e3
        assert vtn.delivered == [200, 200, 200]
        assert vtn.calls.count("GET /events") == polls


async def test_a_restart_replaces_the_subscription(vtn: OpenAdrVtn, running: Running) -> None:
    for _ in range(2):
        async with running(hook=Hook("http://127.0.0.1:{port}")) as ven:
            await ven.poll()
            assert len(vtn.has("subscriptions")) == 1
            await vtn.post("events", now_body("SIMPLE", 1, programID=f"p-{len(vtn.delivered)}"))
    assert vtn.delivered == [200, 200]


async def test_a_subscription_that_the_server_forgot_is_made_anew(
    vtn: OpenAdrVtn, running: Running
) -> None:
    async with running(hook=Hook("http://127.0.0.1:{port}")) as ven:
        for _ in range(2):
            vtn.stored["subscriptions"].clear()
            await ven.poll()
            await ven.poll()
        await vtn.post("events", now_body("IMPORT_CAPACITY_LIMIT", 300))
        assert (limit_w(ven), vtn.delivered) == (300e3, [200])
    assert vtn.calls.count("POST /subscriptions") == 2


async def test_a_notification_that_is_refused_leaves_the_limit_and_says_why(
    vtn: OpenAdrVtn, running: Running
) -> None:
    async with running(hook=Hook("http://127.0.0.1:{port}")) as ven:
        await ven.poll()
        event = await vtn.post("events", now_body("IMPORT_CAPACITY_LIMIT", 300))
        await vtn.put("events", event["id"], now_body("IMPORT_CAPACITY_LIMIT", 1e9))
        assert vtn.delivered == [200, 422]
        assert "beyond 0 to 1e+07 W" in ven.refusals[-1]
        assert limit_w(ven) == 300e3


async def test_a_lost_link_gives_the_subscription_and_the_next_answer_the_limit(
    vtn: OpenAdrVtn, running: Running
) -> None:
    clock = Clock()
    await vtn.post("events", now_body("IMPORT_CAPACITY_LIMIT", 900))
    async with running(clock) as ven:
        await ven.poll()
        assert limit_w(ven) == 900e3
        vtn.broken = 500
        clock.now_s = 101.0
        with pytest.raises(VtnError, match="500: broken on purpose"):
            await ven.poll()
        assert limit_w(ven) == 500e3
        vtn.broken = None
        await ven.poll()
        assert limit_w(ven) == 900e3


async def test_a_token_that_the_server_forgot_is_had_anew(
    vtn: OpenAdrVtn, running: Running
) -> None:
    async with running() as ven:
        await ven.poll()
        vtn.tokens.clear()
        await ven.poll()
    assert vtn.calls.count("POST /auth/token") == 2


async def test_a_token_is_renewed_before_it_ends(vtn: OpenAdrVtn, running: Running) -> None:
    clock = Clock()
    async with running(clock) as ven:
        await ven.poll()
        clock.now_s = 3571.0
        await ven.poll()
    assert vtn.calls.count("POST /auth/token") == 2


async def test_a_wrong_secret_is_one_line(vtn: OpenAdrVtn, running: Running) -> None:
    async with running(place=VtnPlace(vtn.url, "site", "wrong")) as ven:
        with pytest.raises(VtnError, match="the token: 401: invalid_client"):
            await ven.poll()


async def test_a_token_that_allows_too_little_is_named(vtn: OpenAdrVtn, running: Running) -> None:
    vtn.clients["site"] = Client("site secret", scopes=("read_targets", "read_ven_objects"))
    async with running() as ven:
        with pytest.raises(VtnError, match=r"does not allow write_reports, write_sub\w*, write_v"):
            await ven.poll()


async def test_the_secret_is_not_sent_to_another_host(vtn: OpenAdrVtn, running: Running) -> None:
    vtn.token_url = "https://elsewhere.example/token"
    async with running() as ven:
        with pytest.raises(VtnError, match="not on the server's own host"):
            await ven.poll()


@pytest.mark.parametrize("url", ["http://vtn.example/", "ftp://127.0.0.1/", "vtn.example"])
def test_a_server_that_others_can_listen_to_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="asked for an https URL"):
        VtnPlace(url, "site", "secret")


def test_a_webhook_that_others_can_listen_to_is_refused() -> None:
    with pytest.raises(ConfigError, match="webhook: asked for an https URL"):
        Hook("http://site.example")


def test_the_secret_is_not_shown() -> None:
    assert "hidden" not in repr(VtnPlace("https://vtn.example", "site", "hidden"))


async def test_a_server_that_does_not_answer_is_one_line(running: Running) -> None:
    async with running(place=VtnPlace("http://127.0.0.1:9", "site", "secret")) as ven:
        with pytest.raises(VtnError, match="GET /auth/server: no answer"):
            await ven.poll()


async def test_a_report_is_sent_for_an_event(vtn: OpenAdrVtn, running: Running) -> None:
    event = await vtn.post("events", now_body("SIMPLE", 1))
    async with running() as ven:
        await ven.poll()
        body = report_of(event["id"], "steppe site", "USAGE", [Span(1.8e9, 900.0, 3.6e6)])
        assert await ven.report(body) == vtn.has("reports")[0]["id"]
    assert vtn.has("reports")[0]["clientID"] == "site"


async def test_a_ven_that_is_started_polls_until_it_is_stopped(vtn: OpenAdrVtn) -> None:
    await vtn.post("events", now_body("IMPORT_CAPACITY_LIMIT", 300))
    place = VtnPlace(vtn.url, "site", "site secret")
    ven = OpenAdrVen(VenSettings(place, "steppe site", TERMS, poll_s=0.01))
    vtn.broken = 503
    await ven.start()
    async with asyncio.timeout(20):
        while not ven.problem:
            await asyncio.sleep(0.005)
        assert "503: broken on purpose" in ven.problem
        vtn.broken = None
        while limit_w(ven) != 300e3:
            await asyncio.sleep(0.005)
    await ven.stop()
    polls = len(vtn.calls)
    await asyncio.sleep(0)
    assert (ven.problem, len(vtn.calls)) == ("", polls)

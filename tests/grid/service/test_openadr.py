"""The link to an OpenADR server, beside a server in memory."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.grid_fleet import GridFleet, Times
from tests.fixtures.openadr_events import body_of
from tests.fixtures.openadr_vtn import OpenAdrVtn

from steppe.config import GridSection
from steppe.errors import UsageError
from steppe.grid.openadr.client import VtnError
from steppe.grid.openadr.times import text_of
from steppe.grid.service.links import links_of
from steppe.grid.service.openadr_part import OpenAdrPart, ven_settings
from steppe.grid.service.refusals import NotedLimits, Refusals
from steppe.grid.service.seam import Heard, PutEvent


def section_of(url: str, folder: Path) -> GridSection:
    secret = folder / "vtn.secret"
    secret.write_text("site secret\n".replace(" ", "-"))
    openadr = {
        "url": url,
        "client_id": "site",
        "secret_file": secret,
        "default_w": 500.0,
        "most_w": 5000.0,
        "lost_s": 100.0,
    }
    return GridSection.model_validate({"openadr": openadr})


class Link:
    """The link, its server and its fleet.

    Attributes:
        vtn: The server.
        fleet: The fleet.
        part: The link.
        now_s: The clock of the site.
        refusals: What was refused.
    """

    def __init__(self, vtn: OpenAdrVtn, folder: Path) -> None:
        self.vtn, self.folder = vtn, folder
        self.section = section_of(vtn.url, folder)
        assert self.section.openadr is not None
        self.now_s = Times()
        self.fleet = GridFleet(folder, links_of(self.section), self.now_s)
        self.refusals = Refusals(self.now_s)
        self.part = self.new_part()

    def new_part(self) -> OpenAdrPart:
        assert self.section.openadr is not None
        settings = ven_settings(self.section.openadr, "s7")
        noted = NotedLimits(self.fleet, self.refusals)
        return OpenAdrPart(settings, noted, self.refusals, self.now_s)

    async def restart(self) -> None:
        await self.part.stop()
        self.part = self.new_part()
        await self.part.ven.open()

    async def see(self) -> None:
        await self.part.see(await self.fleet.view(0))

    async def poll(self) -> None:
        await self.part.ven.poll()
        await self.see()

    @property
    def in_force(self) -> tuple[str, float]:
        found = self.fleet.limits.in_force()
        assert found is not None
        return found.name, found.watts


@pytest.fixture
async def link(tmp_path: Path) -> AsyncIterator[Link]:
    async with OpenAdrVtn() as vtn:
        vtn.clients["site"] = replace(vtn.clients["site"], secret="site-secret")
        found = Link(vtn, tmp_path)
        await found.part.ven.open()
        yield found
        await found.part.stop()


def body(type_: str, value: Any, **fields: Any) -> dict[str, Any]:
    """Return an event that began a minute ago and lasts an hour."""
    period = {"start": text_of(time.time() // 1 - 60), "duration": "PT1H"}
    return body_of(type_, value, intervalPeriod=period, **fields)


async def test_the_subscription_holds_until_the_server_sets_a_limit(link: Link) -> None:
    assert link.in_force == ("openadr/default", 500.0)
    await link.poll()
    assert link.in_force == ("openadr/subscription", 500.0)
    event = await link.vtn.post("events", body("IMPORT_CAPACITY_LIMIT", 0.2))
    await link.poll()
    assert link.in_force == (f"openadr/{event['id']}/0/IMPORT_CAPACITY_LIMIT", 200.0)


async def test_a_limit_above_the_subscription_replaces_it_for_its_time(link: Link) -> None:
    event = await link.vtn.post("events", body("IMPORT_CAPACITY_LIMIT", 0.9))
    await link.poll()
    assert link.in_force[1] == 900.0
    link.now_s.now_s += 40.0
    await link.vtn.delete("events", event["id"])
    await link.poll()
    assert link.in_force == ("openadr/subscription", 500.0)


async def test_a_deleted_event_is_cancelled_and_counts_again_when_it_is_listed_again(
    link: Link,
) -> None:
    event = await link.vtn.post("events", body("SIMPLE", 3))
    await link.poll()
    assert link.in_force == ("openadr/subscription", 500.0)  # half of the baseline of 1000 W
    link.fleet.draw_w = 600.0
    other = await link.vtn.post("events", body("SIMPLE", 3, priority=1))
    await link.poll()
    assert link.in_force[1] == 300.0
    await link.vtn.delete("events", other["id"])
    await link.poll()
    assert link.in_force[1] == 500.0
    link.vtn.stored["events"][other["id"]] = other
    await link.poll()
    assert link.in_force[1] == 300.0
    assert event["id"] != other["id"]


async def test_an_event_that_was_deleted_while_the_service_was_away_is_cancelled(
    link: Link,
) -> None:
    event = await link.vtn.post("events", body("IMPORT_CAPACITY_LIMIT", 0.1))
    await link.poll()
    assert link.in_force[1] == 100.0
    await link.vtn.delete("events", event["id"])
    await link.restart()
    await link.see()
    assert link.in_force[1] == 100.0  # nothing is known before the first poll
    await link.poll()
    assert link.in_force == ("openadr/subscription", 500.0)


async def test_a_restart_of_the_service_lifts_nothing(link: Link) -> None:
    await link.vtn.post("events", body("IMPORT_CAPACITY_LIMIT", 0.1))
    await link.poll()
    await link.restart()
    link.vtn.broken = 503
    for _ in range(3):
        link.now_s.now_s += 40.0
        with pytest.raises(VtnError):
            await link.part.ven.poll()
        await link.see()
        assert link.in_force[1] == 100.0
    assert link.fleet.limits.is_lost("openadr")


def spoil(link: Link, event_id: str, bad: str) -> None:
    """Let the server list a bad version of an event."""
    stored = link.vtn.stored["events"][event_id]
    later = text_of(time.time() // 1 + 5)
    match bad:
        case "absurd":
            stored["intervals"][0]["payloads"][0]["values"] = [-1.0]
            stored["modificationDateTime"] = later
        case "no payloads":
            stored["intervals"][0]["payloads"] = "none"
        case "written in the future":
            stored["modificationDateTime"] = text_of(time.time() // 1 + 3600)


@pytest.mark.parametrize("bad", ["absurd", "no payloads", "written in the future"])
@pytest.mark.parametrize("type_", ["IMPORT_CAPACITY_LIMIT", "IMPORT_CAPACITY_SUBSCRIPTION"])
async def test_a_bad_version_of_an_event_lifts_nothing_also_after_a_restart_or_a_loss(
    link: Link, type_: str, bad: str
) -> None:
    event = await link.vtn.post("events", body(type_, 0.1))
    await link.poll()
    assert link.in_force[1] == 100.0
    spoil(link, event["id"], bad)
    await link.poll()
    assert link.in_force[1] == 100.0
    await link.restart()
    await link.poll()
    await link.poll()
    assert link.in_force[1] == 100.0
    link.now_s.now_s += 101.0
    await link.poll()
    assert link.in_force[1] == 100.0
    await link.vtn.delete("events", event["id"])
    await link.poll()
    assert link.in_force == ("openadr/subscription", 500.0)


async def test_a_clock_that_is_wrong_while_the_service_starts_lifts_nothing(link: Link) -> None:
    await link.vtn.post("events", body("IMPORT_CAPACITY_LIMIT", 0.1))
    await link.poll()
    await link.restart()
    right_s = link.now_s.now_s
    link.now_s.now_s = right_s - 3000.0  # the event was written in the future now
    await link.poll()
    assert link.in_force[1] == 100.0
    link.now_s.now_s = right_s
    await link.poll()
    assert link.in_force[1] == 100.0


async def test_a_lost_link_falls_to_the_default_and_comes_back_with_the_next_poll(
    link: Link,
) -> None:
    await link.vtn.post("events", body("IMPORT_CAPACITY_LIMIT", 0.9))
    await link.poll()
    link.vtn.broken = 503
    link.now_s.now_s += 101.0
    with pytest.raises(VtnError):
        await link.part.ven.poll()
    await link.see()
    assert link.in_force[1] == 500.0
    link.vtn.broken = None
    await link.poll()
    assert link.in_force[1] == 900.0


async def test_a_poll_without_news_is_a_sign_of_life_only(link: Link) -> None:
    await link.vtn.post("events", body("IMPORT_CAPACITY_LIMIT", 0.2))
    await link.poll()
    await link.poll()
    before = len(link.fleet.taken)
    link.now_s.now_s += 30.0
    await link.poll()
    await link.see()
    assert link.fleet.taken[before:] == [Heard("openadr")]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (body("IMPORT_CAPACITY_LIMIT", -1), "is beyond 0 to 5000 W"),
        (body("IMPORT_CAPACITY_LIMIT", 1e9), "is beyond 0 to 5000 W"),
        (body("SIMPLE", 4), "is no level from 0 to 3"),
        (
            body_of(
                "IMPORT_CAPACITY_LIMIT",
                1,
                intervalPeriod={
                    "start": text_of(time.time() // 1 + 401 * 86400),
                    "duration": "PT1H",
                },
            ),
            "it starts more than 400 days ahead",
        ),
        (body("IMPORT_CAPACITY_LIMIT", 4.0), "overlaps that of event"),
    ],
)
async def test_a_bad_event_is_refused_with_a_reason_and_changes_nothing(
    link: Link, bad: dict[str, Any], reason: str
) -> None:
    await link.vtn.post("events", body("IMPORT_CAPACITY_LIMIT", 0.3))
    await link.poll()
    await link.vtn.post("events", bad)
    await link.poll()
    assert link.in_force[1] == 300.0
    assert [reason in each.reason for each in link.refusals.newest] == [True]
    assert [e for e in link.fleet.taken if isinstance(e, PutEvent)] == [
        e for e in link.fleet.taken if isinstance(e, PutEvent) and e.event.target_w(1.0) == 300.0
    ]


async def test_a_secret_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    section = section_of("http://localhost:1", tmp_path).openadr
    assert section is not None
    section.secret_file.unlink()
    with pytest.raises(UsageError, match=r"grid\.openadr\.secret_file: asked for the text of"):
        ven_settings(section, "s7")

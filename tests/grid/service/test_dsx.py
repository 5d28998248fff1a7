"""The link to a DSX broker: targets become a limit, whatever happens to link and service."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.fixtures.dsx import FEED, ISV, SITE, content_of, set_target, signer_of
from tests.fixtures.grid_fleet import GridFleet, Times
from tests.fixtures.mosquitto import Mosquitto, needs_mosquitto

from steppe.config import GridSection
from steppe.errors import UsageError
from steppe.grid.dsx.load_target import LoadTarget, load_target_content
from steppe.grid.dsx.seal import seal
from steppe.grid.dsx.topics import LOAD_TARGET, Publication, load_target_topic
from steppe.grid.links.mqtt import Broker, Connected, LinkEvent, Lost, Message, MqttLink
from steppe.grid.service.dsx_part import DsxPart
from steppe.grid.service.dsx_settings import DsxSettings, dsx_settings
from steppe.grid.service.links import links_of
from steppe.grid.service.refusals import NotedLimits, Refusals
from steppe.grid.service.seam import Heard

DEFAULT_W, LOST_S = 100_000.0, 300.0


def section_of(folder: Path, port: int = 1883, feeds: Any = None) -> GridSection:
    (folder / "isv.pem").write_text(ISV.public_key().pem)
    (folder / "site.pem").write_text(SITE.pem)
    feed = {"tag": FEED.tag, "minimum_w": 1e4, "maximum_w": 1.2e5, "default_w": DEFAULT_W}
    isv = {"id": "acme", "kid": ISV.kid, "public_key_file": folder / "isv.pem"}
    dsx = {
        "agent": "steppe",
        "broker": {"host": "127.0.0.1", "port": port},
        "kid": SITE.kid,
        "private_key_file": folder / "site.pem",
        "isvs": [isv],
        "feeds": feeds or [feed],
        "lost_s": LOST_S,
    }
    return GridSection.model_validate({"dsx": dsx})


class Link:
    """The link and its fleet, without a broker.

    Attributes:
        fleet: The fleet.
        part: The link.
        now_s: The clock of the site.
        refusals: What was refused.
    """

    def __init__(self, folder: Path, feeds: Any = None) -> None:
        section = section_of(folder, feeds=feeds)
        assert section.dsx is not None
        self.settings: DsxSettings = dsx_settings(section.dsx)
        self.now_s = Times()
        self.fleet = GridFleet(folder, links_of(section), self.now_s)
        self.refusals = Refusals(self.now_s)
        self.part = self.new_part()
        self.now_s.now_s += 1.0  # messages have a time after the start

    def new_part(self) -> DsxPart:
        noted = NotedLimits(self.fleet, self.refusals)
        return DsxPart(self.settings, noted, self.refusals, self.now_s)

    async def after(self, span_s: float, *events: LinkEvent) -> tuple[str, float]:
        """Let time pass, give the link these events, and return what is in force then."""
        self.now_s.now_s += span_s
        for event in events:
            self.part.take(event)
        await self.part.see(await self.fleet.view(0))
        found = self.fleet.limits.in_force()
        assert found is not None
        return found.name, found.watts

    def target(self, watts: float | None, **fields: Any) -> Message:
        sent = set_target(LoadTarget(watts, **fields), now_s=self.now_s())
        return Message(sent.topic, sent.payload)


@pytest.fixture
def link(tmp_path: Path) -> Link:
    return Link(tmp_path)


async def test_the_default_holds_until_a_target_comes(link: Link) -> None:
    assert await link.after(0) == ("dsx/default", DEFAULT_W)
    assert await link.after(1, Connected()) == ("dsx/site", DEFAULT_W)
    assert await link.after(1, link.target(60_000.0)) == ("dsx/site", 60_000.0)
    assert await link.after(1, link.target(110_000.0)) == ("dsx/site", 110_000.0)
    assert await link.after(1, link.target(None)) == ("dsx/site", DEFAULT_W)


async def test_a_target_holds_in_its_interval(link: Link) -> None:
    await link.after(0, Connected())
    now_s = link.now_s()
    sent = link.target(60_000.0, starts_s=now_s + 60, ends_s=now_s + 120)
    assert await link.after(1, sent) == ("dsx/site", DEFAULT_W)
    assert (await link.after(59))[1] == 60_000.0
    assert (await link.after(60))[1] == DEFAULT_W


async def test_a_lost_link_lifts_nothing_and_ends_a_target_above_the_default(link: Link) -> None:
    await link.after(0, Connected())
    assert (await link.after(1, link.target(110_000.0)))[1] == 110_000.0
    assert (await link.after(1, Lost("gone")))[1] == DEFAULT_W
    assert (await link.after(1, Connected()))[1] == DEFAULT_W
    assert (await link.after(1, link.target(60_000.0)))[1] == 60_000.0
    assert (await link.after(1, Lost("gone")))[1] == 60_000.0
    assert (await link.after(1, Connected()))[1] == 60_000.0
    assert (await link.after(LOST_S))[1] == DEFAULT_W


async def test_a_link_that_stays_lost_falls_to_the_default(link: Link) -> None:
    await link.after(0, Connected())
    await link.after(1, link.target(60_000.0))
    await link.after(1, Lost("gone"))
    assert await link.after(LOST_S + 1) == ("dsx/default", DEFAULT_W)


async def test_a_new_service_holds_a_low_target_until_it_is_repeated_or_too_old(
    link: Link,
) -> None:
    await link.after(0, Connected())
    await link.after(1, link.target(60_000.0))
    link.part = link.new_part()
    assert (await link.after(1))[1] == 60_000.0
    assert (await link.after(1, Connected()))[1] == 60_000.0
    assert (await link.after(LOST_S - 10))[1] == 60_000.0
    assert (await link.after(20))[1] == DEFAULT_W


async def test_a_new_service_does_not_go_on_with_a_target_above_the_default(link: Link) -> None:
    await link.after(0, Connected())
    await link.after(1, link.target(110_000.0))
    link.part = link.new_part()
    assert (await link.after(1, Connected()))[1] == DEFAULT_W
    assert (await link.after(1, link.target(110_000.0)))[1] == 110_000.0


async def test_after_the_controller_was_away_the_limit_is_repeated(link: Link) -> None:
    await link.after(0, Connected())
    await link.after(1, link.target(110_000.0))
    link.now_s.now_s += LOST_S + 1  # no sign of life has reached the limits
    found = link.fleet.limits.in_force()
    assert found is not None
    assert found.watts == DEFAULT_W
    assert (await link.after(1))[1] == 110_000.0


async def test_a_connection_without_news_is_a_sign_of_life_only(link: Link) -> None:
    await link.after(0, Connected())
    await link.after(1)
    await link.after(1)
    assert link.fleet.taken[1:] == [Heard("dsx"), Heard("dsx")]
    taken = len(link.fleet.taken)
    await link.after(1, Lost("gone"))
    await link.after(1)
    assert len(link.fleet.taken) == taken + 1


async def test_several_feeds_make_one_limit(tmp_path: Path) -> None:
    feeds = [
        {"tag": "a", "share": 0.5, "maximum_w": 6e4, "default_w": 5e4},
        {"tag": "b", "share": 0.5, "maximum_w": 6e4, "default_w": 4e4},
    ]
    link = Link(tmp_path, feeds)
    assert (await link.after(0, Connected()))[1] == 9e4
    assert (await link.after(1, link.target(1e4, feeds=("a",))))[1] == 5e4


def changed(link: Link, **fields: Any) -> Message:
    """Return a message of which the broker has changed something."""
    found = link.target(1.0)
    values = {**orjson.loads(found.payload), **fields}
    return Message(found.topic, orjson.dumps(values))


def stranger(now_s: float) -> Message:
    signer = replace(signer_of("isv", "acme"), kid="key-other")
    envelope = seal(signer, LOAD_TARGET, load_target_content(LoadTarget(1.0)), now_s)
    return Message(load_target_topic("acme"), envelope.to_bytes())


async def test_bad_messages_are_refused_with_a_reason_and_change_nothing(link: Link) -> None:
    await link.after(0, Connected())
    sent = link.target(60_000.0)
    await link.after(1, sent)
    now_s = link.now_s()
    signed = orjson.loads(sent.payload)["data"]
    head, body, signature = signed.split(".")
    bad = {
        "signature": changed(link, data=f"{head}.{body}.{signature[::-1]}"),
        "kid": stranger(now_s),
        "id as signed": changed(link, id="9c8e1b7e-58a1-4b5c-8f5d-0f5f6f3a2b11"),
        "end ahead": link.target(1.0, starts_s=now_s - 60, ends_s=now_s - 30),
        "load_constraint": link.target(2e12),
        "feed_tags": link.target(1.0, feeds=("nowhere",)),
    }
    for number, (reason, message) in enumerate(bad.items(), start=1):
        assert (await link.after(0.01, message))[1] == 60_000.0, reason
        assert len(link.refusals.newest) == number, reason
        assert reason in link.refusals.newest[-1].reason
    assert (await link.after(0.01, sent))[1] == 60_000.0  # delivered twice
    assert len(link.refusals.newest) == len(bad)
    assert (await link.after(400, sent))[1] == 60_000.0  # replayed after its window
    assert "asked for a message within 300 s" in link.refusals.newest[-1].reason


async def test_the_message_of_an_hour_ago_or_ahead_is_refused(link: Link) -> None:
    await link.after(0, Connected())
    for ahead_s in (-3600.0, 3600.0):
        sent = set_target(LoadTarget(1.0), now_s=link.now_s() + ahead_s)
        assert (await link.after(1, Message(sent.topic, sent.payload)))[1] == DEFAULT_W
    assert len(link.refusals.newest) == 2


def test_a_key_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    section = section_of(tmp_path)
    assert section.dsx is not None
    (tmp_path / "isv.pem").unlink()
    with pytest.raises(UsageError, match=r"grid\.dsx\.isvs\.0\.public_key_file: asked for the"):
        dsx_settings(section.dsx)


@needs_mosquitto
async def test_a_broker_carries_targets_and_the_status_of_the_site(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path)
    section = section_of(tmp_path, broker.port)
    assert section.dsx is not None
    fleet, refusals = GridFleet(tmp_path, links_of(section)), Refusals(time.time)
    part = DsxPart(dsx_settings(section.dsx), fleet, refusals)
    heard: list[Publication] = []
    connected = asyncio.Event()
    loop = asyncio.get_running_loop()

    def arrived(event: LinkEvent) -> None:
        if isinstance(event, Message):
            heard.append(Publication(event.topic, event.payload, 1))
        if isinstance(event, Connected):
            loop.call_soon_threadsafe(connected.set)

    topics = {"grid/v1/dsx-flex-agent/steppe/powerstate/status": 1}
    isv = MqttLink(Broker("127.0.0.1", broker.port, "isv"), topics, arrived)
    broker.start()
    try:
        isv.start()
        await asyncio.wait_for(connected.wait(), 20)
        await part.start()
        async with asyncio.timeout(20):
            while not part.shown["connected"]:
                await asyncio.sleep(0.01)
            await part.see(await fleet.view(0))
            sent = set_target(LoadTarget(60_000.0), now_s=time.time())
            isv.publish(sent.topic, sent.payload, sent.qos)
            while not _statuses(heard):
                await asyncio.sleep(0.01)
            await part.see(await fleet.view(0))
    finally:
        isv.stop()
        await part.stop()
        broker.stop()
    found = fleet.limits.in_force()
    assert found is not None
    assert (found.name, found.watts) == ("dsx/site", 60_000.0)
    assert not refusals.newest


def _statuses(heard: list[Publication]) -> list[dict[str, Any]]:
    """Return the statuses that answer a target."""
    contents = [content_of(each)[1] for each in heard]
    return [each for each in contents if each["feeds"][FEED.tag]["event"] == "target_set"]

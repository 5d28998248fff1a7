"""The link to a DSX Flex broker: signed targets become a limit, and the site reports its status."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal, assert_never

from steppe.grid.dsx.agent import Accepted, Enforced, FlexAgent, Refused
from steppe.grid.dsx.topics import Publication, enforcement_topic
from steppe.grid.limits.limit import Limit
from steppe.grid.links.mqtt import Connected, LinkError, LinkEvent, Lost, Message, MqttLink
from steppe.grid.service.dsx_limit import Before, held_site, site_limit
from steppe.grid.service.dsx_settings import DsxSettings
from steppe.grid.service.links import DSX, awaits_repetition
from steppe.grid.service.refusals import Refusals
from steppe.grid.service.seam import Change, FleetLimits, GridView, Heard, PutLimit

REFRESH_S = 3600.0
"""Time after which the limit is handed over again, so that it reaches as far ahead as before, s."""

_log = logging.getLogger(__name__)


class DsxPart:
    """Hands over what the targets of all feeds allow, and says what the site draws.

    A sign of life of the link is a connection with all its topics. After a loss the limit is handed
    over once more: the default, or a target below it for `lost_s`. An earlier process of this
    service counts as a loss, too.
    """

    name = DSX

    def __init__(
        self,
        settings: DsxSettings,
        limits: FleetLimits,
        refusals: Refusals,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        """Prepare.

        Args:
            settings: The site and its broker.
            limits: The limits of the fleet.
            refusals: Gets the messages that are refused.
            now_s: Reads the time, s since the Unix epoch.
        """
        self._settings, self._limits, self._refusals = settings, limits, refusals
        self._now_s = now_s
        self._started_s = now_s()
        self._agent = FlexAgent(
            settings.terms, settings.feeds, settings.keys, settings.signer, self._started_s
        )
        self._exact = {enforcement_topic(each) for each in settings.terms.infras}
        self._enforced = ""
        self._link: MqttLink | None = None
        self._is_connected, self._problem = False, "the broker has not answered yet"
        self._is_due, self._handed_s = False, 0.0
        self._limit: Limit | None = None
        self._before: Before | None = None
        self._has_seen = False
        self._loads_w: Mapping[str, float] | None = None
        self._published, self._status_s = 0, 0.0

    @property
    def shown(self) -> Mapping[str, Any]:
        """Where the broker is, what each feed may draw, and how many messages were sent."""
        broker, limits = self._settings.broker, self._agent.limits(self._now_s())
        return {
            "broker": f"{broker.host}:{broker.port}",
            "connected": self._is_connected,
            "problem": self._problem,
            "published": self._published,
            "enforced": self._enforced,
            "feeds": {
                tag: {
                    "limit_w": limit.watts,
                    "target": None if limit.held is None else limit.held.correlation_id,
                }
                for tag, limit in limits.items()
            },
        }

    async def start(self) -> None:
        """Connect, and come back whenever the connection is lost.

        Raises:
            UsageError: The broker is on another host without TLS, or a certificate cannot be read.
        """
        loop = asyncio.get_running_loop()

        def arrived(event: LinkEvent) -> None:
            loop.call_soon_threadsafe(self.take, event)

        topics = {each: 2 if each in self._exact else 1 for each in self._agent.topics}
        self._link = MqttLink(self._settings.broker, topics, arrived)
        self._link.start()

    def take(self, event: LinkEvent) -> None:
        """Take what the link has to say."""
        now_s = self._now_s()
        match event:
            case Connected():
                self._agent.connected(now_s)
                self._is_connected, self._is_due, self._problem = True, True, ""
                self._say(now_s, "periodic")
            case Lost(reason):
                if self._is_connected:
                    self._agent.lost(now_s)
                    self._is_connected, self._is_due = False, True
                if reason != self._problem:
                    _log.warning("DSX: %s", reason)
                self._problem = reason
            case Message(topic, payload):
                self._received(topic, payload, now_s)
            case _:
                assert_never(event)

    async def see(self, view: GridView) -> None:
        """Hand over the limit where it has changed, and publish what is due."""
        now_s = self._now_s()
        if not self._has_seen:
            self._limit, self._has_seen = held_site(view), True
            if self._limit is not None:
                until_s = self._started_s + self._settings.terms.lost_s
                self._before = Before(self._limit, until_s)
        if self._is_connected and awaits_repetition(view, DSX):
            self._is_due = True
        await self._hand_over(now_s)
        if view.draw_w is not None:
            self._loads_w = {
                tag: share * view.draw_w for tag, share in self._settings.shares.items()
            }
            self._step(self._loads_w, now_s)

    async def stop(self) -> None:
        """Disconnect."""
        if self._link is not None:
            await asyncio.to_thread(self._link.stop)
            self._link = None

    def _received(self, topic: str, payload: bytes, now_s: float) -> None:
        match self._agent.received(topic, payload, now_s):
            case Accepted():
                self._before, self._is_due = None, True
                self._say(now_s, "target_set")
            case Enforced(enforcement):
                self._enforced = enforcement.line
                _log.warning("DSX: %s", enforcement.line)
            case Refused(reason):
                self._refusals.note(DSX, reason)

    async def _hand_over(self, now_s: float) -> None:
        """Hand over what is due; what is refused, or not answered, is due again."""
        changes, self._is_due = self._changes(now_s), False
        if not changes:
            return
        is_taken = False
        try:
            is_taken = not any(await self._limits.take(changes))
        finally:
            self._is_due |= not is_taken

    def _changes(self, now_s: float) -> list[Change]:
        """Return the limit where it is due, or else a sign of life where the link is there."""
        is_old = self._is_connected and now_s - self._handed_s > REFRESH_S
        if not (self._is_due or is_old):
            return [Heard(DSX)] if self._is_connected else []
        if self._before is not None and now_s >= self._before.until_s:
            self._before = None
        limit = site_limit(self._agent.schedules, now_s, self._limit, self._before)
        self._limit, self._handed_s = limit, now_s
        return [PutLimit(limit)]

    def _step(self, loads_w: Mapping[str, float], now_s: float) -> None:
        for publication in self._agent.step(loads_w, now_s):
            self._publish(publication)
        if now_s - self._status_s >= self._settings.status_s:
            self._say(now_s, "periodic")

    def _say(self, now_s: float, trigger: Literal["target_set", "periodic"]) -> None:
        """Publish a status; nothing before the draw is known."""
        if self._loads_w is not None and self._is_connected:
            self._publish(self._agent.status(self._loads_w, now_s, trigger))
            self._status_s = now_s

    def _publish(self, publication: Publication) -> None:
        """Publish a message; without a link it is of no use later."""
        if self._link is None or not self._is_connected:
            return
        try:
            self._link.publish(publication.topic, publication.payload, publication.qos)
        except LinkError as error:
            self._problem = str(error)
        else:
            self._published += 1

"""A VEN: enrols the site at a server, gets events by poll and webhook, and sends reports."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from steppe.errors import ConfigError
from steppe.grid.openadr.client import (
    VtnClient,
    VtnError,
    VtnPlace,
    VtnRefusedError,
    first_fault,
    is_private,
)
from steppe.grid.openadr.inbox import Inbox, Standing
from steppe.grid.openadr.intervals import RefusedEventError
from steppe.grid.openadr.messages import (
    Event,
    Notification,
    Program,
    Resource,
    Subscription,
    Ven,
)
from steppe.grid.openadr.notifier import MqttTerms, Notices, Notifiers, Topics, broker_of
from steppe.grid.openadr.translation import AgreedTerms
from steppe.grid.openadr.webhook import Network, webhook

CALLBACK = "/openadr/events"
"""Path of the webhook."""

_LEAST_POLL_S = 0.5
"""Shortest time between two polls, s, however many notices come."""

M = TypeVar("M", bound=BaseModel)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Hook:
    """A webhook of the site.

    Attributes:
        url: URL at which the server reaches it, without the path; `{port}` stands for the port.
        host: Address that it listens on.
        port: Port that it listens on; 0 for a free one.
        allowed: Networks from which notifications may come; any if empty.
    """

    url: str
    host: str = "127.0.0.1"
    port: int = 0
    allowed: tuple[Network, ...] = ()

    def __post_init__(self) -> None:
        """Check that our token would not travel in the clear.

        Raises:
            ConfigError: The URL is not HTTPS and not on this host.
        """
        if not is_private(self.url):
            raise ConfigError(f"OpenADR webhook: asked for an https URL, found {self.url}")


@dataclass(frozen=True, slots=True)
class VenSettings:
    """A site at a server.

    Attributes:
        place: The server.
        name: Our name there, the same after each start.
        terms: What was agreed beside the messages.
        resources: Resources of the site that are enrolled.
        programs: Names of the programs whose events are followed; all that we may see if empty.
        poll_s: Time between two polls, s; a slow one stays beside a webhook.
        hook: Where the server may send changes at once; None for no webhook.
        mqtt: How the server's MQTT notifier is used; None not to use it.
    """

    place: VtnPlace
    name: str
    terms: AgreedTerms
    resources: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    poll_s: float = 30.0
    hook: Hook | None = None
    mqtt: MqttTerms | None = None


class OpenAdrVen:
    """Keeps what one server asks of the site; use it on one event loop.

    While the server does not answer, it is asked again at each poll, and `standing` falls back to
    the subscription.

    Attributes:
        problem: Why the last poll failed; empty if it did not.
        polls: How many polls have succeeded.
        notices: How many notifications were taken beside them.
        mqtt_notices: How many messages of the MQTT notifier made it ask.
        mqtt_problem: Why the MQTT notifier is not used; empty if it is, or is not wanted.
    """

    def __init__(
        self,
        settings: VenSettings,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; nothing is sent before `start` or `poll`.

        Args:
            settings: The site and its server.
            clock: Time, s since the Unix epoch.
            monotonic: Time that is never set, s.
        """
        self.problem = ""
        self.polls = self.notices = self.mqtt_notices = 0
        self.mqtt_problem = ""
        self._settings, self._clock, self._monotonic = settings, clock, monotonic
        self._client = VtnClient(settings.place, monotonic=monotonic)
        self._inbox = Inbox(settings.terms, settings.name)
        self._programs: dict[str, Program] = {}
        self._subscription = ""
        self._token = secrets.token_urlsafe(32)
        self._runner: web.AppRunner | None = None
        self._task: asyncio.Task[None] | None = None
        self._hook_url = ""
        self._polling = asyncio.Lock()
        self._changed = asyncio.Event()
        self._notices: Notices | None = None

    @property
    def refusals(self) -> tuple[str, ...]:
        """Why the newest events were refused, the oldest first."""
        return tuple(self._inbox.refusals)

    @property
    def events(self) -> tuple[Event, ...]:
        """The events that are followed."""
        return self._inbox.events

    def standing(self) -> Standing:
        """Return what holds now and later."""
        return self._inbox.standing(self._clock(), self._monotonic())

    async def open(self) -> None:
        """Open the webhook; nothing is sent before the first poll."""
        await self._client.__aenter__()
        if self._settings.hook is not None:
            await self._listen(self._settings.hook)

    async def start(self) -> None:
        """Open the webhook, and poll from now on."""
        await self.open()
        self._task = asyncio.create_task(self._serve())

    async def stop(self) -> None:
        """Stop polling and close the webhook; the enrolment stays."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._stop_notices()
        if self._runner is not None:
            await self._runner.cleanup()
        await self._client.__aexit__()

    async def report(self, body: Mapping[str, Any]) -> str:
        """Send a report, as `reports.report_of` makes it, and return its identity.

        Raises:
            VtnError: The server did not take it.
        """
        answer = await self._client.call("POST", "/reports", body)
        if not isinstance(answer, dict) or not isinstance(answer.get("id"), str):
            raise VtnError("POST /reports: the answer has no id")
        return str(answer["id"])

    async def poll(self) -> tuple[str, ...]:
        """Enrol and subscribe if that is due, and ask for all events once.

        Returns:
            Why events were refused; each reason once.

        Raises:
            VtnError: The server did not answer, or not in the way of the standard.
        """
        async with self._polling:
            return await self._poll()

    async def _poll(self) -> tuple[str, ...]:
        await self._enrol()
        began = self._inbox.poll_begins()
        found: list[Event] = []
        unread: dict[str, str] = {}
        for query in self._queries():
            for item in await self._client.all("/events", {"active": "true", **query}):
                try:
                    found.append(Event.model_validate(item))
                except ValidationError as error:
                    unread[item["id"]] = f"event {item['id'][:128]!r}: {first_fault(error)}"
        self._inbox.link_heard(self._monotonic())
        refused = self._inbox.polled(found, began, self._clock(), unread)
        self.polls += 1
        return refused

    async def _serve(self) -> None:
        while True:
            self._changed.clear()
            try:
                for why in await self.poll():
                    _log.warning("OpenADR: refused: %s", why)
                self.problem = ""
            except VtnError as error:
                if str(error) != self.problem:
                    _log.warning("OpenADR: %s", error)
                self.problem = str(error)
            await asyncio.sleep(min(_LEAST_POLL_S, self._settings.poll_s))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), self._settings.poll_s)

    def _queries(self) -> list[dict[str, str]]:
        if not self._settings.programs:
            return [{}]
        return [{"programID": each} for each in self._programs]

    async def _enrol(self) -> None:
        name = self._settings.name
        ven = await self._own("/vens", {"venName": name}, _ven_body(name), Ven)
        targets = set(ven.targets or ())
        for resource in self._settings.resources:
            body = {
                "objectType": "VEN_RESOURCE_REQUEST",
                "resourceName": resource,
                "venID": ven.id,
            }
            query = {"resourceName": resource, "venID": ven.id}
            targets |= set((await self._own("/resources", query, body, Resource)).targets or ())
        await self._learn(targets)
        if self._settings.hook is not None:
            await self._subscribe()
        if self._settings.mqtt is not None:
            await self._follow(ven.id, self._settings.mqtt)

    async def _follow(self, ven: str, terms: MqttTerms) -> None:
        """Listen to the MQTT notifier; what hinders that is a problem, but no poll fails by it."""
        try:
            await self._listen_to(ven, terms)
        except VtnError as error:
            if str(error) != self.mqtt_problem:
                _log.warning("OpenADR: the MQTT notifier is not used: %s", error)
            self.mqtt_problem = str(error)
            await self._stop_notices()

    async def _listen_to(self, ven: str, terms: MqttTerms) -> None:
        if self._notices is not None and self._notices.is_connected:
            self.mqtt_problem = ""
            return
        await self._stop_notices()
        binding = _read(Notifiers, await self._client.call("GET", "/notifiers"), "/notifiers").MQTT
        if binding is None:
            raise VtnError("/notifiers: asked for MQTT, found a webhook only")
        path = f"/notifiers/mqtt/topics/vens/{ven}/events"
        topics = _read(Topics, await self._client.call("GET", path), path).topics.names
        place, token = self._settings.place, await self._client.token()
        broker = broker_of(binding, place.client_id, token, f"steppe-{ven}", terms)
        loop = asyncio.get_running_loop()

        def changed() -> None:
            loop.call_soon_threadsafe(self._note_change)

        self._notices = notices = Notices(broker, topics, changed)
        notices.start()

    def _note_change(self) -> None:
        self.mqtt_notices += 1
        self._changed.set()

    async def _stop_notices(self) -> None:
        if self._notices is not None:
            await asyncio.to_thread(self._notices.stop)
            self._notices = None

    async def _own(
        self, path: str, query: Mapping[str, str], body: Mapping[str, Any], model: type[M]
    ) -> M:
        """Return our object of this name; make it if there is none."""
        field, name = next(iter(query.items()))
        for item in await self._client.all(path, query):
            if item.get(field) == name:
                return _read(model, item, path)
        try:
            return _read(model, await self._client.call("POST", path, body), path)
        except VtnRefusedError as error:
            if error.status == 409:
                raise VtnError(f"{path}: the name {name} belongs to another client") from error
            raise

    async def _learn(self, targets: set[str]) -> None:
        items = await self._client.all("/programs")
        programs = [_read(Program, item, "/programs") for item in items]
        wanted = self._settings.programs
        if wanted:
            programs = [each for each in programs if each.programName in wanted]
            missing = sorted(set(wanted) - {each.programName for each in programs})
            if missing:
                raise VtnError(f"/programs: there is no program {', '.join(missing)} for us")
        self._programs = {each.id: each for each in programs}
        ours = frozenset(self._programs) if wanted else None
        self._inbox.learn(programs, targets, ours)

    async def _subscribe(self) -> None:
        """Subscribe unless we are.

        The subscription of an earlier start is removed, for its token is lost. The new one names no
        targets: the server sends what we may see, with and without targets.
        """
        name = self._settings.name
        items = await self._client.all("/subscriptions")
        found = [_read(Subscription, item, "/subscriptions") for item in items]
        if self._subscription in {each.id for each in found}:
            return
        for old in found:
            if old.clientName == name:
                await self._client.call("DELETE", f"/subscriptions/{old.id}")
        body: dict[str, Any] = {
            "clientName": name,
            "objectOperations": [
                {
                    "objects": ["EVENT"],
                    "operations": ["CREATE", "UPDATE", "DELETE"],
                    "callbackUrl": self._hook_url,
                    "bearerToken": self._token,
                }
            ],
        }
        answer = await self._client.call("POST", "/subscriptions", body)
        self._subscription = _read(Subscription, answer, "/subscriptions").id

    async def _listen(self, hook: Hook) -> None:
        application = webhook(CALLBACK, self._token, self._notified, allowed=hook.allowed)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, hook.host, hook.port)
        await site.start()
        port = self._runner.addresses[0][1]
        self._hook_url = hook.url.replace("{port}", str(port)).rstrip("/") + CALLBACK

    def _notified(self, notification: Notification) -> None:
        if notification.objectType != "EVENT" or notification.operation == "READ":
            return
        try:
            event = Event.model_validate(notification.object)
        except ValidationError as error:
            raise RefusedEventError(f"the event: {first_fault(error)}") from error
        if notification.operation == "DELETE":
            self._inbox.drop(event, self._clock())
        else:
            self._inbox.take(event, self._clock())
        self.notices += 1


def _ven_body(name: str) -> dict[str, str]:
    return {"objectType": "VEN_VEN_REQUEST", "venName": name}


def _read(model: type[M], item: object, path: str) -> M:
    try:
        return model.model_validate(item)
    except ValidationError as error:
        raise VtnError(f"{path}: {first_fault(error)}") from error

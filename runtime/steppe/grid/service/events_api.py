"""`/steppe/v1/grid/events`: what the grid, a drill or an operator asks."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from steppe.grid.events.event import GridEvent, Share, Target, Watts
from steppe.grid.service.answers import NO_SAMPLES, change, json_answer, view_of
from steppe.grid.service.bodies import NewEvent, read, seconds
from steppe.grid.service.links import DRILL, HTTP
from steppe.grid.service.seam import Cancel, EventNow, FleetLimits, PutEvent
from steppe.grid.service.shown import shown_event
from steppe.services.api_error import ApiError, not_found

PROGRAM = "operator"
"""Programme of the events that an operator puts."""
_OWN = (HTTP, DRILL)


class EventsApi:
    """Takes events of an operator, cancels them and drills, and shows all that are held.

    The gateway lets only administrators change something.
    """

    def __init__(self, limits: FleetLimits, now_s: Callable[[], float]) -> None:
        """Use the limits of a fleet.

        Args:
            limits: The limits.
            now_s: Reads the time, s since the Unix epoch.
        """
        self._limits, self._now_s = limits, now_s

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        router.add_get("/steppe/v1/grid/events", self.show_all)
        router.add_get("/steppe/v1/grid/events/{id}", self.show)
        router.add_put("/steppe/v1/grid/events/{id}", self.put)
        router.add_delete("/steppe/v1/grid/events/{id}", self.cancel)

    async def show_all(self, _request: web.Request) -> web.Response:
        """Answer the events that are held."""
        view = await view_of(self._limits, NO_SAMPLES)
        return json_answer({"object": "list", "data": [shown_event(each) for each in view.events]})

    async def show(self, request: web.Request) -> web.Response:
        """Answer one of them."""
        id_ = request.match_info["id"]
        found = await self._held(id_)
        if not found:
            raise not_found("event", id_)
        return json_answer(shown_event(found[0]))

    async def put(self, request: web.Request) -> web.Response:
        """Accept an event, which replaces an older version of itself."""
        asked, now_s = await read(request, NewEvent), self._now_s()
        starts_s = now_s + asked.notice_s if asked.starts is None else seconds(asked.starts)
        event = GridEvent(
            id=request.match_info["id"],
            program=PROGRAM,
            priority=asked.priority,
            issued_s=now_s if asked.issued is None else seconds(asked.issued),
            starts_s=starts_s,
            ramp_down_s=asked.ramp_down_s,
            hold_until_s=starts_s + asked.ramp_down_s + asked.hold_s,
            ramp_up_s=asked.ramp_up_s,
            target=_target(asked),
            kind="setpoint" if asked.share is None else "relative",
            source=HTTP,
            settle_s=asked.settle_s,
        )
        await change(self._limits, PutEvent(event))
        return await self.show(request)

    async def cancel(self, request: web.Request) -> web.Response:
        """Cancel an event of an operator, or a drill: it ramps up from where it is."""
        id_ = request.match_info["id"]
        found = await self._held(id_)
        if not found:
            raise not_found("event", id_)
        own = [each.event for each in found if each.event.source in _OWN]
        if not own:
            link = found[0].event.source
            asked = "asked to cancel an event of an operator or a drill"
            raise ApiError(409, "other_link", f"event {id_}: {asked}, found one of link {link}")
        issued_s = max(self._now_s(), own[0].issued_s)
        await change(self._limits, Cancel(own[0].source, id_, issued_s))
        return json_answer({"object": "steppe.grid_event", "id": id_, "cancelled": True})

    async def _held(self, id_: str) -> list[EventNow]:
        """Return the events of an id, those of an operator first; links may have the same one."""
        view = await view_of(self._limits, NO_SAMPLES)
        found = [each for each in view.events if each.event.id == id_]
        return sorted(found, key=lambda each: each.event.source != HTTP)


def _target(asked: NewEvent) -> Target:
    if asked.share is not None:
        return Share(asked.share)
    assert asked.limit_w is not None, "the body has one of both"
    return Watts(asked.limit_w)

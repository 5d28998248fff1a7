"""`/steppe/v1/flexibility` and `/steppe/v1/grid/commitments`: what is offered, and promised."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated

from aiohttp import web
from pydantic import Field, model_validator

from steppe.config.section import NonNegative, Positive, Section
from steppe.errors import UsageError
from steppe.grid.offers.commitments import Commitment
from steppe.grid.offers.history import Window
from steppe.grid.offers.offer import Call
from steppe.grid.service.answers import NO_SAMPLES, json_answer, view_of
from steppe.grid.service.bodies import Moment, read, seconds
from steppe.grid.service.offers.offering import Offering
from steppe.grid.service.offers.promises import Promises
from steppe.grid.service.offers.shown import shown_commitment, shown_offer
from steppe.grid.service.seam import FleetLimits
from steppe.grid.service.shown import shown_source
from steppe.services.api_error import ApiError

MICROSECONDS = 1_000_000
REFUSED = "not_free"
"""Code of the error for a commitment whose watts are not free."""
_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,60}$")]
_Watts = Annotated[int, Field(ge=0, le=10**12)]


class NewCommitment(Section):
    """The body of `POST /steppe/v1/grid/commitments`."""

    id: _Name
    """Its id: the same commitment again changes nothing."""
    programme: _Name
    """What it is sold to."""
    starts: Moment = Field(alias="from")
    """When it begins."""
    until: Moment
    """When it ends."""
    down_w: _Watts = 0
    """By how much the draw falls if it is called, W."""
    up_w: _Watts = 0
    """By how much it rises, W."""
    hold_s: Positive | None = None
    """Longest time for which a call holds, s; absent: that of the first of `grid.offers.calls`."""
    notice_s: NonNegative | None = None
    """Time from a call to its start, s; absent: that of the first of `grid.offers.calls`."""

    @model_validator(mode="after")
    def _something(self) -> NewCommitment:
        if not self.down_w and not self.up_w:
            raise ValueError("asked for down_w or up_w above 0, found neither")
        if seconds(self.starts) >= seconds(self.until):
            raise ValueError("asked for until after from, found it before")
        return self


class OffersApi:
    """Shows offers and commitments, and makes commitments.

    The gateway lets only administrators make one.
    """

    def __init__(
        self,
        site: str,
        limits: FleetLimits,
        offering: Offering,
        promises: Promises,
        now_s: Callable[[], float],
    ) -> None:
        """Use the offers of a site.

        Args:
            site: Its name.
            limits: The limits of the fleet, which know what it could give now.
            offering: Makes offers.
            promises: Keeps commitments.
            now_s: Reads the time, s since the Unix epoch.
        """
        self._site, self._limits = site, limits
        self._offering, self._promises, self._now_s = offering, promises, now_s

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        router.add_get("/steppe/v1/flexibility", self.show)
        router.add_get("/steppe/v1/grid/commitments", self.list)
        router.add_post("/steppe/v1/grid/commitments", self.commit)

    async def show(self, _request: web.Request) -> web.Response:
        """Answer what could be given now, and what is offered."""
        view = await view_of(self._limits, NO_SAMPLES)
        promised = await asyncio.to_thread(self._promises.of, math.floor(view.at_s))
        to_come = [each for each in self._offering.offers if each.offer.from_s >= view.at_s]
        found = {
            "object": "steppe.flexibility",
            "site": self._site,
            "at": view.at_s,
            "draw_w": view.draw_w,
            "energy_source": view.energy_source,
            "sources": [shown_source(each) for each in view.sources],
            "history": self._offering.shown.get("history", ""),
            "offers": [shown_offer(each, promised) for each in to_come],
        }
        return json_answer(found)

    async def list(self, _request: web.Request) -> web.Response:
        """Answer the commitments whose watts are not free again."""
        now_s = math.floor(self._now_s())
        promised = await asyncio.to_thread(self._promises.of, now_s)
        return json_answer({"object": "list", "data": [shown_commitment(p) for p in promised]})

    async def commit(self, request: web.Request) -> web.Response:
        """Promise watts, if they are offered and not promised yet."""
        asked = await read(request, NewCommitment)
        new = Commitment(
            id=asked.id,
            programme=asked.programme,
            from_s=math.floor(seconds(asked.starts)),
            until_s=math.ceil(seconds(asked.until)),
            down_w=asked.down_w,
            up_w=asked.up_w,
            site=self._site,
        )
        for one in await asyncio.to_thread(self._promises.of, new.from_s):
            if one.is_same(new):
                return json_answer(shown_commitment(one))
        try:
            sold = await self._sell(new, self._call(asked, new))
        except UsageError as error:
            raise ApiError(409, REFUSED, str(error)) from error
        return json_answer(shown_commitment(sold), 201)

    async def _sell(self, new: Commitment, call: Call) -> Commitment:
        """Return a commitment that was kept, with the recovery and the id of its offer.

        Raises:
            UsageError: Its watts are not offered, or not free.
        """
        found = await self._offering.offer_for(Window(new.from_s, new.until_s), call)
        offer = found.offer
        sides = [(new.down_w, offer.down, found.down_reason), (new.up_w, offer.up, found.up_reason)]
        for watts, power, reason in sides:
            if watts and not power.watts:
                raise UsageError(f"asked for {watts} W, found none offered: {reason}")
        recovery_s = max(power.recovery_s for watts, power, _ in sides if watts)
        sold = replace(new, recovery_s=math.ceil(recovery_s), offer=offer.id)
        now_us = math.floor(self._now_s() * MICROSECONDS)
        await asyncio.to_thread(self._promises.commit, sold, offer, now_us)
        return sold

    def _call(self, asked: NewCommitment, new: Commitment) -> Call:
        """Return the calls that a commitment allows."""
        usual = self._offering.calls[0]
        hold_s = usual.hold_s if asked.hold_s is None else asked.hold_s
        notice_s = usual.notice_s if asked.notice_s is None else asked.notice_s
        return Call(notice_s, min(hold_s, new.until_s - new.from_s), usual.confidence)

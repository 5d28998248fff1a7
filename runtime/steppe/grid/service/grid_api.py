"""`/steppe/v1/grid` and `/steppe/v1/flexibility`: how the site stands with the grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiohttp import web

from steppe.grid.limits.limit import Link
from steppe.grid.service.answers import NO_SAMPLES, json_answer, view_of
from steppe.grid.service.part import Part
from steppe.grid.service.refusals import Refusals
from steppe.grid.service.seam import FleetLimits
from steppe.grid.service.shown import (
    Json,
    shown_event,
    shown_in_force,
    shown_link,
    shown_refusal,
    shown_source,
)
from steppe.grid.service.watch import Watch


class GridApi:
    """Shows links, what is in force, events and refusals, also while the controller is away."""

    def __init__(
        self,
        site: str,
        links: Sequence[Link],
        parts: Sequence[Part],
        refusals: Refusals,
        watch: Watch,
    ) -> None:
        """Show these.

        Args:
            site: Name of the site at the grid.
            links: The links.
            parts: The parts of the service.
            refusals: What was refused.
            watch: Sees the site once a second.
        """
        self._site, self._links = site, links
        self._refusals, self._watch = refusals, watch
        self._parts: Mapping[str, Part] = {part.name: part for part in parts}

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        router.add_get("/steppe/v1/grid", self.show)

    async def show(self, _request: web.Request) -> web.Response:
        """Answer links, what is in force, events and refusals."""
        view, problems = self._watch.view, self._watch.problems
        names = {link.name for link in self._links}
        parts: Json = {
            name: {"problem": problems.get(name, ""), **part.shown}
            for name, part in self._parts.items()
            if name not in names
        }
        links = [
            shown_link(link, view, self._parts.get(link.name), problems.get(link.name, ""))
            for link in self._links
        ]
        found = {
            "object": "steppe.grid",
            "site": self._site,
            "at": None if view is None else view.at_s,
            "away": self._watch.away,
            "in_force": None if view is None else shown_in_force(view.in_force),
            "budget_w": None if view is None else view.budget_w,
            "budget_source": "" if view is None else view.budget_source,
            "draw_w": None if view is None else view.draw_w,
            "links": links,
            "parts": parts,
            "events": [] if view is None else [shown_event(each) for each in view.events],
            "refused": [shown_refusal(each) for each in self._refusals.newest],
        }
        return json_answer(found)


class FlexibilityApi:
    """Shows by how many watts the draw could change."""

    def __init__(self, limits: FleetLimits) -> None:
        """Use the limits of a fleet."""
        self._limits = limits

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the route."""
        router.add_get("/steppe/v1/flexibility", self.show)

    async def show(self, _request: web.Request) -> web.Response:
        """Answer where flexibility comes from."""
        view = await view_of(self._limits, NO_SAMPLES)
        found = {
            "object": "steppe.flexibility",
            "at": view.at_s,
            "draw_w": view.draw_w,
            "sources": [shown_source(each) for each in view.sources],
        }
        return json_answer(found)

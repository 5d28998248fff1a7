"""The grid's door: the budget, events and flexibility of the site; the grid service answers.

Everybody with a key may look, as at the status of the fleet. What changes a limit or an event needs
the right to administrate.
"""

from __future__ import annotations

from aiohttp import web

from steppe.gateway.admin_api import AdminDoor
from steppe.gateway.answers import error_answer
from steppe.gateway.bodies import Bodies
from steppe.gateway.run_service import RunService, ServiceSilentError, service_tenant, unavailable

BUDGET, GRID, FLEXIBILITY = "/steppe/v1/budget", "/steppe/v1/grid", "/steppe/v1/flexibility"
"""Paths that belong to the grid service, with those below the second."""
ANSWER_S = 30.0
"""Longest time in which the service may send nothing of its answer, s."""
UNAVAILABLE = "grid_unavailable"
"""Code of the 503 without an answer of the service."""
_READS = ("GET", "HEAD")


class GridApi:
    """Forwards calls about the grid."""

    def __init__(
        self, door: AdminDoor, bodies: Bodies, service: RunService, *, is_configured: bool
    ) -> None:
        """Create it.

        Args:
            door: Lets in who may change something.
            bodies: Reads bodies.
            service: The grid service.
            is_configured: Whether the run has one.
        """
        self._door, self._bodies, self._service = door, bodies, service
        self._is_configured = is_configured

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        for path in (BUDGET, GRID, GRID + "/{tail:.+}", FLEXIBILITY):
            router.add_route("*", path, self.forward)

    async def forward(self, request: web.Request) -> web.StreamResponse:
        """Answer a call with what the service answers.

        Raises:
            DeniedError: It changes something, and the client may not administrate.
        """
        if not self._is_configured:
            what = f"{request.method} {request.path}: asked for the grid"
            message = f"{what}, found no section grid in the configuration of this run"
            code = "grid_not_configured"
            return error_answer(404, message, type_="invalid_request_error", code=code)
        tenant = service_tenant(request)
        body = b""
        if request.method not in _READS:
            self._door.require(request)
            body = await self._bodies.read(request)
        try:
            async with self._service.send(request, tenant, body, ANSWER_S) as answer:
                return await answer.relay(request)
        except ServiceSilentError as error:
            return unavailable(str(error), UNAVAILABLE)

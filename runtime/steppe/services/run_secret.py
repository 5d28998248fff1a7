"""The secret of a run at the door of a service."""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from steppe.engine.run_secret import HEADER, REFUSAL, knows


def only_with(secret: str) -> Middleware:
    """Return a middleware that answers only calls with the secret; an empty one lets all ask."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if knows(secret, request.headers.get(HEADER, "").encode()):
            return await handler(request)
        return web.Response(status=401, body=REFUSAL, content_type="application/json")

    return check

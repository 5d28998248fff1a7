"""The tenant of a call, which the gateway has found."""

from __future__ import annotations

from aiohttp import web

TENANT = "x-steppe-tenant"


def tenant_of(request: web.Request) -> str:
    """Return the tenant of a call."""
    return request.headers.get(TENANT, "default")

"""The HTTP endpoint for notices of changed events; calls without the token are refused."""

from __future__ import annotations

import hmac
import ipaddress
from collections import OrderedDict
from collections.abc import Callable, Sequence

from aiohttp import web
from pydantic import ValidationError

from steppe.grid.openadr.client import first_fault
from steppe.grid.openadr.intervals import RefusedEventError
from steppe.grid.openadr.messages import Notification

MOST_BYTES = 1 << 20
"""Longest notification that is read, bytes."""
_MOST_REMEMBERED = 1000

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def webhook(
    path: str,
    token: str,
    take: Callable[[Notification], None],
    *,
    allowed: Sequence[Network] = (),
    most_bytes: int = MOST_BYTES,
) -> web.Application:
    """Return an application that takes notifications at one path.

    Args:
        path: Path of the callback, such as `/openadr/events`.
        token: The token that the server was given with the subscription.
        take: Takes a notification; raises `RefusedEventError` if it is not followed.
        allowed: Networks from which notifications may come; any if empty.
        most_bytes: Longest body that is read, bytes.
    """
    door = _Door(token, take, allowed)
    application = web.Application(client_max_size=most_bytes)
    application.router.add_post(path, door.notify)
    return application


class _Door:
    def __init__(
        self, token: str, take: Callable[[Notification], None], allowed: Sequence[Network]
    ) -> None:
        assert len(token) >= 16, "a token is long enough that it is not guessed"
        self._bearer = f"Bearer {token}".encode()
        self._take, self._allowed = take, tuple(allowed)
        self._seen: OrderedDict[tuple[str, str, str], None] = OrderedDict()

    async def notify(self, request: web.Request) -> web.Response:
        """Check the sender, read the notification, and hand it on once."""
        if not self._is_allowed(request.remote):
            return _problem(403, "this address may not send notifications")
        given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(given, self._bearer):
            return _problem(401, "the bearer token is not the one of the subscription")
        if request.content_type != "application/json":
            return _problem(415, f"asked for application/json, found {request.content_type}")
        try:
            notification = Notification.model_validate_json(await request.read())
        except ValidationError as error:
            return _problem(400, first_fault(error))
        return self._hand_on(notification)

    def _hand_on(self, notification: Notification) -> web.Response:
        key = _key(notification)
        if key in self._seen:
            return web.json_response({"accepted": True, "repeated": True})
        try:
            self._take(notification)
        except RefusedEventError as error:
            return _problem(422, str(error))
        self._seen[key] = None
        if len(self._seen) > _MOST_REMEMBERED:
            self._seen.popitem(last=False)
        return web.json_response({"accepted": True})

    def _is_allowed(self, remote: str | None) -> bool:
        if not self._allowed:
            return True
        try:
            address = ipaddress.ip_address(remote or "")
        except ValueError:
            return False
        return any(address in network for network in self._allowed)


def _key(notification: Notification) -> tuple[str, str, str]:
    found = notification.object
    version = str(found.get("modificationDateTime", ""))
    return notification.operation, str(found.get("id", "")), version


def _problem(status: int, why: str) -> web.Response:
    return web.json_response(
        {"title": why, "status": status}, status=status, content_type="application/problem+json"
    )

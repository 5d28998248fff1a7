"""The secret of a run: the HTTP apps of its replicas answer only this run.

The driver makes it, and Ray carries it to the replicas, the gateways and the services. It stands in
no environment and on no command line. It is in files, in memory and closed to other users, only of
a run with a standby or with `ray.restart_gcs`. What can read the network between the nodes can read
it: see `SECURITY.md`.
"""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

HEADER = "X-Steppe-Run"
REFUSAL = json.dumps(
    {
        "error": {
            "message": "replicas answer their own run only; ask its gateway",
            "type": "invalid_request_error",
            "param": None,
            "code": "not_this_run",
        }
    }
).encode()
"""Body of the 401."""

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]


def new_secret() -> str:
    """Return the secret of a new run, 256 random bits."""
    return secrets.token_hex(32)


def secret_headers(secret: str) -> tuple[tuple[str, str], ...]:
    """Return the headers of a request to a replica; none without a secret."""
    return ((HEADER, secret),) if secret else ()


class RunSecretGate:
    """An ASGI app that passes on only what carries the secret of the run."""

    def __init__(self, app: AsgiApp, secret: str) -> None:
        """Wrap an app; an empty secret passes on everything."""
        self._app, self._secret = app, secret

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request or one web socket."""
        if scope["type"] == "lifespan" or knows(self._secret, _found(scope["headers"])):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            headers = [(b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            await send({"type": "http.response.body", "body": REFUSAL})


def knows(secret: str, found: bytes) -> bool:
    """Return whether the secret was found; takes the same time wherever they differ.

    An empty secret accepts everything.
    """
    return not secret or hmac.compare_digest(secret.encode(), found)


def _found(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    name = HEADER.lower().encode()
    return next((value for key, value in headers if key == name), b"")

"""The HTTP side of a VEN: a token, pages of objects, and what was refused as one line."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import aiohttp
from pydantic import ValidationError

from steppe.errors import ConfigError, SteppeError
from steppe.grid.openadr.messages import AccessToken, AuthServer

SCOPES = (
    "read_targets",
    "read_ven_objects",
    "write_reports",
    "write_subscriptions",
    "write_vens",
)
"""What a VEN may do at its server."""
PAGE = 50
"""Objects on a page; the most that the standard allows."""
_MOST_PAGES = 40
_MOST_READS = 3
_MOST_BYTES = 4 << 20
_TIMEOUT_S = 10.0
_RENEW_S = 30.0
_ANSWERED = (200, 201)

M = TypeVar("M", AuthServer, AccessToken)


class VtnError(SteppeError):
    """The server did not answer, or not in the way of the standard."""


class VtnRefusedError(VtnError):
    """The server answered with an error.

    Attributes:
        status: HTTP status.
    """

    def __init__(self, line: str, status: int) -> None:
        """Keep the line for people and the status."""
        super().__init__(line)
        self.status = status


@dataclass(frozen=True, slots=True)
class VtnPlace:
    """Where a server is, and the identity of the site there.

    Attributes:
        url: Base URL, such as `https://vtn.example/openadr3/3.1.0`.
        client_id: Our identity.
        client_secret: Our secret; never shown.
        token_url: Where tokens are had; what the server says at `/auth/server` if None.
        scopes: What we ask to be allowed.
    """

    url: str
    client_id: str
    client_secret: str
    token_url: str | None = None
    scopes: tuple[str, ...] = SCOPES

    def __post_init__(self) -> None:
        """Check that the secret would not travel in the clear.

        Raises:
            ConfigError: A URL is not HTTPS and not on this host.
        """
        for url in (self.url, self.token_url):
            if url is not None and not is_private(url):
                raise ConfigError(f"OpenADR: asked for an https URL, found {url}")

    def __repr__(self) -> str:
        """Show the place without its secret."""
        return f"VtnPlace(url={self.url!r}, client_id={self.client_id!r})"


def is_private(url: str) -> bool:
    """Return whether others on the network cannot read what is sent to a URL."""
    parts = urlsplit(url)
    if parts.scheme == "https":
        return bool(parts.hostname)
    if parts.scheme != "http" or not parts.hostname:
        return False
    if parts.hostname == "localhost":
        return True
    try:
        return ipaddress.ip_address(parts.hostname).is_loopback
    except ValueError:
        return False


class VtnClient:
    """Calls a server; use it as an async context.

    It follows no redirects, so that a token goes only to the server that it is for.
    """

    def __init__(self, place: VtnPlace, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Prepare; nothing is sent before the first call."""
        self._place, self._monotonic = place, monotonic
        self._token, self._token_ends_s = "", 0.0
        self._session: aiohttp.ClientSession | None = None
        self._renewing = asyncio.Lock()

    async def __aenter__(self) -> Self:
        """Open the connection pool."""
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S), trust_env=False
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connection pool."""
        if self._session is not None:
            await self._session.close()

    async def all(self, path: str, query: Mapping[str, str | list[str]] | None = None) -> list[Any]:
        """Return the objects of all pages of a list.

        Each page begins with the last object of the page before. If it does not, the list has
        changed meanwhile, and an object may have slipped through: it is read anew.

        Raises:
            VtnError: The server did not answer with pages of a list, or with too many.
        """
        for _ in range(_MOST_READS):
            found = await self._pages(path, query or {})
            if found is not None:
                return found
        raise VtnError(f"GET {path}: the list changed each of the {_MOST_READS} times it was read")

    async def _pages(self, path: str, query: Mapping[str, str | list[str]]) -> list[Any] | None:
        """Return the objects of all pages; None if the list changed meanwhile."""
        found: dict[str, Any] = {}
        last: str | None = None
        for number in range(_MOST_PAGES):
            paging = {"skip": str(number * (PAGE - 1)), "limit": str(PAGE)}
            items = await self.call("GET", path, query={**query, **paging})
            if not isinstance(items, list) or len(items) > PAGE:
                raise VtnError(f"GET {path}: asked for a list of at most {PAGE}, found another")
            for item in items:
                if not isinstance(item, dict) or not isinstance(item.get("id"), str):
                    raise VtnError(f"GET {path}: an item of the list has no id")
            if last is not None and (not items or items[0]["id"] != last):
                return None
            found |= {item["id"]: item for item in items}
            if len(items) < PAGE:
                return list(found.values())
            last = items[-1]["id"]
        raise VtnError(f"GET {path}: more than {_MOST_PAGES * (PAGE - 1)} objects")

    async def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str | list[str]] | None = None,
    ) -> Any:
        """Call the server and return what it answered.

        Raises:
            VtnRefusedError: It answered with an error.
            VtnError: It did not answer, or with something that is no JSON.
        """
        token = await self._fresh_token(None)
        url = self._place.url.rstrip("/") + path
        status, answer = await self._send(method, url, token, json_body=body, query=query)
        if status == 401:
            token = await self._fresh_token(token)
            status, answer = await self._send(method, url, token, json_body=body, query=query)
        if status not in _ANSWERED:
            raise _refusal(f"{method} {path}", status, answer)
        return answer

    async def token(self) -> str:
        """Return a token that holds now.

        Raises:
            VtnError: The server gives none.
        """
        return await self._fresh_token(None)

    async def _fresh_token(self, refused: str | None) -> str:
        async with self._renewing:
            is_due = self._monotonic() >= self._token_ends_s
            if not self._token or is_due or self._token == refused:
                await self._renew()
            return self._token

    async def _renew(self) -> None:
        form = {
            "grant_type": "client_credentials",
            "client_id": self._place.client_id,
            "client_secret": self._place.client_secret,
            "scope": " ".join(self._place.scopes),
        }
        began_s = self._monotonic()
        url = self._place.token_url or await self._token_url()
        status, answer = await self._send("POST", url, None, form=form)
        if status not in _ANSWERED:
            raise _refusal("the token", status, answer)
        token = _read(AccessToken, answer, "the token")
        if token.scope is not None:
            missing = sorted(set(self._place.scopes) - set(token.scope.split()))
            if missing:
                raise VtnError(f"the token does not allow {', '.join(missing)}")
        lasts_s = 3600.0 if token.expires_in is None else float(token.expires_in)
        self._token = token.access_token
        self._token_ends_s = began_s + lasts_s - min(_RENEW_S, lasts_s / 2)

    async def _token_url(self) -> str:
        url = self._place.url.rstrip("/")
        status, answer = await self._send("GET", url + "/auth/server", None)
        if status not in _ANSWERED:
            raise _refusal("GET /auth/server", status, answer)
        found = _read(AuthServer, answer, "GET /auth/server").tokenURL
        if urlsplit(found).hostname != urlsplit(url).hostname or not is_private(found):
            raise VtnError(
                f"GET /auth/server: the token is at {found[:200]}, not on the server's own host;"
                " name it as token_url if that is right"
            )
        return found

    async def _send(
        self,
        method: str,
        url: str,
        token: str | None,
        *,
        json_body: Mapping[str, Any] | None = None,
        form: Mapping[str, str] | None = None,
        query: Mapping[str, str | list[str]] | None = None,
    ) -> tuple[int, Any]:
        assert self._session is not None, "the client is used as an async context"
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        try:
            async with self._session.request(
                method,
                url,
                headers=headers,
                json=json_body,
                data=form,
                params=_pairs(query),
                allow_redirects=False,
            ) as response:
                raw = await _bounded(response, f"{method} {urlsplit(url).path}")
                return response.status, _decoded(raw, response.status, method, url)
        except (aiohttp.ClientError, TimeoutError) as error:
            why = str(error) or type(error).__name__
            raise VtnError(f"{method} {urlsplit(url).path}: no answer: {why}") from error


def _pairs(query: Mapping[str, str | list[str]] | None) -> list[tuple[str, str]]:
    found = []
    for name, value in (query or {}).items():
        values = value if isinstance(value, list) else [value]
        found += [(name, each) for each in values]
    return found


async def _bounded(response: aiohttp.ClientResponse, what: str) -> bytes:
    found = bytearray()
    async for chunk in response.content.iter_chunked(1 << 16):
        found += chunk
        if len(found) > _MOST_BYTES:
            raise VtnError(f"{what}: the answer is longer than {_MOST_BYTES} bytes")
    return bytes(found)


def _decoded(raw: bytes, status: int, method: str, url: str) -> Any:
    try:
        return json.loads(raw) if raw else None
    except (ValueError, RecursionError) as error:
        if status not in _ANSWERED:
            return None
        raise VtnError(f"{method} {urlsplit(url).path}: the answer is no JSON") from error


def _refusal(what: str, status: int, answer: Any) -> VtnRefusedError:
    problem = answer if isinstance(answer, dict) else {}
    names = ("detail", "error_description", "title", "error")
    why = next((str(problem[name])[:200] for name in names if problem.get(name)), "no reason")
    line = "".join(each if each.isprintable() else " " for each in why)
    return VtnRefusedError(f"{what}: {status}: {line}", status)


def _read(model: type[M], answer: Any, what: str) -> M:
    try:
        return model.model_validate(answer)
    except ValidationError as error:
        raise VtnError(f"{what}: {first_fault(error)}") from error


def first_fault(error: ValidationError) -> str:
    """Return the first fault of a message as one line."""
    fault = error.errors()[0]
    place = ".".join(str(each) for each in fault["loc"]) or "the message"
    return f"{place}: {fault['msg']}"

"""One streamed chat completion against any OpenAI-compatible server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import aiohttp
import orjson

from steppe.errors import UsageError
from steppe.load.arrivals import DEFAULT_TENANT
from steppe.load.stream import ChatStream, Completed, Failed, RequestRefused

TENANT_HEADER = "x-steppe-tenant"
_CONNECT_S = 10.0


@dataclass(frozen=True, slots=True)
class ServerTarget:
    """A server and a model that it serves.

    Attributes:
        url: Address of the server, with or without `/v1`.
        model: The name it serves the model by.
        headers: Headers that every request needs, such as a key.
    """

    url: str
    model: str
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def route(self, path: str) -> str:
        """Return the full address of a route under `/v1`."""
        return route(self.url, path)


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """Sampling that every request shares.

    Attributes:
        temperature: 0 is greedy.
        seed: Sampling seed.
        ignore_eos: Generate exactly `max_tokens` tokens. An extension of vLLM's and SGLang's;
            other servers may refuse the key.
    """

    temperature: float = 0.0
    seed: int = 0
    ignore_eos: bool = True

    def body(self, model: str, prompt: str, output_tokens: int) -> bytes:
        """Return the JSON body of a streamed chat completion."""
        fields: dict[str, object] = {
            "model": model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": output_tokens,
            "temperature": self.temperature,
            "seed": self.seed,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if self.ignore_eos:
            fields["ignore_eos"] = True
        return orjson.dumps(fields)


def route(url: str, path: str) -> str:
    """Return the address of a route under `/v1` of a server."""
    return f"{url.rstrip('/').removesuffix('/v1')}/v1/{path}"


def open_session(max_connections: int, request_timeout_s: float) -> aiohttp.ClientSession:
    """Open a session that uses a new connection for each request.

    A kept connection would save 0.1 ms on one host, but a request fails whenever the server
    closes it first.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=max_connections, force_close=True),
        timeout=aiohttp.ClientTimeout(total=request_timeout_s, sock_connect=_CONNECT_S),
    )


async def stream_chat(
    session: aiohttp.ClientSession,
    target: ServerTarget,
    body: bytes,
    now_s: Callable[[], float],
    stream: ChatStream,
    *,
    tenant: str = DEFAULT_TENANT,
) -> Completed | RequestRefused | Failed:
    """Send one request and read its stream to the end; server and network errors are values.

    Args:
        session: An open session.
        target: The server and model.
        body: The request, JSON.
        now_s: Returns the time, s.
        stream: Parses the answer; the caller may look there how much of it has arrived.
        tenant: The tenant that sends it, in a header of Steppe's gateway; none for the default one.
    """
    headers = {"Content-Type": "application/json", **dict(target.headers)}
    if tenant != DEFAULT_TENANT:
        headers[TENANT_HEADER] = tenant
    try:
        async with session.post(
            target.route("chat/completions"), data=body, headers=headers
        ) as response:
            if response.status != HTTPStatus.OK:
                return await _refusal(response)
            async for data in response.content.iter_any():
                stream.feed(data, now_s())
            return stream.end()
    except TimeoutError:
        return Failed("timed out")
    except (aiohttp.ClientError, OSError) as error:
        return Failed(f"{type(error).__name__}: {error}")


async def served_models(url: str) -> tuple[str, ...]:
    """Return the names of the models that a server offers.

    Raises:
        UsageError: The server cannot be reached, or does not answer as an OpenAI server does.
    """
    return tuple(await model_limits(url))


async def model_limits(
    url: str, headers: tuple[tuple[str, str], ...] = ()
) -> dict[str, int | None]:
    """Return the models that a server offers, each with the longest request that it takes, tokens.

    vLLM and SGLang report it as `max_model_len`; None where a server does not.

    Raises:
        UsageError: The server cannot be reached, or does not answer as an OpenAI server does.
    """
    address = route(url, "models")
    try:
        async with (
            open_session(1, _CONNECT_S) as session,
            session.get(address, headers=dict(headers)) as response,
        ):
            status, text = response.status, await response.read()
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise UsageError(f"{address}: asked for a server, found: {_reason(error)}") from error
    if status != HTTPStatus.OK:
        raise UsageError(f"{address}: asked for the models, found status {status}")
    try:
        return {str(card["id"]): _limit_of(card) for card in orjson.loads(text)["data"]}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{address}: asked for a list of models, found {text[:60]!r}") from error


def _limit_of(card: dict[str, Any]) -> int | None:
    limit = card.get("max_model_len")
    return limit if isinstance(limit, int) and limit > 0 else None


def _reason(error: Exception) -> str:
    match error:
        case aiohttp.ClientConnectorError(os_error=OSError(strerror=str(reason))):
            return reason
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
            return "no address such as http://127.0.0.1:8000"
        case TimeoutError():
            return "no answer in time"
        case _:
            return str(error)


async def _refusal(response: aiohttp.ClientResponse) -> RequestRefused | Failed:
    if response.status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        await response.read()
        return RequestRefused(response.status, _retry_after_s(response.headers.get("Retry-After")))
    text = " ".join((await response.text(errors="replace")).split())
    return Failed(f"status {response.status}: {text[:200]}", 400 <= response.status < 500)


def _retry_after_s(header: str | None) -> float | None:
    """Return the delay that a `Retry-After` names; its date form is not read (RFC 9110, 10.2.3)."""
    if header is None or not header.strip().isdecimal():
        return None
    return float(header)

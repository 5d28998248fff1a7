"""Answers with their energy: `usage.energy`, held back until the meters have been read."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from typing import Any

import orjson
from aiohttp import web

from steppe.gateway.client_stream import ClientStream, StreamTimes
from steppe.gateway.ended_requests import RequestEnergy
from steppe.gateway.held_tail import HeldTail, with_energy
from steppe.gateway.replica_client import ProxyRequest
from steppe.gateway.request import FinishedRequest
from steppe.gateway.request_energy import ENERGY_HEADER, JOULES_HEADER, EnergyBook

REPLICA_HEADER = "X-Steppe-Replica"
"""Header of a whole answer with its energy: the last replica that had its request."""
WAIT_HEADER = "X-Steppe-Energy-Wait"
"""Header of a whole answer with its energy: how long it was held for that, s. A client that keeps
a number of requests open can leave out those that only wait for their energy."""

_USAGE_STREAMS = re.compile(r"/v1/(?:chat/)?completions")
"""Streams whose last event has the usage only if `stream_options` asks for it."""


def asks_by_header(request: web.Request) -> bool:
    """Return whether a client asks for energy with the header `x-steppe-energy: true`."""
    return request.headers.get(ENERGY_HEADER, "").lower() in ("true", "1")


def for_engine(proxied: ProxyRequest, path: str) -> ProxyRequest:
    """Return a request with energy as an engine takes it.

    It does not know `include_energy`. A stream also asks for its usage, which the energy goes into.
    """
    try:
        body = orjson.loads(proxied.body)
    except orjson.JSONDecodeError:
        return proxied
    if not isinstance(body, dict):
        return proxied
    found = body.get("stream_options")
    options = dict(found) if isinstance(found, dict) else {}
    options.pop("include_energy", None)
    if body.get("stream") is True and _USAGE_STREAMS.fullmatch(path):
        options["include_usage"] = True
    if options == found:
        return proxied
    changed = {key: value for key, value in body.items() if key != "stream_options"}
    if options:
        changed["stream_options"] = options
    return replace(proxied, body=orjson.dumps(changed))


class EnergyAnswers:
    """Completes answers with the energy of their requests."""

    def __init__(self, book: EnergyBook, wait_s: float, write_timeout_s: float) -> None:
        """Create it.

        Args:
            book: Gets the energy of requests.
            wait_s: Longest time that the end of an answer waits for its energy, s.
            write_timeout_s: A client that reads nothing for this long is disconnected, s.
        """
        self._book, self._wait_s, self._write_timeout_s = book, wait_s, write_timeout_s

    async def complete(
        self,
        request: web.Request,
        answer: web.StreamResponse,
        finished: FinishedRequest,
        tail: HeldTail,
    ) -> web.StreamResponse:
        """Return an answer with the energy of its request, which has just ended.

        Args:
            request: The client's request.
            answer: A whole answer, or a stream whose end is in `tail`.
            finished: What happened to it.
            tail: What the stream has held back.
        """
        begun_s = time.monotonic()
        is_ours = finished.status < 400 and not finished.site  # that site has put its own in
        energy = await self._book.wait(finished, self._wait_s) if is_ours else None
        waited_s = time.monotonic() - begun_s
        shown = None if energy is None else energy.shown()
        if isinstance(answer, web.Response):
            if finished.replica is not None:
                answer.headers[REPLICA_HEADER] = finished.replica
            answer.headers[WAIT_HEADER] = f"{waited_s:.3f}"
            return _whole(answer, energy)
        try:
            times = StreamTimes(self._write_timeout_s)
            with ClientStream(request, times, response=answer) as client:
                await client.write(tail.release(shown, _usage(finished)))
                await client.end()
        except ConnectionResetError:
            pass  # the client has left; its request is complete
        return answer


def _whole(answer: web.Response, energy: RequestEnergy | None) -> web.Response:
    if energy is None:
        return answer
    answer.headers[JOULES_HEADER] = f"{energy.energy_j:.6g}"
    body = answer.body
    if isinstance(body, bytes) and "Content-Encoding" not in answer.headers:
        answer.body = with_energy(body, energy.shown()) or body
    return answer


def _usage(request: FinishedRequest) -> dict[str, Any]:
    """Return the last event of a stream whose engine has sent no usage, without the energy."""
    prompt, output = request.prompt_tokens or 0, request.output_tokens or 0
    return {
        "id": request.id,
        "object": "chat.completion.chunk",
        "created": int(request.arrival_epoch_s),
        "model": request.adapter or request.model,
        "choices": [],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": output,
            "total_tokens": prompt + output,
        },
    }

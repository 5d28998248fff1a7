"""The request id of the gateway, inside the id that vLLM makes of it."""

from __future__ import annotations

import re
from typing import Any

# The gateway sends 32 hexadecimal digits of its own as X-Request-Id; clients have no part in them.
# vLLM puts the route before them, and after them what tells the parts of one request apart:
# "chatcmpl-ID-1a2b3c4d", "cmpl-ID-0-1a2b3c4d" (of the first prompt), "2_chatcmpl-ID-1a2b3c4d" (the
# third of n samples), "chatcmpl-ID_0-1a2b3c4d" (the first chat of a batch), "resp_ID_0-1a2b3c4d",
# "chatcmpl-ID-1a2b3c4d5e6f7a8b-beam-3-1a2b3c4d", "embd-ID-prompt-0-chunk-1-1a2b3c4d".
_GATEWAY_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")


def outer_request_id(engine_id: str) -> str:
    """Return the gateway's id of a request, from the id that vLLM made of it.

    An id that does not contain one, as of a request that bypassed the gateway, is returned
    unchanged.
    """
    found = _GATEWAY_ID.search(engine_id)
    return found.group() if found else engine_id


def name_responses(state: Any) -> None:
    """Make `/v1/responses` use X-Request-Id; vLLM only takes the id from the body.

    Args:
        state: State of vLLM's app; a model that does not generate text has no such route.
    """
    serving = getattr(state, "openai_serving_responses", None)
    if serving is None:
        return
    create = serving.create_responses

    async def create_named(request: Any, raw_request: Any = None) -> Any:
        outer = raw_request.headers.get("X-Request-Id") if raw_request is not None else None
        if outer is not None:
            request.request_id = f"resp_{outer}"
        return await create(request, raw_request)

    serving.create_responses = create_named

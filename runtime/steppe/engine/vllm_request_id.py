"""The request id that the gateway gave, inside the id that vLLM 0.32 makes of it."""

from __future__ import annotations

import re

# "chatcmpl-ID-1a2b3c4d", "cmpl-ID-0-1a2b3c4d" (0: the first prompt of the request), and
# "2_chatcmpl-ID-1a2b3c4d" for the third of n samples.
_CHAT_ID = re.compile(r"(?:\d+_)?chatcmpl-(.+)-[0-9a-f]{8}")
_COMPLETION_ID = re.compile(r"(?:\d+_)?cmpl-(.+)-\d+-[0-9a-f]{8}")


def outer_request_id(engine_id: str) -> str:
    """Return the id that came in as X-Request-Id, from the id that vLLM made of it.

    An id of another shape (of another route) is returned as it is.
    """
    found = _CHAT_ID.fullmatch(engine_id) or _COMPLETION_ID.fullmatch(engine_id)
    return found.group(1) if found else engine_id

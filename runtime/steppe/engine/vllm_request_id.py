"""The request id of the gateway, inside the id that vLLM 0.32 makes of it."""

from __future__ import annotations

import re
from typing import Any

# "chatcmpl-ID-1a2b3c4d", "cmpl-ID-0-1a2b3c4d" (0: the first prompt of the request), and
# "2_chatcmpl-ID-1a2b3c4d" for the third of n samples. A response has "resp_ID_0-1a2b3c4d" (0: its
# first turn; each tool that the server calls begins another). Each step of a beam search makes a
# request for each beam, as "chatcmpl-ID-1a2b3c4d5e6f7a8b-beam-3-1a2b3c4d"; a text that is too
# long to embed has "embd-ID-prompt-0-chunk-1-1a2b3c4d".
_TAIL = r"(?:-[0-9a-f]{16}-beam-\d+)?-[0-9a-f]{8}"
_WHOLE_ID = re.compile(rf"(?:\d+_)?(?:chatcmpl|generate-tokens|decision)-(.+?){_TAIL}")
_PROMPT_ID = re.compile(
    r"(?:\d+_)?(?:cmpl|embd|score|classify|pooling|generative-scoring)-(.+?)"
    rf"(?:-prompt-\d+-chunk)?-\d+{_TAIL}"
)
_RESPONSE_ID = re.compile(r"resp_(.+)_\d+-[0-9a-f]{8}")


def outer_request_id(engine_id: str) -> str:
    """Return the X-Request-Id of a request, from the id that vLLM made of it.

    An id of another form (of another route) is returned unchanged.
    """
    for shape in (_WHOLE_ID, _PROMPT_ID, _RESPONSE_ID):
        if found := shape.fullmatch(engine_id):
            return found.group(1)
    return engine_id


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

"""Making a message: sign the content, and put the envelope around it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import orjson

from steppe.grid.dsx.envelope import Envelope, next_trace, time_of
from steppe.grid.dsx.jws import Signer


def seal(
    signer: Signer,
    kind: str,
    content: Mapping[str, Any],
    now_s: float,
    *,
    correlation_id: str | None = None,
    parent: str | None = None,
) -> Envelope:
    """Return a signed message.

    Args:
        signer: The key and the source that sends it.
        kind: Its type, such as `grid.powerstate.status.v1`.
        content: What it says.
        now_s: Time, s since the Unix epoch.
        correlation_id: The message or the command that it belongs to.
        parent: Trace context of its cause.
    """
    bound = {"id": str(uuid4()), "source": signer.source, "type": kind, "time": time_of(now_s)}
    return Envelope(
        **bound,
        subject=kind.split(".")[1],
        traceparent=next_trace(parent),
        data=signer.sign(orjson.dumps(content), bound),
        correlation_id=correlation_id,
    )

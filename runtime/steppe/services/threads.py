"""Calls that block, in threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

_Asked = ParamSpec("_Asked")
_Result = TypeVar("_Result")


async def in_thread(
    call: Callable[_Asked, _Result], *args: _Asked.args, **kwargs: _Asked.kwargs
) -> _Result:
    """Return what a call returns that blocks; a cancellation waits until the call has ended.

    So what the call uses may be closed afterwards.
    """
    running = asyncio.ensure_future(asyncio.to_thread(call, *args, **kwargs))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        running.exception()  # the caller is gone, so its error is as well
        raise

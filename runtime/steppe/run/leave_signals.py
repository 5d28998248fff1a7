"""How a long command is told to leave: by Ctrl-C, by SIGTERM, or by a terminal that closes."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], None]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def leaving_on_signals() -> Generator[None]:
    """Let a signal end the block with its cleanup; once, so that it can finish."""

    def leave(number: int, _frame: FrameType | None) -> None:
        handle(_stay)
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    before = handle(leave)
    try:
        yield
    finally:
        restore(before)


@contextmanager
def staying() -> Generator[None]:
    """Let no signal end the block."""
    before = handle(_stay)
    try:
        yield
    finally:
        restore(before)


def handle(handler: Handler) -> dict[int, Any]:
    """Have a function called for each of the signals, and return what was there before it."""
    return {number: signal.signal(number, handler) for number in _SIGNALS if _is_heard(number)}


def restore(before: dict[int, Any]) -> None:
    """Put back what `handle` returned."""
    for number, handler in before.items():
        signal.signal(number, handler)


def _is_heard(number: int) -> bool:
    """Tell whether a signal concerns us: under `nohup`, a terminal that closes does not."""
    return number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN


def _stay(_number: int, _frame: FrameType | None) -> None:
    """Go on; unlike SIG_IGN, this is not left to the processes that a cleanup starts."""

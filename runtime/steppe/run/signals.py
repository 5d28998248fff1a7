"""Let Ctrl-C, SIGTERM and a closed terminal end a long command with its cleanup."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], None]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def exiting_on_signals() -> Generator[None]:
    """Let the first signal raise KeyboardInterrupt or SystemExit in the block; ignore later ones.

    The cleanup of the block can therefore finish.
    """

    def leave(number: int, _frame: FrameType | None) -> None:
        set_handler(_ignore)
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    before = set_handler(leave)
    try:
        yield
    finally:
        restore_handlers(before)


@contextmanager
def ignoring_signals() -> Generator[None]:
    """Ignore the signals inside the block."""
    before = set_handler(_ignore)
    try:
        yield
    finally:
        restore_handlers(before)


def set_handler(handler: Handler) -> dict[int, Any]:
    """Call a function on each of the signals, and return the handlers that it replaces."""
    return {number: signal.signal(number, handler) for number in _SIGNALS if _is_handled(number)}


def restore_handlers(before: dict[int, Any]) -> None:
    """Set the handlers that `set_handler` returned."""
    for number, handler in before.items():
        signal.signal(number, handler)


def _is_handled(number: int) -> bool:
    """Whether a signal ends the command; under `nohup`, SIGHUP does not."""
    return number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Do nothing; unlike SIG_IGN, child processes do not inherit it."""

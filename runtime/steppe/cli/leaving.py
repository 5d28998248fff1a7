"""How a long command is told to leave."""

from __future__ import annotations

import signal
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def leaving_on_sigterm() -> Generator[None]:
    """Let SIGTERM end the block with its cleanup, as Ctrl-C does; once, so that it can finish."""

    def leave(number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

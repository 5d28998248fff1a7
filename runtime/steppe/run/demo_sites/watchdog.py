"""A small process that ends the sites of a demo whose own process was killed.

The demo holds the write end of a pipe, and says over it which processes it has started, and at its
normal end that it is done. If the pipe ends without that, they are ended as by Ctrl-C, and then
each cleans up after itself.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from types import TracebackType
from typing import IO, Self

from steppe.errors import SteppeError
from steppe.fleet.orphan_processes import Process, process_of

_DONE = b"done\n"


class Watchdog:
    """The demo's side: starts the process, and says what there is to end; a context manager."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "steppe.run.demo_sites.watchdog"],
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in a terminal is not for it
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._say(_DONE)
        assert self._process is not None, "the block has begun"
        assert self._process.stdin is not None, "its input is a pipe"
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.wait()

    def watch(self, number: int) -> None:
        """End a process if this one is killed; its id is that of a child."""
        process = process_of(number)
        self._say(f"{process.number} {process.started_ticks}\n".encode())

    def _say(self, line: bytes) -> None:
        if self._process is None or self._process.stdin is None:
            raise SteppeError("asked for a watchdog, found none: its block has not begun")
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line)
            self._process.stdin.flush()


def end_when_lost(facts: IO[bytes]) -> list[int]:
    """Wait for the end of a demo; end what it has left, and return the ids of that.

    Args:
        facts: The pipe from it.
    """
    watched: list[Process] = []
    for line in facts:
        if line == _DONE:
            return []
        number, ticks = line.split()
        watched.append(Process(int(number), int(ticks)))
    left = [process.number for process in watched if process.is_alive]
    for each in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, signal.SIGTERM)
    return left


def main() -> None:
    """Watch the demo whose pipe is the standard input."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    end_when_lost(sys.stdin.buffer)


if __name__ == "__main__":
    main()

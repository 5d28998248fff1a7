"""How signals reach the agent: as bytes on a socket, and through the parent it starts under."""

from __future__ import annotations

import os
import signal
import socket as sockets
from collections.abc import Generator
from contextlib import contextmanager

_POLL_S = 1.0


@contextmanager
def stop_signals() -> Generator[sockets.socket]:
    """Make what tells the agent to stop arrive as a byte on the socket."""
    ours, theirs = sockets.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        before_fd = signal.set_wakeup_fd(theirs.fileno())
        handlers = {number: signal.signal(number, lambda *_: None) for number in _stops()}
        try:
            yield ours
        finally:
            signal.set_wakeup_fd(before_fd)
            for number, handler in handlers.items():
                signal.signal(number, handler)


def stand_apart() -> None:
    """Go on in a child; this process hands signals down and ends with it, or with its starter.

    Ray kills the children of an actor that it ends by force, at once and with SIGKILL, but not
    their children: who is to undo the limits of the dead must not die with them.
    """
    starter_pid = os.getppid()
    signals = {signal.SIGCHLD} | _stops()
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
        return
    while os.getppid() == starter_pid:
        found = signal.sigtimedwait(signals, _POLL_S)
        if found is not None and found.si_signo == signal.SIGCHLD:
            _, status = os.waitpid(child, 0)
            os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
        elif found is not None:
            os.kill(child, signal.SIGTERM)
    os._exit(0)


def _stops() -> set[signal.Signals]:
    """Return the signals that say stop; under `nohup`, a terminal that closes does not."""
    stops = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    is_nohup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return stops - {signal.SIGHUP} if is_nohup else stops

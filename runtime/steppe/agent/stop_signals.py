"""How signals reach the agent: as bytes on a socket, and through its parent process."""

from __future__ import annotations

import os
import signal
import socket as sockets
from collections.abc import Generator
from contextlib import contextmanager

_POLL_S = 1.0


@contextmanager
def stop_signals() -> Generator[sockets.socket]:
    """Deliver stop signals as bytes on the returned socket."""
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


def detach_from_parent() -> None:
    """Continue in a child; this process passes signals on, and ends with it or with its starter.

    Ray sends SIGKILL to the children of an actor that it ends by force, but not to their
    children. The process that undoes the limits must survive that, so it is a grandchild.
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
    """Return the stop signals; under `nohup`, SIGHUP is not one of them."""
    stops = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    is_nohup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return stops - {signal.SIGHUP} if is_nohup else stops

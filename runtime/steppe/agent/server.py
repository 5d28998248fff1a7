"""The agent: one small privileged process per host that owns every limit setter.

Clients talk to it over a unix socket (`messages`). It serves processes of its own user and of
root, and further users where the site allows them. One client at a time holds the lease; when
that client is gone, the loss policy decides (`lease`). What the agent sets it writes down first
(`lease_file`), so that a restarted agent first undoes what its predecessor left.

Told to stop (SIGTERM, SIGINT, or a terminal that closes), it undoes everything and leaves.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import selectors
import socket as sockets
import struct
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from steppe.agent.host_limits import HostLimits, undo_lease
from steppe.agent.lease_file import owned_lease_file
from steppe.agent.lease_server import LeaseServer, Peer, tell
from steppe.agent.loss_policy import LossPolicy, parse_loss
from steppe.agent.messages import LONGEST_LINE, RefusedAnswer, decode_request, encode_answer
from steppe.agent.stop_signals import stand_apart, stop_signals
from steppe.device.nvml import open_gpus
from steppe.errors import AgentError, SteppeError

_CREDENTIALS = struct.Struct("3i")
_LONGEST_SLEEP_S = 1.0

STOP_S = 5.0
"""Told to stop, the agent tries so long to undo what a GPU does not let go, s."""
STAY_S = 60.0
"""One that leaves with its holder tries so long, s."""
COME_BACK_S = 1.0
"""A holder whose call timed out hangs up, and calls again within this time, s."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """Who may come, and how long the agent stays.

    Attributes:
        allowed_uids: Users beside the agent's own and root.
        exit_with_holder: Leave when the holder of the lease is gone, and what was to be done
            then is done; or when the process that started the agent is gone before anybody
            took the lease.
    """

    allowed_uids: frozenset[int] = frozenset()
    exit_with_holder: bool = False


DEFAULT_OPTIONS = AgentOptions()


def run_agent(
    socket: Path,
    lease_file: Path,
    loss: LossPolicy,
    lease_s: float,
    options: AgentOptions = DEFAULT_OPTIONS,
) -> None:
    """Be the agent of this host until told to stop; call it from the main thread.

    Args:
        socket: Where to listen.
        lease_file: Where to write down what is set; best in a folder that a reboot empties.
        loss: What to do when the holder of the lease is gone.
        lease_s: Longest time without a word from the holder, s.
        options: Who may come, and how long to stay.

    Raises:
        AgentError: The socket cannot be opened, another agent owns the lease file, or a GPU did
            not let go of its limits to the end.
        BackendUnavailableError: There is no driver.
    """
    starter_pid = os.getppid()
    with owned_lease_file(lease_file) as file, stop_signals() as stop:
        desk = LeaseServer(HostLimits(open_gpus(), file), loss, lease_s)
        desk.free(time.monotonic())  # what a predecessor left
        with _listening(socket, options) as listener:
            server = _Server(listener, stop, desk, options)
            try:
                server.run(starter_pid)
            except BaseException:
                _undo(desk)
                raise
        if desk.left:
            raise AgentError(f"{lease_file}: limits are left as they are: {tell(desk.left)}")


def _undo(desk: LeaseServer) -> None:
    """Undo everything, again and again where a GPU refuses; serve nobody meanwhile."""
    desk.free(time.monotonic())
    while not desk.is_settled(now_s := time.monotonic(), STOP_S):
        time.sleep(min(max(0.0, desk.wake_s - now_s), _LONGEST_SLEEP_S))
        desk.pass_time(time.monotonic())


@dataclass(slots=True)
class _Connection:
    socket: sockets.socket
    peer: Peer
    unread: bytearray = field(default_factory=bytearray)


class _Server:
    """Moves lines between sockets and the desk, in one thread."""

    def __init__(
        self,
        listener: sockets.socket,
        stop: sockets.socket,
        desk: LeaseServer,
        options: AgentOptions,
    ) -> None:
        self._listener = listener
        self._stop = stop
        self._desk = desk
        self._options = options
        self._accepted = 0
        self._done_s = math.inf
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ)
        self._selector.register(stop, selectors.EVENT_READ)

    def run(self, starter_pid: int) -> None:
        """Serve until told to stop, or until the holder is gone where the options say so.

        Told to stop, everything is undone; a floor that a lost holder left behind stays.
        """
        while True:
            now_s = time.monotonic()
            is_over = self._is_over(starter_pid, now_s)
            sleep_s = min(max(0.0, self._desk.wake_s - now_s), _LONGEST_SLEEP_S)
            events = self._selector.select(0.0 if is_over else sleep_s)
            if is_over and not events:
                return
            for key, _ in events:
                if key.fileobj is self._stop:
                    _undo(self._desk)
                    return
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    self._read(key.data)
            # After reading: a beat that waited while we were held up still counts.
            self._desk.pass_time(time.monotonic())

    def _is_over(self, starter_pid: int, now_s: float) -> bool:
        """Tell whether the holder is gone, and has been for long enough not to come back."""
        is_left = self._desk.was_left or os.getppid() != starter_pid
        is_done = is_left and self._desk.is_settled(now_s, STAY_S)
        self._done_s = min(self._done_s, now_s) if is_done else math.inf
        return self._options.exit_with_holder and now_s >= self._done_s + COME_BACK_S

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError as error:
            _log.warning("nobody is let in: %s", error)
            return
        connection.setblocking(False)
        size = _CREDENTIALS.size
        raw = connection.getsockopt(sockets.SOL_SOCKET, sockets.SO_PEERCRED, size)
        pid, uid, _ = _CREDENTIALS.unpack(raw)
        self._accepted += 1
        if uid not in {0, os.geteuid()} | self._options.allowed_uids:
            _log.warning("process %d of user %d is turned away", pid, uid)
            refusal = RefusedAnswer("AgentError", f"user {uid} may not use this agent")
            with connection, suppress(OSError):  # it may have hung up already
                connection.send(encode_answer(refusal))
            return
        data = _Connection(connection, Peer(self._accepted, pid))
        self._selector.register(connection, selectors.EVENT_READ, data)

    def _read(self, connection: _Connection) -> None:
        try:
            received = connection.socket.recv(LONGEST_LINE)
            connection.unread += received
            if not received or len(connection.unread) > LONGEST_LINE:
                self._close(connection)
                return
            while (end := connection.unread.find(b"\n")) >= 0:
                line = bytes(connection.unread[:end])
                del connection.unread[: end + 1]
                connection.socket.sendall(self._answer(line, connection.peer))
        except (BlockingIOError, ConnectionError):
            # Whoever does not read its answers is not waited for.
            self._close(connection)

    def _answer(self, line: bytes, peer: Peer) -> bytes:
        try:
            request = decode_request(line)
        except AgentError as error:
            return encode_answer(RefusedAnswer("AgentError", str(error)))
        return encode_answer(self._desk.answer(request, peer, time.monotonic()))

    def _close(self, connection: _Connection) -> None:
        self._selector.unregister(connection.socket)
        connection.socket.close()
        self._desk.leave(connection.peer, time.monotonic())


@contextmanager
def _listening(path: Path, options: AgentOptions) -> Generator[sockets.socket]:
    """Listen on a unix socket; one whose agent is dead is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as caller:
        if caller.connect_ex(os.fspath(path)) == 0:
            raise AgentError(f"{path}: another agent listens there")
    path.unlink(missing_ok=True)
    with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as listener:
        try:
            listener.bind(os.fspath(path))
        except OSError as error:
            raise AgentError(f"{path}: cannot listen: {error}") from error
        try:
            path.chmod(0o666 if options.allowed_uids else 0o600)
            listener.listen()
            yield listener
        finally:
            path.unlink(missing_ok=True)


def main() -> None:
    """Run the agent, or undo what a dead one left."""
    parser = argparse.ArgumentParser(
        prog="python -m steppe.agent.server",
        description="Own the limits of this host's GPUs, and undo them when their holder is gone.",
        epilog="example: python -m steppe.agent.server --socket /run/steppe/agent.sock "
        "--lease-file /run/steppe/lease.json --loss hold=30s,floor=210MHz",
    )
    parser.add_argument("--socket", type=Path, default=Path("/run/steppe/agent.sock"))
    parser.add_argument("--lease-file", type=Path, default=Path("/run/steppe/lease.json"))
    parser.add_argument("--loss", default="restore", help="restore, floor=200W, hold=30s,floor=...")
    parser.add_argument("--lease-s", type=float, default=2.0, help="longest silence of the holder")
    parser.add_argument("--allow-uid", type=int, action="append", default=[], metavar="UID")
    parser.add_argument("--exit-with-holder", action="store_true")
    parser.add_argument("--undo", action="store_true", help="undo the lease file and leave")
    args = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    try:
        if args.undo:
            left = undo_lease(args.lease_file)
            parser.exit(bool(left), "".join(f"not undone: {limits}\n" for limits in left))
        options = AgentOptions(frozenset(args.allow_uid), args.exit_with_holder)
        if args.exit_with_holder:
            stand_apart()
        run_agent(args.socket, args.lease_file, parse_loss(args.loss), args.lease_s, options)
    except SteppeError as error:
        sys.exit(f"{error}")


if __name__ == "__main__":
    main()

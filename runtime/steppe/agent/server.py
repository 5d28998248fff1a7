"""The agent: one small privileged process per host that owns every limit setter.

Clients connect over a unix socket (`messages`). The agent serves processes of its own user and of
root, and of further users if the site allows them. Each client holds a lease on some GPUs. When a
client is lost, the loss policy applies to these (`loss_policy`). The agent records each limit on
disk before it sets it (`lease_file`), so a restarted agent first undoes what its predecessor left.

On SIGTERM, SIGINT, or the hangup of its terminal, it undoes everything and exits.
"""

from __future__ import annotations

import argparse
import grp
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

from steppe.agent.baseline import AS_FOUND, Baseline
from steppe.agent.host_limits import HostLimits, undo_lease
from steppe.agent.journal_lines import log_to_stderr
from steppe.agent.lease import Peer
from steppe.agent.lease_file import owned_lease_file
from steppe.agent.lease_server import LeaseServer, describe_faults
from steppe.agent.loss_policy import LossPolicy, parse_loss
from steppe.agent.messages import (
    LONGEST_LINE,
    Pulse,
    RefusedAnswer,
    decode_request,
    encode_answer,
)
from steppe.agent.metrics import MetricsFile
from steppe.agent.priority import raise_this_thread
from steppe.agent.stop_signals import detach_from_parent, stop_signals
from steppe.device.nvml import open_gpus
from steppe.errors import AgentError, SteppeError, UsageError

_CREDENTIALS = struct.Struct("3i")
_SO_PEERGROUPS = 59  # Linux 4.13, not in Python's `socket`
_MOST_GROUPS = 256  # Python reads 1 KiB of an option at most
_LONGEST_SLEEP_S = 1.0

STOP_S = 5.0
"""After a stop signal: longest time to retry limits that a GPU refuses to undo, s."""
STAY_S = 60.0
"""After the loss of the holder, with `exit_with_holder`: longest time to retry them, s."""
COME_BACK_S = 1.0
"""A holder whose call timed out reconnects within this time, s."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """Which users may connect, what GPUs return to, and how long the agent runs.

    Attributes:
        allowed_uids: Users beside the agent's own and root.
        socket_group: Group whose members may connect, too; it owns the socket.
        baseline: What GPUs return to when their limits are undone.
        metrics_file: Where metrics go, for node_exporter's textfile collector; None: nowhere.
        exit_with_holder: Exit when every holder is gone and the loss policy has been applied, or
            when the process that started the agent ends before any client takes a lease.
    """

    allowed_uids: frozenset[int] = frozenset()
    socket_group: int | None = None
    baseline: Baseline = AS_FOUND
    metrics_file: Path | None = None
    exit_with_holder: bool = False


DEFAULT_OPTIONS = AgentOptions()


def run_agent(
    socket: Path,
    lease_file: Path,
    loss: LossPolicy,
    lease_s: float,
    options: AgentOptions = DEFAULT_OPTIONS,
) -> None:
    """Run the agent of this host until a stop signal; call it from the main thread.

    Args:
        socket: Where to listen.
        lease_file: Records the limits that are set; best in a folder that a reboot empties.
        loss: What to do when the holder of the lease is lost.
        lease_s: Longest time without a message from the holder, s.
        options: Which users may connect, and how long to run.

    Raises:
        AgentError: The socket cannot be opened, another agent owns the lease file, or limits
            of a GPU could not be undone.
        BackendUnavailableError: There is no driver.
    """
    starter_pid = os.getppid()
    with owned_lease_file(lease_file) as file, stop_signals() as stop:
        leases = LeaseServer(HostLimits(open_gpus(), file, options.baseline), loss, lease_s)
        leases.free(time.monotonic())  # what a predecessor left
        with _listening(socket, options) as listener:
            server = _Server(listener, stop, leases, options)
            _log.info("ready, with %s priority", raise_this_thread())
            try:
                server.run(starter_pid)
            except BaseException:
                _undo(leases)
                raise
            finally:
                server.close()
        if leases.left:
            raise AgentError(
                f"{lease_file}: limits could not be undone: {describe_faults(leases.left)}"
            )


def _undo(leases: LeaseServer) -> None:
    """Undo everything, with retries where a GPU refuses; no client is served meanwhile."""
    leases.free(time.monotonic())
    while not leases.is_settled(now_s := time.monotonic(), STOP_S):
        time.sleep(min(max(0.0, leases.wake_s - now_s), _LONGEST_SLEEP_S))
        leases.pass_time(time.monotonic())


@dataclass(slots=True)
class _Connection:
    socket: sockets.socket
    peer: Peer
    unread: bytearray = field(default_factory=bytearray)


class _Server:
    """Passes messages between the sockets and the lease server, in one thread."""

    def __init__(
        self,
        listener: sockets.socket,
        stop: sockets.socket,
        leases: LeaseServer,
        options: AgentOptions,
    ) -> None:
        self._listener = listener
        self._stop = stop
        self._leases = leases
        self._options = options
        self._accepted = 0
        self._done_s = math.inf
        path = options.metrics_file
        self._metrics = None if path is None else MetricsFile(path, leases.counts)
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ)
        self._selector.register(stop, selectors.EVENT_READ)

    def run(self, starter_pid: int) -> None:
        """Serve until a stop signal, or, with `exit_with_holder`, until the holder is gone.

        A stop signal undoes everything. A floor after a lost holder stays.
        """
        while True:
            now_s = time.monotonic()
            is_over = self._is_over(starter_pid, now_s)
            sleep_s = min(max(0.0, self._leases.wake_s - now_s), _LONGEST_SLEEP_S)
            events = self._selector.select(0.0 if is_over else sleep_s)
            if is_over and not events:
                return
            for key, _ in events:
                if key.fileobj is self._stop:
                    _undo(self._leases)
                    return
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    self._read(key.data)
            # After reading, so that a heartbeat that arrived during a delay still counts.
            self._leases.pass_time(now_s := time.monotonic())
            if self._metrics is not None and now_s >= self._metrics.due_s:
                self._metrics.write_if_due(self._leases.status(now_s), now_s)

    def close(self) -> None:
        """Close the connections, and remove the file with the metrics."""
        for key in tuple(self._selector.get_map().values()):
            if isinstance(key.data, _Connection):
                key.data.socket.close()
        self._selector.close()
        if self._metrics is not None:
            self._metrics.remove()

    def _is_over(self, starter_pid: int, now_s: float) -> bool:
        """Whether the holder is gone, for longer than a reconnection takes."""
        is_left = self._leases.holder_left or os.getppid() != starter_pid
        is_done = is_left and self._leases.is_settled(now_s, STAY_S)
        self._done_s = min(self._done_s, now_s) if is_done else math.inf
        return self._options.exit_with_holder and now_s >= self._done_s + COME_BACK_S

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError as error:
            _log.warning("a connection could not be accepted: %s", error)
            return
        connection.setblocking(False)
        size = _CREDENTIALS.size
        raw = connection.getsockopt(sockets.SOL_SOCKET, sockets.SO_PEERCRED, size)
        pid, uid, _ = _CREDENTIALS.unpack(raw)
        self._accepted += 1
        if not self._may_connect(connection, uid):
            _log.warning("refused the connection of process %d of user %d", pid, uid)
            refusal = RefusedAnswer("AgentError", f"user {uid} may not use this agent")
            with connection, suppress(OSError):  # it may have disconnected already
                connection.send(encode_answer(refusal))
            return
        data = _Connection(connection, Peer(self._accepted, pid))
        self._selector.register(connection, selectors.EVENT_READ, data)

    def _may_connect(self, connection: sockets.socket, uid: int) -> bool:
        group = self._options.socket_group
        if uid in {0, os.geteuid()} | self._options.allowed_uids:
            return True
        return group is not None and group in _groups_of(connection)

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
            # A client that does not read its answers must not block the others.
            self._close(connection)

    def _answer(self, line: bytes, peer: Peer) -> bytes:
        try:
            request = decode_request(line)
        except AgentError as error:
            return encode_answer(RefusedAnswer("AgentError", str(error)))
        answer = self._leases.answer(request, peer, time.monotonic())
        return b"" if isinstance(request, Pulse) else encode_answer(answer)

    def _close(self, connection: _Connection) -> None:
        self._selector.unregister(connection.socket)
        connection.socket.close()
        self._leases.disconnect(connection.peer, time.monotonic())


def _socket_mode(options: AgentOptions) -> int:
    """Return the mode of the socket; the agent itself checks each user that this lets in."""
    if options.allowed_uids:
        return 0o666
    return 0o600 if options.socket_group is None else 0o660


def _groups_of(connection: sockets.socket) -> frozenset[int]:
    """Return the groups of the process at the other end; of very many only the primary one."""
    size = _CREDENTIALS.size
    raw = connection.getsockopt(sockets.SOL_SOCKET, sockets.SO_PEERCRED, size)
    primary: int = _CREDENTIALS.unpack(raw)[2]
    more = b""
    with suppress(OSError):
        more = connection.getsockopt(sockets.SOL_SOCKET, _SO_PEERGROUPS, 4 * _MOST_GROUPS)
    return frozenset((primary, *struct.unpack(f"{len(more) // 4}I", more)))


@contextmanager
def _listening(path: Path, options: AgentOptions) -> Generator[sockets.socket]:
    """Listen on a unix socket; replace the socket of an agent that has died."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as caller:
        if caller.connect_ex(os.fspath(path)) == 0:
            raise AgentError(f"{path}: another agent listens on this socket")
    path.unlink(missing_ok=True)
    with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as listener:
        try:
            listener.bind(os.fspath(path))
        except OSError as error:
            raise AgentError(f"{path}: cannot listen: {error}") from error
        try:
            if options.socket_group is not None:
                os.chown(path, -1, options.socket_group)
            path.chmod(_socket_mode(options))
            listener.listen()
            yield listener
        finally:
            path.unlink(missing_ok=True)


def main() -> None:
    """Run the agent, or undo the limits that a dead agent left."""
    parser = argument_parser()
    args = parser.parse_args()
    log_to_stderr()
    baseline = Baseline(args.baseline_clock_mhz, args.baseline_power_limit_w)
    try:
        if args.undo:
            left = undo_lease(args.lease_file, baseline)
            parser.exit(bool(left), "".join(f"not undone: {limits}\n" for limits in left))
        options = AgentOptions(
            allowed_uids=frozenset(args.allow_uid),
            socket_group=None if args.socket_group is None else group_id(args.socket_group),
            baseline=baseline,
            metrics_file=args.metrics_file,
            exit_with_holder=args.exit_with_holder,
        )
        if args.exit_with_holder:
            detach_from_parent()
        run_agent(args.socket, args.lease_file, parse_loss(args.loss), args.lease_s, options)
    except SteppeError as error:
        sys.exit(f"{error}")


def argument_parser() -> argparse.ArgumentParser:
    """Return the parser of the options of `python -m steppe.agent.server`."""
    parser = argparse.ArgumentParser(
        prog="python -m steppe.agent.server",
        description="Set the limits of this host's GPUs, and undo them when their holder is gone.",
        epilog="example: python -m steppe.agent.server --socket /run/steppe/agent.sock "
        "--lease-file /run/steppe/lease.json --loss restore",
    )
    parser.add_argument("--socket", type=Path, default=Path("/run/steppe/agent.sock"))
    parser.add_argument("--lease-file", type=Path, default=Path("/run/steppe/lease.json"))
    parser.add_argument("--loss", default="restore", help="restore, floor=200W, hold=30s,floor=...")
    parser.add_argument(
        "--lease-s", type=float, default=2.0, help="longest time without a message from a holder"
    )
    parser.add_argument("--allow-uid", type=int, action="append", default=[], metavar="UID")
    parser.add_argument("--socket-group", help="group whose members may connect")
    parser.add_argument(
        "--baseline-clock-mhz", type=int, help="SM clock limit to return to; none if absent"
    )
    parser.add_argument(
        "--baseline-power-limit-w",
        type=float,
        help="board power limit to return to; the one that was found if absent",
    )
    parser.add_argument(
        "--metrics-file", type=Path, help="file for node_exporter's textfile collector, *.prom"
    )
    parser.add_argument("--exit-with-holder", action="store_true")
    parser.add_argument(
        "--undo", action="store_true", help="undo the limits in the lease file and exit"
    )
    return parser


def group_id(name: str) -> int:
    """Return the number of a group.

    Raises:
        UsageError: There is no such group.
    """
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError as error:
        raise UsageError(f"--socket-group: asked for {name}, found no such group") from error


if __name__ == "__main__":
    main()

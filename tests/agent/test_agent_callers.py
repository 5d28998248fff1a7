"""Who calls the agent, seen from inside of it."""

from __future__ import annotations

import errno
import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from steppe.agent import server as agent_module
from steppe.agent.connection import AgentConnection
from steppe.agent.host_limits import HostLimits
from steppe.agent.lease_server import LeaseServer
from steppe.agent.loss_policy import Restore
from steppe.agent.messages import AskStatus
from steppe.agent.server import DEFAULT_OPTIONS, AgentOptions
from steppe.errors import AgentError


class Strangers:
    """Stands for the credentials that the kernel tells: everybody is another user."""

    size = 12

    def unpack(self, _: bytes) -> tuple[int, int, int]:
        return 1, 65534, 65534


class FullHouse:
    """A listener whose first caller cannot be let in."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener, self._is_full = listener, True

    def fileno(self) -> int:
        return self._listener.fileno()

    def accept(self) -> Any:
        if self._is_full:
            self._is_full = False
            raise OSError(errno.EMFILE, "too many open files")
        return self._listener.accept()


class Door:
    """A door that the agent stands behind once it is opened."""

    def __init__(self, path: Path, host_limits: HostLimits) -> None:
        self.path = path
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        self._stop, self._theirs = socket.socketpair()
        self._desk = LeaseServer(host_limits, Restore(), 1.0)
        self._thread = threading.Thread(target=lambda: None)

    def open(self, listener: Any, options: AgentOptions = DEFAULT_OPTIONS) -> None:
        server = agent_module._Server(listener, self._theirs, self._desk, options)
        self._server = server
        self._thread = threading.Thread(target=server.run, args=(os.getppid(),), daemon=True)
        self._thread.start()

    def call(self) -> socket.socket:
        caller = socket.socket(socket.AF_UNIX)
        caller.settimeout(5.0)
        caller.connect(str(self.path))
        return caller

    def close(self) -> None:
        self._stop.send(b"x")
        self._thread.join()
        self._server.close()
        for end in (self.listener, self._stop, self._theirs):
            end.close()


@pytest.fixture
def door(
    tmp_path: Path, host_limits: HostLimits, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Door]:
    monkeypatch.setattr(agent_module, "_CREDENTIALS", Strangers())
    made = Door(tmp_path / "agent.sock", host_limits)
    yield made
    made.close()


def test_a_stranger_who_hangs_up_before_being_turned_away_harms_nobody(door: Door) -> None:
    door.call().close()
    door.open(door.listener)
    with door.call() as next_one:
        assert b"user 65534 may not use this agent" in next_one.recv(4096)


def test_a_caller_who_cannot_be_let_in_keeps_nobody_else_out(door: Door) -> None:
    door.open(FullHouse(door.listener))
    with door.call() as caller:
        assert b"may not use" in caller.recv(4096)


def test_a_client_that_speaks_only_after_it_was_turned_away_still_hears_why(door: Door) -> None:
    door.open(door.listener)
    with AgentConnection(door.path) as line, door.call() as next_one:
        next_one.recv(4096)  # callers are answered in turn
        with pytest.raises(AgentError, match="user 65534 may not use this agent"):
            line.ask(AskStatus())


@pytest.mark.parametrize("more", [(), (4321,)])
def test_a_member_of_the_group_of_the_socket_may_connect(
    door: Door, monkeypatch: pytest.MonkeyPatch, more: tuple[int, ...]
) -> None:
    if more:  # as a supplementary group
        monkeypatch.setattr(agent_module, "_groups_of", lambda _: frozenset(more))
    door.open(door.listener, AgentOptions(socket_group=more[0] if more else 65534))
    with AgentConnection(door.path) as line:
        assert line.ask(AskStatus()) is not None


def test_the_groups_of_a_caller_are_those_of_its_process() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert agent_module._groups_of(ours) == {os.getegid(), *os.getgroups()}


@pytest.mark.parametrize(
    ("options", "mode"),
    [
        (AgentOptions(), 0o600),
        (AgentOptions(socket_group=os.getegid()), 0o660),
        (AgentOptions(allowed_uids=frozenset({1})), 0o666),
    ],
)
def test_the_socket_lets_in_those_who_may_connect(
    tmp_path: Path, options: AgentOptions, mode: int
) -> None:
    with agent_module._listening(tmp_path / "agent.sock", options):
        found = (tmp_path / "agent.sock").stat()
        assert stat.S_IMODE(found.st_mode) == mode
        assert options.socket_group in (None, found.st_gid)

"""The client of an agent, on a line that is only played."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from steppe.agent import client
from steppe.agent.client import AgentClient
from steppe.agent.messages import Accepted, Answer, Done, Heartbeat, RaiseThread, Request, TakeLease
from steppe.agent.priority import Priority
from steppe.errors import AgentError

GRANTED_S = 0.04


class Line:
    """Grants a short lease, whatever is asked for, and notes the beats."""

    def __init__(self) -> None:
        self.is_open = True
        self.beats, self.pulses = threading.Semaphore(0), threading.Semaphore(0)
        self.threads: list[int] = []

    def ask(self, request: Request) -> Answer:
        if not self.is_open:
            raise OSError("closed")
        if isinstance(request, Heartbeat):
            self.beats.release()
        if isinstance(request, RaiseThread):
            self.threads.append(request.thread)
        return Accepted(GRANTED_S) if isinstance(request, TakeLease) else Done()

    def pulse(self) -> None:
        self.pulses.release()

    def close(self) -> None:
        self.is_open = False

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class LostRace:
    """A lock that its first caller gets only when the client has been released."""

    def __init__(self, client: AgentClient) -> None:
        self._client, self._lock = client, client._lock

    def __enter__(self) -> None:
        self._client._lock = self._lock
        self._client.release()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def acquire(self, blocking: bool) -> bool:
        return False


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[Line]:
    """Return the lines that were opened, the latest last."""
    opened: list[Line] = []

    def call(_: Path) -> Line:
        opened.append(Line())
        return opened[-1]

    monkeypatch.setattr(client, "AgentConnection", call)
    return opened


def test_the_client_says_that_it_lives_as_often_as_the_granted_lease_needs(
    lines: list[Line],
) -> None:
    with AgentClient(Path("agent.sock"), lease_s=60.0):
        for _ in range(3):
            assert lines[0].beats.acquire(timeout=5.0), "it beats for the lease that it asked for"


def test_heartbeats_do_not_wait_for_a_request_that_is_under_way(lines: list[Line]) -> None:
    with AgentClient(Path("agent.sock"), lease_s=60.0) as client, client._lock:
        for _ in range(3):
            assert lines[0].pulses.acquire(timeout=5.0), "the lease would be lost"
        client._is_closed.set()


@pytest.mark.parametrize("priority", Priority)
def test_the_agent_is_asked_for_priority_only_where_the_client_may_not_take_it(
    lines: list[Line], monkeypatch: pytest.MonkeyPatch, priority: Priority
) -> None:
    monkeypatch.setattr(client, "raise_this_thread", lambda: priority)
    with AgentClient(Path("agent.sock"), lease_s=60.0) as made:
        assert lines[0].beats.acquire(timeout=5.0)
        asked = [made._beating.native_id] if priority == Priority.NORMAL else []
        assert lines[0].threads == asked


def test_who_waited_while_the_lease_was_released_does_not_take_it_again(
    lines: list[Line],
) -> None:
    client = AgentClient(Path("agent.sock"), lease_s=60.0)
    raced: Any = LostRace(client)
    client._lock = raced
    with pytest.raises(AgentError, match="released"):
        client.reset()
    assert len(lines) == 1

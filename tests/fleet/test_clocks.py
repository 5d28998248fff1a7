from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from steppe.errors import AgentError, DeviceError, NoPermissionError, TransientDeviceError
from steppe.fleet import clocks
from steppe.fleet.clocks import ClockLimits


@dataclass
class FakeProcess:
    code: int | None = None

    def poll(self) -> int | None:
        return self.code


@dataclass
class FakeAgent:
    socket: Path = Path("agent.sock")
    process: FakeProcess = field(default_factory=FakeProcess)
    stopped: bool = False

    def stop(self) -> None:
        self.stopped = True


@dataclass
class FakeClient:
    leases_taken: int = 1
    problem: Exception | None = None
    asked: list[tuple[str, int]] = field(default_factory=list)

    def set_clock_limit(self, uuid: str, clock_mhz: int) -> int:
        self.asked.append((uuid, clock_mhz))
        if self.problem is not None:
            raise self.problem
        return clock_mhz - clock_mhz % 15

    def release(self) -> None:
        if self.problem is not None:
            raise self.problem


@dataclass
class Site:
    """What starting an agent brings: the problems first, then agents."""

    client: FakeClient = field(default_factory=FakeClient)
    problems: list[Exception] = field(default_factory=list)
    agents: list[FakeAgent] = field(default_factory=list)

    def start(self, *_: Any, **__: Any) -> FakeAgent:
        if self.problems:
            raise self.problems.pop(0)
        self.agents.append(FakeAgent())
        return self.agents[-1]


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Site:
    made = Site()
    monkeypatch.setattr(clocks, "start_agent", made.start)
    monkeypatch.setattr(clocks, "AgentClient", lambda *_: made.client)
    monkeypatch.setattr(clocks, "_RETRY_S", 0.0)
    return made


@pytest.fixture
def limits(site: Site, tmp_path: Path) -> Callable[[], ClockLimits]:
    return lambda: ClockLimits(tmp_path, lease_s=5.0)


def test_a_limit_is_answered_with_the_clock_that_was_taken(
    site: Site, limits: Callable[[], ClockLimits]
) -> None:
    assert limits().set("GPU-1", 907) == 900


def test_an_agent_that_a_dead_predecessor_left_is_waited_for(
    site: Site, limits: Callable[[], ClockLimits]
) -> None:
    site.problems = [AgentError("a running agent owns it"), AgentError("another agent listens")]
    assert limits().set("GPU-1", 900) == 900
    assert site.problems == []


def test_without_permission_nothing_more_is_asked(
    site: Site, limits: Callable[[], ClockLimits]
) -> None:
    made = limits()
    site.client.problem = NoPermissionError("only root")
    assert [made.set("GPU-1", 900), made.set("GPU-1", 600)] == [None, None]
    assert site.client.asked == [("GPU-1", 900)]


@pytest.mark.parametrize("problem", [AgentError("gone"), TransientDeviceError("busy")])
def test_what_may_pass_is_tried_again(
    site: Site, limits: Callable[[], ClockLimits], problem: DeviceError
) -> None:
    made = limits()
    site.client.problem = problem
    assert made.set("GPU-1", 900) is None
    site.client.problem = None
    assert made.set("GPU-1", 900) == 900


def test_an_agent_that_dies_is_replaced_and_its_limits_must_be_set_anew(
    site: Site, limits: Callable[[], ClockLimits]
) -> None:
    made = limits()
    assert not made.were_undone()
    site.agents[0].process.code = -9
    made.were_undone()
    assert len(site.agents) == 2
    site.client.leases_taken = 2  # the client has taken the lease from the new agent
    assert made.were_undone()
    assert not made.were_undone()


def test_closing_ends_the_agent_even_when_it_does_not_answer(
    site: Site, limits: Callable[[], ClockLimits]
) -> None:
    made = limits()
    site.client.problem = AgentError("gone")
    made.close()
    assert site.agents[0].stopped

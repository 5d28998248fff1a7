from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from steppe.errors import (
    AgentError,
    ConfigError,
    DeviceError,
    NoPermissionError,
    NotSupportedError,
    TransientDeviceError,
)
from steppe.fleet.node import clock_limits
from steppe.fleet.node.clock_limits import NO_PERMISSION_S, ClockLimits, ZeusdLimits

HOST, HOLDER = Path("host.sock"), "run 1-a"


@dataclass
class FakeAgent:
    socket: Path = Path("agent.sock")
    has_ended: bool = False
    stopped: bool = False

    def stop(self) -> None:
        self.stopped = True


@dataclass
class FakeClient:
    leases_taken: int = 1
    problem: Exception | None = None
    asked: list[tuple[str, int]] = field(default_factory=list)
    followed: list[Any] = field(default_factory=list)

    def set_clock_limit(self, uuid: str, clock_mhz: int) -> int:
        self.asked.append((uuid, clock_mhz))
        if self.problem is not None:
            raise self.problem
        return clock_mhz - clock_mhz % 15

    def confirmed_mhz(self) -> dict[str, int]:
        if self.problem is not None:
            raise self.problem
        return {"GPU-1": 900}

    def check(self) -> None:
        if self.problem is not None:
            raise self.problem

    def follow_power_limits(
        self, after_s: Sequence[float], limits_w: Mapping[str, Sequence[float]], keep_s: float
    ) -> None:
        if self.problem is not None:
            raise self.problem
        self.followed.append((tuple(after_s), dict(limits_w), keep_s))

    def release(self) -> None:
        if self.problem is not None:
            raise self.problem


@dataclass
class Time:
    """A clock that a test sets forward."""

    now_s: float = 0.0

    def monotonic(self) -> float:
        return self.now_s


@dataclass
class Site:
    """What starting an agent results in: first these problems, then agents."""

    client: FakeClient = field(default_factory=FakeClient)
    problems: list[Exception] = field(default_factory=list)
    agents: list[FakeAgent] = field(default_factory=list)
    refusals: list[Exception] = field(default_factory=list)
    """What taking a lease results in first."""

    def start(self, *_: Any, **__: Any) -> FakeAgent:
        if self.problems:
            raise self.problems.pop(0)
        self.agents.append(FakeAgent())
        return self.agents[-1]

    def take(self, _socket: Path, _lease_s: float, holder: str) -> FakeClient:
        assert holder == HOLDER
        if self.refusals:
            raise self.refusals.pop(0)
        return self.client


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Site:
    made = Site()
    monkeypatch.setattr(clock_limits, "start_agent", made.start)
    monkeypatch.setattr(clock_limits, "AgentClient", made.take)
    monkeypatch.setattr(clock_limits, "ask_status", lambda _: None)
    monkeypatch.setattr(clock_limits, "_RETRY_S", 0.0)
    return made


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def limits(site: Site, time: Time, tmp_path: Path) -> Callable[[], ClockLimits]:
    return lambda: ClockLimits(tmp_path, 5.0, None, time.monotonic, HOLDER)


@pytest.fixture
def limits_of_host(site: Site, tmp_path: Path) -> Callable[[], ClockLimits]:
    return lambda: ClockLimits(tmp_path, 5.0, HOST, holder=HOLDER)


def test_setting_a_limit_returns_the_clock_that_was_set(
    site: Site, limits: Callable[[], ClockLimits]
) -> None:
    assert limits().set("GPU-1", 907) == 900


def test_the_agent_of_a_dead_node_actor_is_waited_for(
    site: Site, limits: Callable[[], ClockLimits]
) -> None:
    site.problems = [AgentError("a running agent owns it"), AgentError("another agent listens")]
    assert limits().set("GPU-1", 900) == 900
    assert site.problems == []


def test_a_limit_without_permission_is_tried_again_after_a_while_and_logged_once(
    site: Site,
    limits: Callable[[], ClockLimits],
    time: Time,
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = limits()
    site.client.problem = NoPermissionError("only root")
    assert [made.set("GPU-1", 900), made.set("GPU-1", 600)] == [None, None]
    assert site.client.asked == [("GPU-1", 900)]
    time.now_s = NO_PERMISSION_S
    assert made.set("GPU-1", 600) is None
    assert caplog.messages == ["clock limit of GPU-1: asked for 900 MHz: only root"]
    time.now_s, site.client.problem = 2 * NO_PERMISSION_S, None
    assert made.set("GPU-1", 600) == 600


@pytest.mark.parametrize("problem", [NoPermissionError("not this one"), NotSupportedError("old")])
def test_a_gpu_that_refuses_a_limit_does_not_affect_another(
    site: Site, limits: Callable[[], ClockLimits], problem: DeviceError
) -> None:
    made = limits()
    site.client.problem = problem
    assert made.set("GPU-1", 900) is None
    site.client.problem = None
    assert made.set("GPU-2", 900) == 900


def test_limits_are_confirmed_by_the_agent_only(
    site: Site, limits: Callable[[], ClockLimits], caplog: pytest.LogCaptureFixture
) -> None:
    made = limits()
    assert made.confirmed_mhz() == {"GPU-1": 900}
    site.client.problem = AgentError("gone")
    assert [made.confirmed_mhz(), made.confirmed_mhz()] == [None, None]
    assert caplog.messages == ["clock limits cannot be read: gone"]


def test_without_an_agent_no_clock_can_be_limited(
    site: Site, limits: Callable[[], ClockLimits]
) -> None:
    assert limits().can_set
    site.problems = [NoPermissionError("only root")]
    made = limits()
    assert not made.can_set
    assert (made.set("GPU-1", 900), made.confirmed_mhz()) == (None, None)


def test_board_power_limits_follow_a_schedule_of_the_agent_and_errors_are_logged_once(
    site: Site, limits: Callable[[], ClockLimits], caplog: pytest.LogCaptureFixture
) -> None:
    made, schedule = limits(), ((0.0, 1.0), {"GPU-1": (500.0, 400.0)}, 8.0)
    assert made.can_set_power
    made.follow_power_limits(*schedule)
    assert site.client.followed == [schedule]
    for problem in (AgentError("gone"), AgentError("gone"), None, AgentError("gone")):
        site.client.problem = problem
        made.follow_power_limits(*schedule)
    assert caplog.messages == ["board power limits: gone"] * 2
    assert len(site.client.followed) == 2


def test_nothing_sets_a_board_power_limit_that_nothing_would_undo(
    site: Site, limits: Callable[[], ClockLimits]
) -> None:
    client: Any = FakeClient()
    zeusd = ZeusdLimits(client)
    zeusd.follow_power_limits((0.0,), {"GPU-1": (500.0,)}, 8.0)
    site.problems = [NoPermissionError("only root")]
    without_agent = limits()
    without_agent.follow_power_limits((0.0,), {"GPU-1": (500.0,)}, 8.0)
    assert not (zeusd.can_set_power)
    assert not (without_agent.can_set_power)
    assert client.followed == []


def test_zeusd_sets_limits_and_undoes_them() -> None:
    client: Any = FakeClient()
    made = ZeusdLimits(client)
    made.require()
    assert (made.can_set, made.were_undone()) == (True, False)
    assert (made.set("GPU-1", 907), made.confirmed_mhz()) == (900, {"GPU-1": 900})
    made.close()


def test_a_missing_zeusd_is_a_configuration_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    client: Any = FakeClient(problem=AgentError("/run/zeusd.sock: zeusd does not answer"))
    made = ZeusdLimits(client)
    with pytest.raises(ConfigError, match=r"^device\.zeusd: /run/zeusd\.sock: zeusd does not"):
        made.require()
    made.close()
    assert caplog.messages == ["clock limits stay: /run/zeusd.sock: zeusd does not answer"]


@pytest.mark.parametrize("problem", [AgentError("gone"), TransientDeviceError("busy")])
def test_a_transient_error_is_tried_again_at_once(
    site: Site, limits: Callable[[], ClockLimits], problem: DeviceError
) -> None:
    made = limits()
    site.client.problem = problem
    assert made.set("GPU-1", 900) is None
    site.client.problem = None
    assert made.set("GPU-1", 900) == 900


def test_an_agent_that_dies_is_replaced_and_its_limits_are_set_again(
    site: Site, limits: Callable[[], ClockLimits]
) -> None:
    made = limits()
    assert not made.were_undone()
    site.agents[0].has_ended = True
    made.were_undone()
    assert len(site.agents) == 2
    site.client.leases_taken = 2  # the client has taken the lease from the new agent
    assert made.were_undone()
    assert not made.were_undone()


def test_closing_ends_an_agent_that_does_not_answer(
    site: Site, limits: Callable[[], ClockLimits]
) -> None:
    made = limits()
    site.client.problem = AgentError("gone")
    made.close()
    assert site.agents[0].stopped


def test_the_agent_of_the_host_is_used_if_it_runs(
    site: Site, limits_of_host: Callable[[], ClockLimits]
) -> None:
    made = limits_of_host()
    assert (made.set("GPU-1", 907), site.agents) == (900, [])
    site.client.leases_taken = 2  # it was restarted
    assert (made.were_undone(), made.were_undone()) == (True, False)
    made.close()


@pytest.mark.parametrize("host", [None, HOST])
def test_the_lease_of_a_dead_node_actor_is_waited_for(
    site: Site, tmp_path: Path, host: Path | None
) -> None:
    site.refusals = [AgentError("no lease now"), AgentError("no lease now")]
    assert ClockLimits(tmp_path, 5.0, host, holder=HOLDER).can_set
    assert (site.refusals, len(site.agents)) == ([], 1 if host is None else 0)


def test_no_second_agent_starts_where_that_of_the_host_gives_no_lease(
    site: Site,
    limits_of_host: Callable[[], ClockLimits],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(clock_limits, "RETRY_LEASES", 0)
    site.refusals = [AgentError("no lease now")]
    assert not limits_of_host().can_set
    assert site.agents == []
    assert caplog.messages == ["no clock limits on this node: no lease now"]


def test_an_agent_is_started_if_that_of_the_host_has_no_permission(
    site: Site, limits_of_host: Callable[[], ClockLimits]
) -> None:
    site.refusals = [NoPermissionError("only root")]
    assert limits_of_host().can_set
    assert len(site.agents) == 1


@pytest.mark.parametrize("why", [FileNotFoundError(), PermissionError()])
def test_an_agent_is_started_if_that_of_the_host_cannot_be_used(
    site: Site,
    limits_of_host: Callable[[], ClockLimits],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    why: OSError,
) -> None:
    def refuse(_: Path) -> None:
        raise AgentError("no agent answers") from why

    monkeypatch.setattr(clock_limits, "ask_status", refuse)
    assert limits_of_host().can_set
    assert len(site.agents) == 1
    silent = isinstance(why, FileNotFoundError)
    says = "the agent of this host cannot be used: no agent answers"
    assert caplog.messages == ([] if silent else [says])

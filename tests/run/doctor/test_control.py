"""Whether limits can be set: an agent that answers, its version, and GPUs without a lease."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.run.doctor.made_up import only, serious

from steppe.agent.messages import AgentStatus, GpuLimits, LeaseStatus
from steppe.config import NvmlSection
from steppe.run.doctor.control import ControlFacts, check_control, read_control
from steppe.run.doctor.finding import Level

UUID = "GPU-00000000-aaaa"
SOCKET = "/run/steppe/agent.sock"


def limits(uuid: str = UUID, holder: str | None = None, fault: str | None = None) -> GpuLimits:
    pid = None if holder is None else 77
    return GpuLimits(uuid, None, None, None, False, fault, holder, pid)


def status(*gpus: GpuLimits) -> AgentStatus:
    leases = tuple(LeaseStatus(gpu.holder, 77, 3.0) for gpu in gpus if gpu.holder)
    return AgentStatus(leases, "restore", gpus)


def answering(*gpus: GpuLimits) -> ControlFacts:
    return ControlFacts(SOCKET, is_there=True, status=status(*gpus))


def test_an_agent_with_free_gpus_is_fine() -> None:
    findings = check_control(answering(limits()), [UUID])
    assert serious(findings) == []
    assert only(findings, "agent").found == f"the agent at {SOCKET} answers; loss policy restore"


def test_gpus_that_another_run_holds_are_named_with_it() -> None:
    finding = only(check_control(answering(limits(holder="run-9")), [UUID]), "lease")
    assert finding.level is Level.WARNING
    assert finding.found == "1 of 1 GPUs are held by run-9 (process 77)"
    elsewhere = check_control(answering(limits("GPU-other", holder="run-9")), [UUID])
    assert only(elsewhere, "lease").level is Level.OK


def test_a_gpu_that_refuses_its_limits_is_named() -> None:
    findings = check_control(answering(limits(fault="Insufficient Permissions")), [UUID])
    assert "Insufficient Permissions" in only(findings, "limits").found


@pytest.mark.parametrize(
    ("facts", "level", "says"),
    [
        (ControlFacts(SOCKET), Level.WARNING, "sudo .venv/bin/steppe agent --allow-uid"),
        (ControlFacts(SOCKET, is_admin=True), Level.OK, "this process may set limits"),
        (
            ControlFacts(SOCKET, is_there=True, error="not an answer: b'{}'"),
            Level.WARNING,
            "another version of the protocol",
        ),
        (
            ControlFacts(SOCKET, is_there=True, error="user 1000 may not connect", uid=1000),
            Level.WARNING,
            "allow user 1000",
        ),
        (ControlFacts("z", is_zeusd=True, error="does not answer"), Level.FATAL, "start zeusd"),
        (ControlFacts("z", is_zeusd=True), Level.OK, "zeusd at z answers"),
    ],
)
def test_without_a_usable_agent_it_is_said_what_follows(
    facts: ControlFacts, level: Level, says: str
) -> None:
    (finding,) = check_control(facts, [UUID])
    assert finding.level is level
    assert says in f"{finding.found}; {finding.advice}"


@contextmanager
def listening(path: Path, answer: bytes) -> Iterator[None]:
    """Answer one request on a socket."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def serve() -> None:
            line, _ = server.accept()
            with line:
                line.recv(1 << 16)
                line.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join()


def test_an_agent_of_another_version_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    section = NvmlSection(kind="nvml", agent_socket=path)
    with listening(path, b'{"answer": "status", "colour": "green"}\n'):
        found = read_control(section)
    (finding,) = check_control(found, [UUID])
    assert "another version of the protocol" in finding.found
    assert read_control(NvmlSection(kind="nvml", agent_socket=tmp_path / "none")).is_there is False

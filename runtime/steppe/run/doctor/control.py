"""The permission to limit clocks and power: is there an agent, and are the GPUs free?"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from steppe.agent.client import ask_status
from steppe.agent.messages import AgentStatus
from steppe.agent.zeusd_client import ZeusdClient
from steppe.config import NvmlSection
from steppe.device.inventory import has_admin_capability
from steppe.errors import AgentError
from steppe.run.doctor.finding import Finding, Level

GROUP = "control"
START_AGENT = "sudo .venv/bin/steppe agent --allow-uid $(id -u)"


@dataclass(frozen=True, slots=True)
class ControlFacts:
    """What may set limits on one host.

    Attributes:
        setter: The agent's or zeusd's socket.
        is_zeusd: Whether zeusd sets the limits.
        is_there: Whether the socket exists.
        error: Why it cannot be used; empty if it answers.
        status: What the agent answers; None for zeusd, or without an answer.
        is_admin: Whether this process itself may set limits (CAP_SYS_ADMIN).
        uid: User that the run would have.
    """

    setter: str
    is_zeusd: bool = False
    is_there: bool = False
    error: str = ""
    status: AgentStatus | None = None
    is_admin: bool = False
    uid: int = 0


def read_control(section: NvmlSection) -> ControlFacts:
    """Ask the agent or zeusd of this host; sets nothing."""
    is_admin, uid = has_admin_capability(), os.getuid()
    if section.zeusd is not None:
        socket = section.zeusd.socket
        error = _zeusd_error(section)
        return ControlFacts(str(socket), True, socket.exists(), error, None, is_admin, uid)
    socket = section.agent_socket
    try:
        status = ask_status(socket)
    except AgentError as error:
        there = _exists(socket)
        return ControlFacts(str(socket), False, there, str(error), None, is_admin, uid)
    return ControlFacts(str(socket), False, True, "", status, is_admin, uid)


def _exists(socket: Path) -> bool:
    try:
        return socket.exists()
    except OSError:
        return True


def _zeusd_error(section: NvmlSection) -> str:
    assert section.zeusd is not None, "the configuration has zeusd"
    try:
        ZeusdClient(section.zeusd.socket, {}, section.zeusd.token_file).check()
    except AgentError as error:
        return str(error)
    return ""


def check_control(found: ControlFacts, uuids: Iterable[str]) -> list[Finding]:
    """Return whether limits can be set on GPUs.

    Args:
        found: What may set limits on their host.
        uuids: The GPUs.
    """
    if found.is_zeusd:
        return [_zeusd(found)]
    if found.status is None:
        return [_no_agent(found)]
    text = f"the agent at {found.setter} answers; loss policy {found.status.loss}"
    return [
        Finding(GROUP, "agent", Level.OK, text),
        *_lease(found.status, frozenset(uuids)),
        *_faults(found.status),
    ]


def _zeusd(found: ControlFacts) -> Finding:
    if found.error:
        advice = "start zeusd with --socket-path, or take device.zeusd out of the configuration"
        return Finding(GROUP, "zeusd", Level.FATAL, found.error, advice)
    text = f"zeusd at {found.setter} answers; it has no lease, so that limits outlive a dead node"
    return Finding(GROUP, "zeusd", Level.OK, text)


def _no_agent(found: ControlFacts) -> Finding:
    if not found.is_there:
        if found.is_admin:
            text = f"no agent at {found.setter}; this process may set limits by one of its own"
            return Finding(GROUP, "agent", Level.OK, text)
        text = f"no agent at {found.setter}, and no right to set clocks (CAP_SYS_ADMIN)"
        advice = f"{START_AGENT}; without it only batch limits and sleep follow the budget"
        return Finding(GROUP, "agent", Level.WARNING, text, advice)
    if "not an answer" in found.error:
        text = f"the agent at {found.setter} speaks another version of the protocol"
        return Finding(
            GROUP, "agent", Level.WARNING, text, "restart it from the installed version of steppe"
        )
    advice = f"allow user {found.uid}: {START_AGENT}"
    return Finding(GROUP, "agent", Level.WARNING, found.error, advice)


def _lease(status: AgentStatus, uuids: frozenset[str]) -> list[Finding]:
    held = [gpu for gpu in status.gpus if gpu.uuid in uuids and gpu.holder_pid is not None]
    if not held:
        return [Finding(GROUP, "lease", Level.OK, "free on every GPU")]
    holders = sorted({f"{gpu.holder or 'a client'} (process {gpu.holder_pid})" for gpu in held})
    text = f"{len(held)} of {len(uuids)} GPUs are held by {', '.join(holders)}"
    advice = "another run limits these GPUs: end it, or serve on the others"
    return [Finding(GROUP, "lease", Level.WARNING, text, advice)]


def _faults(status: AgentStatus) -> list[Finding]:
    faults = [f"{gpu.uuid[:12]}: {gpu.fault}" for gpu in status.gpus if gpu.fault]
    if not faults:
        return []
    advice = "see the agent's log (journalctl -u steppe-agent)"
    return [Finding(GROUP, "limits", Level.WARNING, "; ".join(faults), advice)]

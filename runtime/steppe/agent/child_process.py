"""An agent that this process starts: it exits with its holder, or when it is stopped."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from steppe.agent.connection import AgentConnection
from steppe.agent.loss_policy import LossPolicy, format_loss
from steppe.errors import AgentError

START_S = 20.0
_START_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class AgentProcess:
    """A started agent; it exits with its holder, or on `stop`.

    Attributes:
        process: Its parent, which ends with it and passes signals on to it.
        pid: The agent itself.
        socket: Where it listens.
    """

    process: subprocess.Popen[bytes]
    pid: int
    socket: Path

    @property
    def has_ended(self) -> bool:
        """Whether the agent has ended; it survives a parent that was killed."""
        return self.process.poll() is not None and not _is_of(self.process, self.pid)

    def stop(self) -> None:
        """Let it undo everything and exit."""
        self.process.terminate()
        self.process.wait(timeout=START_S)

    def __enter__(self) -> AgentProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start_agent(
    socket: Path,
    *,
    lease_file: Path,
    loss: LossPolicy,
    lease_s: float,
    environment: Mapping[str, str] | None = None,
) -> AgentProcess:
    """Start an agent in its own session, and return when it answers.

    Args:
        socket: Where it listens.
        lease_file: Where it records the limits that it sets; its log is written beside it.
        loss: What it does when the holder of the lease is lost.
        lease_s: Longest time without a message from the holder, s.
        environment: Variables added to those of this process.

    Raises:
        AgentError: It did not answer; the message has the end of its log.
    """
    command = [sys.executable, "-m", "steppe.agent.server", "--exit-with-holder"]
    command += ["--socket", str(socket), "--lease-file", str(lease_file)]
    command += ["--loss", format_loss(loss), "--lease-s", str(lease_s)]
    log = lease_file.with_name(lease_file.name + ".log")
    process = _spawn(command, log, environment or {})
    try:
        return AgentProcess(process, _wait_for_answer(process, socket, log), socket)
    except (KeyboardInterrupt, SystemExit):
        process.terminate()
        process.wait(timeout=START_S)
        raise


def _spawn(
    command: Sequence[str], log: Path, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as stderr:
        return subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
        )


def _wait_for_answer(process: subprocess.Popen[bytes], socket: Path, log: Path) -> int:
    """Wait until the agent answers, and return its process.

    The agent of a holder that has just died may still listen on the socket for a while.
    """
    deadline_s = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline_s:
        with suppress(AgentError), AgentConnection(socket) as line:
            if _is_of(process, line.agent_pid):
                return line.agent_pid
        time.sleep(_START_POLL_S)
    process.kill()
    process.wait()
    last_words = " ".join(log.read_text().split())[-500:] or "its log is empty"
    raise AgentError(f"{socket}: the agent did not start: {last_words}")


def _is_of(process: subprocess.Popen[bytes], pid: int) -> bool:
    """Whether a process is alive and in the session of a process that was started here."""
    try:
        return os.getsid(pid) == process.pid
    except ProcessLookupError:
        return False

"""How a runner reaches its gateway, and how hard it tries."""

from __future__ import annotations

import os
import secrets
import socket
from dataclasses import dataclass, field
from pathlib import Path


def new_owner() -> str:
    """Return the name of one runner: its host, its process and a random part."""
    return f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(4)}"


@dataclass(frozen=True, slots=True)
class RunnerSettings:
    """One runner.

    Attributes:
        url: Address of the gateway, with or without `/v1`.
        headers: Headers that every request gets, such as a key; they win over the runner's own.
        most_outstanding: Rows at the gateway at once where it does not say how many it takes.
        most_attempts: Attempts of a row that fails replicas; then it is an error.
        stop_grace_s: Time that outstanding rows have to end when the runner is stopped, s.
        retry_pause_s: Pause of a row that failed at a replica, s; meanwhile the meters are read.
        row_timeout_s: Longest time of one attempt, s.
        most_backoff_s: Longest pause of a runner whose gateway does not answer, s.
        expires_epoch_s: Rows that are not done by then become errors, s since the Unix epoch; None
            for never.
        lease_s: Time after which the job is free if the runner is gone, s.
        owner: Name of the runner, in the job's lease and in its timeline.
        timeline: File of the timeline; None for none.
        certificate: The only certificate that the gateway may have, PEM; None for any that the
            system trusts.
    """

    url: str
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    most_outstanding: int = 128
    most_attempts: int = 4
    stop_grace_s: float = 5.0
    retry_pause_s: float = 1.0
    row_timeout_s: float = 7200.0
    most_backoff_s: float = 15.0
    expires_epoch_s: float | None = None
    lease_s: float = 30.0
    owner: str = field(default_factory=new_owner)
    timeline: Path | None = None
    certificate: Path | None = None

    def address(self, path: str) -> str:
        """Return the address of a path, such as `/v1/chat/completions`."""
        return self.url.rstrip("/").removesuffix("/v1") + path

"""The limits that were set and not undone yet, recorded on disk.

The file is written before a limit is set and after one is undone, so it never names too little.
Like locked clocks, it is void after a reboot. The file of emulated GPUs is void once they are gone.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from steppe.agent.gpu_claim import GpuClaim
from steppe.emulator.environment import emulated_state
from steppe.errors import AgentError

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class HeldLimits:
    """The limits that the agent set on one GPU.

    Attributes:
        uuid: The GPU.
        clock_mhz: SM clock limit, MHz; None where the clock is free.
        power_limit_w: Board power limit, W; None if the agent did not change it.
        power_limit_before_w: The board power limit to restore, W.
    """

    uuid: str
    clock_mhz: int | None = None
    power_limit_w: float | None = None
    power_limit_before_w: float | None = None

    @property
    def is_free(self) -> bool:
        """Whether nothing is left to undo."""
        return self.clock_mhz is None and self.power_limit_w is None

    def is_undone_like(self, other: HeldLimits) -> bool:
        """Whether undoing the other limits also undoes these; the values set do not matter."""
        is_like = (self.clock_mhz is None) == (other.clock_mhz is None)
        return is_like and self.power_limit_before_w == other.power_limit_before_w


@dataclass(frozen=True, slots=True)
class _Content:
    boot_id: str
    agent_pid: int
    gpus: tuple[HeldLimits, ...]
    emulated_state: Path | None = None


_CONTENT = TypeAdapter(_Content)


class LeaseFile:
    """The file, while this process owns it."""

    def __init__(self, path: Path, claims: ExitStack) -> None:
        """Name the file; `owned_lease_file` makes this process its only writer."""
        self.path = path
        self._claims = claims

    def claim(self, uuid: str) -> GpuClaim:
        """Return the claim on a GPU, not taken yet; it ends with the ownership of the file."""
        claim = GpuClaim(uuid)
        self._claims.callback(claim.release)
        return claim

    def read(self) -> tuple[HeldLimits, ...]:
        """Return the limits that are left to undo; none where there is no file.

        Raises:
            AgentError: The file is broken, or not about the GPUs that this process sees.
        """
        content, own = _read(self.path), emulated_state()
        if content.gpus and content.emulated_state != own:
            asked, found = (state or "the real driver" for state in (own, content.emulated_state))
            raise AgentError(f"{self.path}: asked for limits of GPUs of {asked}, found {found}")
        return content.gpus

    def write(self, limits: tuple[HeldLimits, ...]) -> None:
        """Replace the content, and return when it is on disk.

        Raises:
            AgentError: It cannot be written; the file has the old content or the new one.
        """
        held = tuple(limit for limit in limits if not limit.is_free)
        try:
            content = _Content(_boot_id(), os.getpid(), held, emulated_state())
            _replace(self.path, _CONTENT.dump_json(content, indent=1))
        except OSError as error:
            raise AgentError(f"{self.path}: cannot be written: {error.strerror}") from error


def read_lease_file(path: Path) -> tuple[HeldLimits, ...]:
    """Return the limits that are left to undo; none where there is no file, or where it is void.

    Raises:
        AgentError: The file is not a lease file.
    """
    return _read(path).gpus


@contextmanager
def owned_lease_file(path: Path) -> Generator[LeaseFile]:
    """Own the lease file inside a `with` block; the kernel frees it if the process dies.

    Raises:
        AgentError: Another process owns it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(path.name + ".lock").open("w") as lock, ExitStack() as claims:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AgentError(f"{path}: a running agent owns it; stop that agent first") from error
        yield LeaseFile(path, claims)


def _read(path: Path) -> _Content:
    """Return the content of a lease file, without limits where it is void."""
    try:
        content = _CONTENT.validate_json(path.read_bytes())
    except FileNotFoundError:
        return _Content(_boot_id(), os.getpid(), ())
    except (OSError, ValidationError) as error:
        raise AgentError(f"{path}: not a lease file: {' '.join(str(error).split())}") from error
    state = content.emulated_state
    is_void = content.boot_id != _boot_id() or (state is not None and not state.exists())
    return replace(content, gpus=()) if is_void else content


def _replace(path: Path, content: bytes) -> None:
    draft = path.with_name(path.name + ".draft")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _boot_id() -> str:
    return _BOOT_ID.read_text().strip()

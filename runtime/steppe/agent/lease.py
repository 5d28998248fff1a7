"""One lease: its holder, its GPUs, and what becomes of them when the holder is lost."""

from __future__ import annotations

from dataclasses import dataclass, field

from steppe.agent.gpu_limits import GpuLimiter
from steppe.agent.loss_policy import ClockFloor, PowerFloor

# A lease ends this share early, so that its limits are undone by its nominal end.
EARLY_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Peer:
    """One connection of a client.

    Attributes:
        number: Distinguishes connections.
        pid: Process at the other end, from the socket's peer credentials.
    """

    number: int
    pid: int


@dataclass(frozen=True, slots=True)
class Held:
    """The holder is alive; without a further message the lease ends at `until_s`."""

    until_s: float


@dataclass(frozen=True, slots=True)
class LossHold:
    """The holder is lost; limits stay until `until_s`, then a floor applies."""

    until_s: float
    to: ClockFloor | PowerFloor


@dataclass(frozen=True, slots=True)
class AtFloor:
    """The holder is lost and its GPUs are at the floor, until another holder limits them.

    Attributes:
        to: The floor.
        left: The GPUs where the floor could not be applied yet.
    """

    to: ClockFloor | PowerFloor
    left: tuple[GpuLimiter, ...]


@dataclass(slots=True, eq=False)
class Lease:
    """The GPUs of one holder; a GPU is part of one lease at most.

    Attributes:
        peer: The connection of the holder.
        name: The holder's name for people; may be empty.
        lease_s: Longest time between two messages, s.
        state: Whether the holder is alive, and otherwise what happens to the GPUs.
        gpus: The GPUs, in the order in which they joined.
    """

    peer: Peer
    name: str
    lease_s: float
    state: Held | LossHold | AtFloor
    gpus: list[GpuLimiter] = field(default_factory=list)

    @property
    def is_held(self) -> bool:
        """Whether its holder is alive."""
        return isinstance(self.state, Held)

    @property
    def holder(self) -> str:
        """The holder in words."""
        process = f"process {self.peer.pid}"
        return f"{self.name} ({process})" if self.name else process

    @property
    def wanted(self) -> list[GpuLimiter]:
        """The GPUs that the holder has limited."""
        return [gpu for gpu in self.gpus if gpu.is_wanted]

    def renew(self, now_s: float) -> None:
        """Prolong the lease after a message from its holder."""
        self.state = Held(now_s + (1 - EARLY_SHARE) * self.lease_s)

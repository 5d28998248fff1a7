"""Messages between a client and the agent: one JSON object per line, one answer per request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from steppe.errors import AgentError

LONGEST_LINE = 1 << 16

Finite = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class TakeLease:
    """Take a lease; it ends after `lease_s` without a message.

    Attributes:
        lease_s: Longest time between two messages, s.
        holder: The name of the client for people, in messages and metrics.
        gpus: The GPUs to hold from the start, by UUID; others join with the first limit set on
            them.
    """

    lease_s: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    holder: Annotated[str, Field(max_length=200)] = ""
    gpus: tuple[str, ...] = ()
    ask: Literal["take_lease"] = "take_lease"


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Renew the lease."""

    ask: Literal["beat"] = "beat"


@dataclass(frozen=True, slots=True)
class Pulse:
    """Renew the lease while another request of the same client is under way; gets no answer."""

    ask: Literal["pulse"] = "pulse"


@dataclass(frozen=True, slots=True)
class RaiseThread:
    """Give a thread of the holder, which sends the heartbeats, high priority.

    Attributes:
        thread: Its number as the client sees it.
    """

    thread: Annotated[int, Field(gt=0)]
    ask: Literal["raise_thread"] = "raise_thread"


@dataclass(frozen=True, slots=True)
class SetClockLimit:
    """Limit the SM clock of one GPU, MHz."""

    uuid: str
    clock_mhz: Annotated[int, Field(ge=0)]
    ask: Literal["set_clock_limit"] = "set_clock_limit"


@dataclass(frozen=True, slots=True)
class SetPowerLimit:
    """Limit the board power of one GPU, W."""

    uuid: str
    limit_w: Finite
    ask: Literal["set_power_limit"] = "set_power_limit"


@dataclass(frozen=True, slots=True)
class FollowPowerLimits:
    """Let the board power limits of GPUs follow a schedule, whatever becomes of the client.

    A GPU that refuses does not keep the others from following; its error is in the status.

    Attributes:
        after_s: When each step begins, s from the receipt; the first at 0.
        limits_w: The limits of each GPU in these steps, W, by UUID.
        keep_s: How long the last step lasts if the lease is lost, s from the receipt.
    """

    after_s: tuple[Finite, ...]
    limits_w: Mapping[str, tuple[Finite, ...]]
    keep_s: Finite
    ask: Literal["follow_power_limits"] = "follow_power_limits"


@dataclass(frozen=True, slots=True)
class ResetLimits:
    """Undo the holder's limits on one GPU, or on all; these GPUs leave the lease."""

    uuid: str | None
    ask: Literal["reset_limits"] = "reset_limits"


@dataclass(frozen=True, slots=True)
class Release:
    """Undo everything and end the lease."""

    ask: Literal["release"] = "release"


@dataclass(frozen=True, slots=True)
class AskStatus:
    """Ask for the limits and the holders of leases; any client may."""

    ask: Literal["status"] = "status"


Request = (
    TakeLease
    | Heartbeat
    | Pulse
    | RaiseThread
    | SetClockLimit
    | SetPowerLimit
    | FollowPowerLimits
    | ResetLimits
    | Release
    | AskStatus
)


@dataclass(frozen=True, slots=True)
class Done:
    """The request was carried out."""

    answer: Literal["done"] = "done"


@dataclass(frozen=True, slots=True)
class Accepted:
    """A limit is set, or pending; `value` is the accepted limit, MHz or W."""

    value: float
    answer: Literal["accepted"] = "accepted"


@dataclass(frozen=True, slots=True)
class RefusedAnswer:
    """The request was refused; `error` names a class of `steppe.errors`."""

    error: str
    message: str
    answer: Literal["refused"] = "refused"


@dataclass(frozen=True, slots=True)
class NotHolder:
    """The request was refused: the client has no lease, or its lease has expired."""

    answer: Literal["not_holder"] = "not_holder"


@dataclass(frozen=True, slots=True)
class GpuLimits:
    """The limits that the agent set on one GPU.

    Attributes:
        uuid: The GPU.
        clock_mhz: SM clock limit that may have to be undone, MHz; None where the clock is free.
        in_force_mhz: SM clock limit that the GPU accepted last, MHz; a later one that was refused
            or is pending does not count. None if the clock is free.
        power_limit_w: Board power limit, W; None if the agent did not change it.
        is_confirmed: Whether the SM clock has been observed to obey the limit in force.
        fault: The current error, if there is one.
        holder: Name of the client that holds it, as the client gave it; None where none does.
        holder_pid: Process of that client.
    """

    uuid: str
    clock_mhz: int | None
    in_force_mhz: int | None
    power_limit_w: float | None
    is_confirmed: bool
    fault: str | None
    holder: str | None = None
    holder_pid: int | None = None


@dataclass(frozen=True, slots=True)
class LeaseStatus:
    """One lease whose holder is alive.

    Attributes:
        holder: Name of the client, as it gave it.
        holder_pid: Its process.
        left_s: Time until the lease ends without a further message, s.
    """

    holder: str
    holder_pid: int
    left_s: float


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """The state of the agent.

    Attributes:
        leases: The leases whose holders are alive, the oldest first.
        loss: The loss policy, as `parse_loss` reads it.
        gpus: The GPUs in PCI order.
    """

    leases: tuple[LeaseStatus, ...]
    loss: str
    gpus: tuple[GpuLimits, ...]
    answer: Literal["status"] = "status"


Answer = Done | Accepted | RefusedAnswer | NotHolder | AgentStatus

_REQUEST: TypeAdapter[Request] = TypeAdapter(Annotated[Request, Field(discriminator="ask")])
_ANSWER: TypeAdapter[Answer] = TypeAdapter(Annotated[Answer, Field(discriminator="answer")])


def encode_request(request: Request) -> bytes:
    """Write a request as one line."""
    return _REQUEST.dump_json(request) + b"\n"


def encode_answer(answer: Answer) -> bytes:
    """Write an answer as one line."""
    return _ANSWER.dump_json(answer) + b"\n"


def decode_request(line: bytes) -> Request:
    """Read a request.

    Raises:
        AgentError: The line is not one.
    """
    try:
        return _REQUEST.validate_json(line)
    except ValidationError as error:
        raise AgentError(f"not a request: {line[:200]!r}") from error


def decode_answer(line: bytes) -> Answer:
    """Read an answer.

    Raises:
        AgentError: The line is not one.
    """
    try:
        return _ANSWER.validate_json(line)
    except ValidationError as error:
        raise AgentError(f"not an answer: {line[:200]!r}") from error

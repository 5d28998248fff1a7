"""Messages between a client and the agent: one JSON object per line, one answer per request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from steppe.errors import AgentError

LONGEST_LINE = 1 << 16

Finite = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class TakeLease:
    """Take the lease; it ends after `lease_s` without a message."""

    lease_s: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    ask: Literal["take_lease"] = "take_lease"


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Renew the lease."""

    ask: Literal["beat"] = "beat"


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
class ResetLimits:
    """Undo the holder's limits on one GPU, or on all."""

    uuid: str | None
    ask: Literal["reset_limits"] = "reset_limits"


@dataclass(frozen=True, slots=True)
class Release:
    """Undo everything and end the lease."""

    ask: Literal["release"] = "release"


@dataclass(frozen=True, slots=True)
class AskStatus:
    """Ask for the limits and the holder of the lease; any client may."""

    ask: Literal["status"] = "status"


Request = TakeLease | Heartbeat | SetClockLimit | SetPowerLimit | ResetLimits | Release | AskStatus


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
    """The request was refused: another process holds the lease, or the lease has expired."""

    holder_pid: int | None
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
    """

    uuid: str
    clock_mhz: int | None
    in_force_mhz: int | None
    power_limit_w: float | None
    is_confirmed: bool
    fault: str | None


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """The state of the agent.

    Attributes:
        holder_pid: Process that holds the lease, if one does.
        lease_left_s: Time until the lease ends without a further message, s; 0 without a holder.
        loss: The loss policy, as `parse_loss` reads it.
        gpus: The GPUs in PCI order.
    """

    holder_pid: int | None
    lease_left_s: float
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

"""Why a request gets no slot, or has to leave the one that it has."""

from __future__ import annotations

from steppe.errors import SteppeError
from steppe.gateway.replica_client import ReplicaLostError


class RefusedError(SteppeError):
    """A request gets no slot, or has to leave it; the client may try again later.

    Attributes:
        code: `queue_full`, `gave_way`, `waited_too_long`, `no_replica` or `stopping`.
    """

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class HandedOverError(ReplicaLostError):
    """A replica gave a request away that can go on elsewhere."""


class MovedError(SteppeError):
    """A request that waited goes to another variant of the alias that it asks for.

    Attributes:
        model: The variant.
    """

    def __init__(self, model: str) -> None:
        super().__init__(f"the request goes to {model}")
        self.model = model

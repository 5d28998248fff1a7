"""What a person is told where a command needs GPUs and this host has none."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from steppe.errors import BackendUnavailableError


@contextmanager
def needing_gpus(otherwise: str) -> Generator[None]:
    """Say that a block asks for the GPUs of this host, where there are none, and what does not.

    Args:
        otherwise: What works without them.

    Raises:
        BackendUnavailableError: There is no driver, no library, or they do not match.
    """
    try:
        yield
    except BackendUnavailableError as error:
        raise BackendUnavailableError(
            f"asked for the GPUs of this host, found no driver that answers ({error}); {otherwise}"
        ) from error

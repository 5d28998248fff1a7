"""The error of a command that needs GPUs on a host without any."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from steppe.errors import BackendUnavailableError


@contextmanager
def explaining_missing_gpus(alternative: str) -> Generator[None]:
    """Add to the error of a missing GPU driver what works without one.

    Args:
        alternative: What works without GPUs.

    Raises:
        BackendUnavailableError: There is no driver, no library, or they do not match.
    """
    try:
        yield
    except BackendUnavailableError as error:
        raise BackendUnavailableError(
            f"asked for the GPUs of this host, found no driver that answers ({error}); "
            f"{alternative}"
        ) from error

"""The failures of a start, with the place of Ray's logs."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import ray

from steppe.errors import ReplicaError, StartError, notes_of
from steppe.fleet.cluster import error_line, session_logs


@contextmanager
def start_errors() -> Generator[None]:
    """Turn the failure of an actor into a StartError that names Ray's logs.

    Raises:
        StartError: An actor could not be started, or does not answer.
    """
    try:
        yield
    except (ReplicaError, ray.exceptions.RayError) as error:
        logs, line = session_logs(), error_line(error)
        found = StartError(line if logs is None else f"{line}; see {logs}")
        for note in notes_of(error):
            found.add_note(note)
        raise found from error

"""What a node actor keeps for the next one: a file in memory, replaced at each change.

An actor that Ray restarts finds its replicas, their limits and the windows that were not
acknowledged yet, and continues to meter where the last window was closed.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from steppe.fleet.messages import NodeReport


@dataclass(frozen=True, slots=True)
class AssignmentRecord:
    """One replica on its node, at the end of its last window.

    Attributes:
        replica: Its name.
        gpu_indices: NVML indices of its GPUs.
        phase: Its state: how energy counts that no step explains.
        clock_mhz: SM clock limit that was set, MHz; 0 for none.
        batch_limit: Batch limit that was set.
        read_to: How far the step records of its control block were read.
        output_tokens: Tokens that its engine has sampled.
        reported_s: End of the window, s, on the monotonic clock of the machine.
        owed_j: Energy of the window that is not attributed yet, J.
        counters_j: Energy counters at that end, by UUID, J.
        tokens_per_step: Most tokens in one step that was set; 0 for none.
        holds: Whether the batch limit binds running requests, too.
        model: Name under which clients request its model.
    """

    replica: str
    gpu_indices: tuple[int, ...]
    phase: str
    clock_mhz: int
    batch_limit: int
    read_to: int
    output_tokens: int
    reported_s: float
    owed_j: float
    counters_j: dict[str, float]
    tokens_per_step: int = 0
    holds: bool = True
    model: str = ""


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """A node at one instant.

    Attributes:
        number: Number of its last report.
        reports: Reports that were not acknowledged.
        replicas: Its replicas.
    """

    number: int = 0
    reports: tuple[NodeReport, ...] = ()
    replicas: tuple[AssignmentRecord, ...] = ()


_log = logging.getLogger(__name__)

_RECORD = TypeAdapter(NodeRecord)


class NodeJournal:
    """The file of one node; its folder is private to the run."""

    def __init__(self, path: Path) -> None:
        """Name the file."""
        self._path, self._is_written = path, True

    def read(self) -> NodeRecord:
        """Return what was written last; an empty record for the first actor of the node."""
        try:
            return _RECORD.validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return NodeRecord()

    def write(self, record: NodeRecord) -> None:
        """Replace the content; if that is interrupted or memory is full, the old one stays."""
        draft = self._path.with_name(self._path.name + ".draft")
        was_written, self._is_written = self._is_written, True
        try:
            draft.write_text(json.dumps(_RECORD.dump_python(record)))
            draft.replace(self._path)
        except OSError as error:
            self._is_written = False
            if was_written:
                _log.warning("%s: cannot be written: %s", self._path, error.strerror)

"""What a node actor remembers across its own death: a file in memory, replaced at each change.

An actor that Ray starts again finds its seats, its limits and the windows that nobody has
acknowledged yet, and meters on from where its predecessor closed its last window.
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
    """One replica's seat at the end of its last window.

    Attributes:
        replica: Its name.
        gpu_indices: NVML indices of its GPUs.
        phase: How its energy counts when no step explains it.
        clock_mhz: SM clock limit that was set, MHz; 0 for none.
        batch_limit: Batch limit that was set.
        read_to: How far the step records of its control block were read.
        output_tokens: Tokens that its engine had sampled.
        seen_s: End of the window, s, on the monotonic clock of the machine.
        owed_j: Energy of the window that no step or pause accounts for yet, J.
        counters_j: What the energy counters showed then, by UUID, J.
    """

    replica: str
    gpu_indices: tuple[int, ...]
    phase: str
    clock_mhz: int
    batch_limit: int
    read_to: int
    output_tokens: int
    seen_s: float
    owed_j: float
    counters_j: dict[str, float]


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """A node at one instant.

    Attributes:
        number: Number of its last report.
        reports: Reports that were not acknowledged.
        seats: Its replicas.
    """

    number: int = 0
    reports: tuple[NodeReport, ...] = ()
    seats: tuple[AssignmentRecord, ...] = ()


_log = logging.getLogger(__name__)

_MEMORY = TypeAdapter(NodeRecord)


class NodeJournal:
    """The file of one node; its folder is private to the run."""

    def __init__(self, path: Path) -> None:
        """Name the file."""
        self._path, self._is_kept = path, True

    def read(self) -> NodeRecord:
        """Return what was written last; nothing when this is the first life of the node."""
        try:
            return _MEMORY.validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return NodeRecord()

    def write(self, memory: NodeRecord) -> None:
        """Replace the content; a death in between leaves the old one, as does a full memory."""
        draft = self._path.with_name(self._path.name + ".draft")
        kept, self._is_kept = self._is_kept, True
        try:
            draft.write_text(json.dumps(_MEMORY.dump_python(memory)))
            draft.replace(self._path)
        except OSError as error:
            self._is_kept = False
            if kept:
                _log.warning("%s: cannot be written: %s", self._path, error.strerror)

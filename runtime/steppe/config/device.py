"""Which GPUs: real, emulated or modelled."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from steppe.config.section import FilePath, NonNegative, Section

AGENT_SOCKET = Path("/run/steppe/agent.sock")
"""Where the agent of a host listens unless it is told otherwise."""


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("each node looks for it in its own file system: give an absolute path")
    return path


NodePath = Annotated[FilePath, AfterValidator(_absolute)]
"""A path in the file system of each node."""


class PaceSection(Section):
    """How long a step of the emulated GPU takes at its full clock; never measured.

    A step with `n` decoding sequences and `p` prompt tokens takes at least
    `weights_s + (decode_s n + prefill_s p) / (clock / full clock)`.
    """

    weights_s: NonNegative = 0.03
    """Streaming the weights from memory once, s; does not depend on the SM clock."""
    decode_s: NonNegative = 0.002
    """Computing one decoding sequence, s at the full clock."""
    prefill_s: NonNegative = 0.001
    """Computing one prompt token, s at the full clock."""


class ZeusdSection(Section):
    """Set clock limits through a running zeusd (Zeus's daemon), not through an agent.

    For sites where zeusd has the privilege and nothing else may have it. It has no dead-man
    lease: when a node is killed, its clock limits stay.
    """

    socket: NodePath = Path("/run/zeusd/zeusd.sock")
    """Where it listens, on every node."""
    token_file: NodePath | None = None
    """File with the bearer token (scope `gpu-control`), where the daemon asks for one."""


class NvmlSection(Section):
    """Real NVIDIA GPUs."""

    kind: Literal["nvml"]
    agent_socket: NodePath = AGENT_SOCKET
    """Where the agent of each node listens. Where none answers, or it does not let us set limits,
    the run starts one of its own there, which needs the privilege itself."""
    zeusd: ZeusdSection | None = None
    """Who sets the clock limits in place of an agent."""


class EmulatedSection(Section):
    """GPUs that an emulated libnvidia-ml answers for."""

    kind: Literal["emulated"]
    profile: Literal["l4", "a100", "h100", "h200", "b200", "v100"] = "l4"
    count: Annotated[int, Field(ge=1, le=16)] = 2
    """GPUs on each node."""
    pace: PaceSection = PaceSection()


class ModelledSection(Section):
    """GPUs that exist in a formula only; `steppe simulate` alone can run on them."""

    kind: Literal["modelled"]
    gpu: str = "h100"
    """A GPU that the energy roofline knows."""


DeviceSection = Annotated[
    NvmlSection | EmulatedSection | ModelledSection, Field(discriminator="kind")
]

"""Which GPUs the run uses: real, emulated or modelled."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from steppe.config.section import Count, FilePath, NonNegative, Section

AGENT_SOCKET = Path("/run/steppe/agent.sock")
"""Default socket of the agent of a host."""


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("each node looks for it in its own file system: give an absolute path")
    return path


NodePath = Annotated[FilePath, AfterValidator(_absolute)]
"""A path in the file system of each node."""


class PaceSection(Section):
    """How long a step of the emulated GPU takes; an assumption, never a measurement.

    A step with `n` decoding sequences, `c` tokens of their context and `p` prompt tokens streams
    for `m = weights_s + context_s c`, whatever the SM clock is, and computes for
    `k = (decode_s n + prefill_s p) / (clock / highest clock)`. It takes at least
    `launch_s + (m^overlap + k^overlap)^(1/overlap)`. With the defaults of the last three keys that
    is `m + k`. With an overlap of about 4 the longer of both nearly hides the other, as on real
    GPUs: a step that is bound by memory then hardly depends on the clock, and its power neither.
    """

    weights_s: NonNegative = 0.03
    """Time to stream the weights from memory once, s; independent of the SM clock."""
    decode_s: NonNegative = 0.002
    """Compute time of one decoding sequence at the highest clock, s."""
    prefill_s: NonNegative = 0.001
    """Compute time of one prompt token at the highest clock, s."""
    context_s: NonNegative = 0.0
    """Time to stream keys and values of one token of context from memory, s; independent of the SM
    clock."""
    launch_s: NonNegative = 0.0
    """Time to launch a step, s; cores and memory rest meanwhile."""
    overlap: Annotated[float, Field(ge=1, le=100)] = 1.0
    """Exponent with which streaming and computing overlap: 1 for one after the other, infinite for
    the longer of both."""


class ZeusdSection(Section):
    """Set clock limits through a running zeusd (the daemon of Zeus) instead of an agent.

    For sites where only zeusd may have the privilege. zeusd has no dead-man lease: if a node is
    killed, its clock limits stay.
    """

    socket: NodePath = Path("/run/zeusd/zeusd.sock")
    """Unix socket of zeusd on every node; an absolute path."""
    token_file: NodePath | None = None
    """File with the bearer token (scope `gpu-control`), if zeusd requires one; an absolute path."""


class NvmlSection(Section):
    """Real NVIDIA GPUs."""

    kind: Literal["nvml"]
    """Selects real NVIDIA GPUs, read and controlled through NVML."""
    agent_socket: NodePath = AGENT_SOCKET
    """Unix socket of the agent on every node; an absolute path. Where no agent answers, or the
    agent does not accept this user, the run starts its own agent, which needs CAP_SYS_ADMIN."""
    zeusd: ZeusdSection | None = None
    """Set clock limits through zeusd instead of an agent."""


class EmulatedSection(Section):
    """GPUs served by an emulated `libnvidia-ml`; their energy is always labelled `emulated`."""

    kind: Literal["emulated"]
    """Selects emulated GPUs."""
    profile: Literal["l4", "a100", "h100", "h200", "b200", "v100"] = "l4"
    """GPU type to emulate: clocks, draw and thermal behaviour."""
    count: Annotated[int, Field(ge=1, le=16)] = 2
    """Number of GPUs on each node."""
    pace: PaceSection = PaceSection()
    """How long a step takes."""


class ModelledSection(Section):
    """GPUs computed from the energy roofline; only `steppe simulate` can run on them."""

    kind: Literal["modelled"]
    """Selects modelled GPUs."""
    gpu: str = "h100"
    """A GPU of `configs/gpus`, or the path of a GPU file."""
    gpus_per_node: Count = 8
    """GPUs of one machine, which is switched off as a whole."""
    clock_curve: Literal["low", "nominal", "high"] = "nominal"
    """How time and draw follow the clock: as fitted, or one standard error of the fit lower (low
    clocks save more) or higher (they save less). Run all three to see how far a result holds."""


DeviceSection = Annotated[
    NvmlSection | EmulatedSection | ModelledSection, Field(discriminator="kind")
]

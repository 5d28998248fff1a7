"""Which GPUs: real, emulated or modelled."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from steppe.config.section import NonNegative, Section


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
    """Set clock limits through a running zeusd (Zeus's daemon), not through an agent of our own.

    For sites where zeusd has the privilege and nothing else may have it. It has no dead-man
    lease: when a node is killed, its clock limits stay.
    """

    socket: Path = Path("/run/zeusd/zeusd.sock")
    """Where it listens, on every node."""
    token_file: Path | None = None
    """File with the bearer token (scope `gpu-control`), where the daemon asks for one."""

    @field_validator("socket", "token_file")
    @classmethod
    def _is_absolute(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_absolute():
            raise ValueError("each node looks for it in its own file system: give an absolute path")
        return path


class NvmlSection(Section):
    """Real NVIDIA GPUs."""

    kind: Literal["nvml"]
    zeusd: ZeusdSection | None = None
    """Who sets the clock limits; each node starts an agent of its own when absent."""


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

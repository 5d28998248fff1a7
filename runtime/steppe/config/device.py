"""Which GPUs: real, emulated or modelled."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

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


class NvmlSection(Section):
    """Real NVIDIA GPUs."""

    kind: Literal["nvml"]


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

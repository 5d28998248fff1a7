"""Which GPUs the run uses: real, emulated or modelled."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from steppe.config.section import Count, FilePath, NonNegative, Section, Share

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


EmulatedGpu = Literal["l4", "a100", "h100", "h200", "b200", "v100"]
"""A GPU that can be emulated."""


class GpuFaultSection(Section):
    """Faults of the hardware of one emulated GPU, or of all of a node, from the start of a run."""

    gpu: Annotated[int, Field(ge=0, le=15)] | None = None
    """The GPU, in PCI order; if absent: every GPU of a node."""
    uncorrected_ecc_errors: Annotated[int, Field(ge=0, le=10**9)] = 0
    """Memory errors that ECC could not correct; a row remap is pending as well."""
    xid: Annotated[int, Field(ge=1, le=10**9)] | None = None
    """Number of an Xid that is reported once."""
    counter_scale: Annotated[float, Field(ge=0, le=1000)] = 1.0
    """Joules that the energy counter adds per true joule: 0.6 reads 40 % low."""
    neighbour_load: Share = 0.0
    """A process of another user (pid 1) uses this share of compute and of memory time."""
    thermal_slowdown: bool = False
    """The clock is cut because the GPU is hot, as its software reports."""
    power_brake: bool = False
    """The clock is halved because the power supply asks for it."""
    permission: bool = True
    """Whether a process with privilege may change the limits of this GPU."""

    @property
    def spec(self) -> str:
        """The faults in the form of `steppe.emulator.hardware_faults`."""
        reasons = 32 * self.thermal_slowdown + 128 * self.power_brake
        values: tuple[tuple[str, float], ...] = (
            ("ecc", self.uncorrected_ecc_errors),
            ("xid", self.xid or 0),
            ("neighbour", self.neighbour_load),
            ("reasons", reasons),
            ("no_permission", not self.permission),
        )
        items = [(name, value) for name, value in values if value]
        if self.counter_scale != 1.0:
            items.append(("counter_scale", self.counter_scale))
        which = "*" if self.gpu is None else str(self.gpu)
        return ",".join(f"{which}:{name}={float(value):g}" for name, value in items)


class EmulatedSection(Section):
    """GPUs served by an emulated `libnvidia-ml`; their energy is always labelled `emulated`."""

    kind: Literal["emulated"]
    """Selects emulated GPUs."""
    profile: EmulatedGpu = "l4"
    """GPU type to emulate: clocks, draw and thermal behaviour."""
    count: Annotated[int, Field(ge=1, le=16)] = 2
    """Number of GPUs on each node."""
    profiles: Annotated[tuple[EmulatedGpu, ...], Field(max_length=16, strict=False)] = ()
    """GPU types in PCI order, for nodes with several models; instead of `profile` and `count`."""
    pace: PaceSection = PaceSection()
    """How long a step takes."""
    faults: Annotated[tuple[GpuFaultSection, ...], Field(strict=False)] = ()
    """Faults of the hardware, for trials."""

    @model_validator(mode="after")
    def _name_gpus_once(self) -> Self:
        if self.profiles and {"profile", "count"} & self.model_fields_set:
            raise ValueError("profiles: asked for it beside profile or count: give one of them")
        for fault in self.faults:
            if fault.gpu is not None and fault.gpu >= len(self.gpu_types):
                raise ValueError(
                    f"faults: asked for GPU {fault.gpu}, found {len(self.gpu_types)} GPUs"
                )
        return self

    @property
    def gpu_types(self) -> tuple[str, ...]:
        """The type of each GPU of a node, in PCI order."""
        return self.profiles or (self.profile,) * self.count

    @property
    def spec(self) -> str:
        """The GPUs in the form of the emulator: such as `h100x2,a100x1`."""
        groups = ((name, len(list(group))) for name, group in groupby(self.gpu_types))
        return ",".join(f"{name}x{count}" for name, count in groups)

    @property
    def faults_spec(self) -> str:
        """The faults in the form of `steppe.emulator.hardware_faults`; empty for none."""
        return ",".join(fault.spec for fault in self.faults if fault.spec)


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

"""What travels between driver, controller, nodes and replicas: frozen values only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from steppe.config import EmulatedSection, NvmlSection
from steppe.roofline.architecture.shape import ModelShape

CHANGE_S = 30.0
"""Longest time of a freeze or a thaw, s: it waits for the step that runs, and one with long prompts
takes many seconds on a few CPU cores."""


@dataclass(frozen=True, slots=True)
class GpuInfo:
    """One GPU of a node.

    Attributes:
        index: Its NVML index, PCI order.
        uuid: Its name for ever.
        name: What the vendor calls it.
        clocks_mhz: SM clocks that can be set, rising, MHz; empty when it has no such knob, or
            when nobody on its node may turn it.
        power_limit_w: Highest board power limit, W; None where NVML does not say.
    """

    index: int
    uuid: str
    name: str
    clocks_mhz: tuple[int, ...]
    power_limit_w: float | None = None


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """One machine of the cluster.

    Attributes:
        id: Ray's id of the node.
        gpus: Its GPUs.
        cores: CPU cores that this process may use.
        energy_source: How well its meters find joules while all goes well.
    """

    id: str
    gpus: tuple[GpuInfo, ...]
    cores: tuple[int, ...]
    energy_source: str


@dataclass(frozen=True, slots=True)
class SeamHook:
    """Which step hook an engine gets, see `steppe.engine.seam`; empty for none."""

    hook: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GpuAssignment:
    """A replica's place on its node.

    Attributes:
        replica: Its name.
        control_block: Path of the file it shares with the node.
        block_id: Tells that file from a later one in its place.
        hook: The step hook of its engine.
        cores: CPU cores of its engine.
    """

    replica: str
    control_block: str
    block_id: int
    hook: SeamHook
    cores: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a replica runs.

    Attributes:
        replica: Its name.
        actor: Ray handle of its actor.
        node_id: Ray's id of its node.
        node: Ray handle of the node's actor.
        gpu_indices: NVML indices of its GPUs.
        cores: CPU cores of its engine; empty: any.
        limits_clocks: Whether the clocks of its GPUs can be limited.
    """

    replica: str
    actor: Any
    node_id: str
    node: Any
    gpu_indices: list[int]
    cores: tuple[int, ...]
    limits_clocks: bool = True


@dataclass(frozen=True, slots=True)
class SetLimits:
    """New limits of one replica.

    Attributes:
        clock_mhz: SM clock limit of its GPUs, MHz; None: the lowest there is. Who is put to sleep
            may get that of its last step first.
        batch_limit: Most sequences decoded at once.
        phase: How its energy counts from now on when no step explains it.
    """

    replica: str
    clock_mhz: int | None
    batch_limit: int
    phase: str


@dataclass(frozen=True, slots=True)
class ReplicaReport:
    """What a node says about a replica in one window.

    Attributes:
        replica: Its name.
        clock_mhz: SM clock limit that is set, MHz; 0 when none could be set.
        batch_limit: Batch limit that is set.
        draw_w: Mean draw of its GPUs over the window, W; None when one has no reading in it.
        energy_j: Energy of its GPUs over the window, J.
        error_j: Bound of the error of `energy_j`, J.
        quality: How the energy was found, of the window and of what was shared out after it.
        running: Requests that hold KV cache.
        waiting: Requests that the engine has not admitted.
        output_tokens: Tokens sampled in the window.
        requests_uj: Energy attributed to requests, by key, uJ.
        tokens: Prompt and output tokens of requests, by key.
        idle_uj: Energy without work, uJ.
        transition_uj: Energy of starting, uJ.
        rest_w: The most it was seen to draw without work, W; None before it ever rested.
        obeys: Whether its GPUs are there and keep the clock limit that was asked for. One that
            does not may draw more than was planned, so it has to sleep.
        stepping: Whether a step may be under way, as far as its engine has told, or has ended
            after the window.
        wrong_inside: Whether the error lies not at the ends of the window alone.
    """

    replica: str
    clock_mhz: int
    batch_limit: int
    draw_w: float | None
    energy_j: float
    error_j: float
    quality: str
    running: int
    waiting: int
    output_tokens: int
    requests_uj: dict[int, int]
    tokens: dict[int, tuple[int, int]]
    idle_uj: int
    transition_uj: int
    rest_w: float | None = None
    obeys: bool = True
    stepping: bool = False
    wrong_inside: bool = False

    @property
    def metered_s(self) -> float:
        """Length of the window as far as it was metered, s."""
        return self.energy_j / self.draw_w if self.draw_w else 0.0


def mean_draw_w(reports: Iterable[ReplicaReport]) -> float | None:
    """Return the mean draw over windows of one replica, W; None where no meter gave a reading."""
    metered = [report for report in reports if report.metered_s > 0]
    if not metered:
        return None
    return sum(r.energy_j for r in metered) / sum(r.metered_s for r in metered)


@dataclass(frozen=True, slots=True)
class NodeReport:
    """One window of one node; kept by the node until a later call acknowledges it.

    Attributes:
        node: Ray's id of the node.
        number: Counts up from 1.
        replicas: Its replicas.
    """

    node: str
    number: int
    replicas: tuple[ReplicaReport, ...]


@dataclass(frozen=True, slots=True)
class ReplicaTotals:
    """Running totals of one replica at one instant, for sweeps.

    Attributes:
        time_s: The instant, on the node's clock.
        energy_j: Energy of its GPUs since the first reading, J.
        output_tokens: Tokens sampled since its engine started.
        prompt_tokens: Prompt tokens computed since then.
        steps: Engine steps since then.
        error_j: Bound of the error of the energy since the last reading, J.
        quality: How the energy since the last reading was found.
        running: Requests that hold KV cache, or did in the latest step.
        waiting: Requests that the engine has not admitted.
    """

    time_s: float
    energy_j: float
    output_tokens: int
    prompt_tokens: int
    steps: int
    error_j: float
    quality: str
    running: int
    waiting: int


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """What a replica says about itself.

    Attributes:
        url: Where its HTTP app listens; empty before it was started.
        frozen: Whether it is parked.
        pid: Its process.
        block_id: Which control block its engine maps, or will when it has started; 0 for none.
    """

    url: str
    frozen: bool
    pid: int
    block_id: int = 0


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """What a node actor is told.

    Attributes:
        run_id: Name of the run, part of every file it leaves.
        device: Its GPUs.
        lease_s: The agent undoes our limits when it has heard nothing for so long, s.
        model: What its replicas serve, for attribution; None where its shape is not known.
        gpus_per_replica: GPUs of each replica.
    """

    run_id: str
    device: NvmlSection | EmulatedSection
    lease_s: float
    model: ModelShape | None
    gpus_per_replica: int

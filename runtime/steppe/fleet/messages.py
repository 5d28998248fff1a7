"""What driver, controller, nodes and replicas send each other: frozen values only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from steppe.config import EmulatedSection, NvmlSection, PaceSection, SiteSection
from steppe.control.measurements import ClockWork
from steppe.energy.node_rest import NodeRest
from steppe.gateway.server import FinishedRequest
from steppe.power.budget import Budget
from steppe.report.records import GpuEvent, TickRecord
from steppe.roofline.architecture.shape import ModelShape

CHANGE_S = 30.0
"""Longest time of a freeze or a thaw, s: it waits for the step that runs, and one with long prompts
takes many seconds on a few CPU cores."""


@dataclass(frozen=True, slots=True)
class GpuInfo:
    """One GPU of a node.

    Attributes:
        index: Its NVML index, PCI order.
        name: The vendor's product name.
        clocks_mhz: SM clocks that can be set, ascending, MHz; empty if the clock of this GPU cannot
            be limited, or not by a process on its node.
        power_limit_w: Highest board power limit, W; None where NVML does not report one.
        lowest_power_limit_w: Lowest board power limit that can be set, W; None where none can be
            set, or not by a process on its node that undoes it.
    """

    index: int
    name: str
    clocks_mhz: tuple[int, ...]
    power_limit_w: float | None = None
    lowest_power_limit_w: float | None = None

    @property
    def power_range_w(self) -> tuple[float, float] | None:
        """Lowest and highest board power limit that can be set, W; None where none can."""
        if self.power_limit_w is None or self.lowest_power_limit_w is None:
            return None
        return self.lowest_power_limit_w, self.power_limit_w


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """One machine of the cluster.

    Attributes:
        gpus: Its GPUs.
        cores: CPU cores that this process may use.
        energy_source: Worst energy quality of its GPUs while no meter fails.
    """

    gpus: tuple[GpuInfo, ...]
    cores: tuple[int, ...]
    energy_source: str


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What a node needs to know of a model that its replicas serve.

    Attributes:
        shape: Its shape, for attribution; None where it is not known.
        gpus_per_replica: GPUs of each replica.
        pace: How long its steps take on emulated GPUs; None for that of the device.
    """

    shape: ModelShape | None
    gpus_per_replica: int = 1
    pace: PaceSection | None = None


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """How to make a node actor.

    Attributes:
        run_id: Name of the run, part of every file it leaves.
        device: Its GPUs.
        lease_s: The agent undoes our limits after so long without a heartbeat, s.
        models: What its replicas serve, by the name that clients use.
        deadman_s: Replicas pause whose limits no tick renewed for so long, s.
        site: Its power beside the GPUs, and what joules enclose.
        overhead_w: Its part of the overhead of the site, W.
        address: The address by which Ray knows it.
    """

    run_id: str
    device: NvmlSection | EmulatedSection
    lease_s: float
    models: Mapping[str, ServedModel]
    deadman_s: float = 3.0
    site: SiteSection = field(default_factory=SiteSection)
    overhead_w: float = 0.0
    address: str = ""


@dataclass(frozen=True, slots=True)
class SeamHook:
    """Which step hook an engine gets, see `steppe.engine.seam`; empty for none."""

    hook: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GpuAssignment:
    """What a replica needs from its node to start an engine.

    Attributes:
        replica: Its name.
        control_block: Path of the file it shares with the node.
        block_id: Distinguishes that file from a later one at the same path.
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
        power_ranges_w: Lowest and highest board power limit of each of its GPUs, W; empty where
            they are not to be set.
        pool: The pool that it belongs to; empty where there is only one.
        model: Name under which clients request its model.
        settings: The engine that it starts with; None for the one that its actor was made with.
    """

    replica: str
    actor: Any
    node_id: str
    node: Any
    gpu_indices: list[int]
    cores: tuple[int, ...]
    limits_clocks: bool = True
    power_ranges_w: tuple[tuple[float, float], ...] = ()
    pool: str = ""
    model: str = ""
    settings: Any = None

    def in_pool(self, pool: str, model: str, settings: Any) -> Placement:
        """Return where the replica runs once it belongs to another pool, with another engine."""
        return replace(self, pool=pool, model=model, settings=settings)


@dataclass(frozen=True, slots=True)
class ReplicaPowerLimits:
    """Board power limits on one node, now and in case no tick renews them.

    Attributes:
        after_s: When each step begins, s from the receipt; the first at 0.
        limits_w: For each replica by name, for each of its GPUs: the limits in these steps, W.
        keep_s: How long the last step lasts if the node actor dies, s from the receipt.
    """

    after_s: tuple[float, ...]
    limits_w: Mapping[str, tuple[tuple[float, ...], ...]]
    keep_s: float


@dataclass(frozen=True, slots=True)
class SetLimits:
    """New limits of one replica.

    Attributes:
        replica: Its name.
        clock_mhz: SM clock limit of its GPUs, MHz; None: the lowest there is. A replica that is put
            to sleep may first get the limit of its last step.
        batch_limit: Most sequences decoded at once.
        phase: The replica's state: how energy counts from now on that no step explains.
        tokens_per_step: Most tokens in one step; 0: the engine's own limit.
        holds: Whether the batch limit binds running requests, too, which are then held in turns;
            otherwise it binds new requests only.
    """

    replica: str
    clock_mhz: int | None
    batch_limit: int
    phase: str
    tokens_per_step: int = 0
    holds: bool = True


@dataclass(frozen=True, slots=True)
class ReplicaReport:
    """One replica in one window of its node.

    Attributes:
        replica: Its name.
        clock_mhz: SM clock limit that is set, MHz; 0 when none could be set.
        batch_limit: Batch limit that is set.
        draw_w: Mean draw of its GPUs over the window, W; None when one has no reading in it.
        energy_j: Energy of its GPUs over the window, J.
        error_j: Bound of the error of `energy_j`, J.
        quality: Worst energy quality of the window and of the energy attributed after it.
        running: Requests that hold KV cache.
        output_tokens: Tokens sampled in the window.
        requests_uj: Energy attributed to requests, by key, uJ.
        tokens: Prompt and output tokens of requests, by key.
        idle_uj: Energy without work, uJ.
        transition_uj: Energy of starting, uJ.
        max_idle_w: The largest draw metered without work, W; None before it was ever idle.
        controllable: Whether its GPUs are reachable and keep their clock limit. A replica that is
            not controllable may draw more than planned, so it has to sleep.
        stepping: Whether a step may be in progress, as far as its engine has reported, or has ended
            after the window.
        wrong_inside: Whether the error lies not at the ends of the window alone.
        waiting: Requests that its engine has not admitted.
        tokens_per_step: Most tokens in one step that is set; 0: the engine's own limit.
        clock_is_free: Whether there is no permission for the clock of one of its GPUs, though there
            is for others.
        work: What its steps did and took; None if there was none, steps were lost, energy or idle
            draw are not known, or the clock limit changed in the window or did not hold all through
            it.
        beside_j: Energy beside its GPUs that its requests, idle time and starts were charged, J; 0
            where joules enclose the GPUs alone.
        beside_error_j: Error of it, J.
        neighbour_j: Energy that other users of its GPUs took in the window, J; not in `energy_j`.
        conditions: What holds for its GPUs, see `ReplicaTick.conditions`.
        counter_ratio: Joules of its energy counters for each joule of the power readings, of the
            GPU that is farthest from 1; None before a check.
        stopped: Whether a process of its engine is stopped, as by SIGSTOP.
        silent_s: For how long it has had work, or been stopped, without a step, s. A pause that was
            asked for is none: asleep, or with limits that have lapsed.
    """

    replica: str
    clock_mhz: int
    batch_limit: int
    draw_w: float | None
    energy_j: float
    error_j: float
    quality: str
    running: int
    output_tokens: int
    requests_uj: dict[int, int]
    tokens: dict[int, tuple[int, int]]
    idle_uj: int
    transition_uj: int
    max_idle_w: float | None = None
    controllable: bool = True
    stepping: bool = False
    wrong_inside: bool = False
    waiting: int = 0
    tokens_per_step: int = 0
    work: ClockWork | None = None
    clock_is_free: bool = False
    beside_j: float = 0.0
    beside_error_j: float = 0.0
    neighbour_j: float = 0.0
    conditions: tuple[str, ...] = ()
    counter_ratio: float | None = None

    @property
    def whole_j(self) -> float:
        """Energy of its GPUs, that of other users included, J."""
        return self.energy_j + self.neighbour_j

    stopped: bool = False
    silent_s: float = 0.0

    @property
    def metered_s(self) -> float:
        """Length of the window as far as it was metered, s."""
        return self.whole_j / self.draw_w if self.draw_w else 0.0


def mean_draw_w(reports: Iterable[ReplicaReport]) -> float | None:
    """Return the mean draw over windows of one replica, W; None where no meter gave a reading."""
    metered = [(r.whole_j, metered_s) for r in reports if (metered_s := r.metered_s) > 0]
    if not metered:
        return None
    return sum([whole_j for whole_j, _ in metered]) / sum([metered_s for _, metered_s in metered])


@dataclass(frozen=True, slots=True)
class NodeReport:
    """One window of one node; kept by the node until a later call acknowledges it.

    Attributes:
        number: Counts up from 1.
        replicas: Its replicas.
        rest: What the node draws beside its GPUs at the end of the window.
        events: What happened to its GPUs in the window.
    """

    number: int
    replicas: tuple[ReplicaReport, ...]
    rest: NodeRest | None = None
    events: tuple[GpuEvent, ...] = ()


@dataclass(frozen=True, slots=True)
class Drained:
    """How many of the requests that ended in a process of a gateway a driver has.

    Attributes:
        process: The process; empty before the first answer of any.
        number: How many.
    """

    process: str = ""
    number: int = 0


@dataclass(frozen=True, slots=True)
class EndedRequests:
    """Requests that ended; kept by their gateway until a later call acknowledges them.

    Attributes:
        before: Its process, and how many ended in it before these.
        requests: The requests, in the order they ended.
    """

    before: Drained
    requests: tuple[FinishedRequest, ...] = ()

    @property
    def after(self) -> Drained:
        """What a driver has that has taken these."""
        return replace(self.before, number=self.before.number + len(self.requests))

    def news(self, known: Drained) -> tuple[FinishedRequest, ...]:
        """Return those that a driver does not have yet."""
        if known.process != self.before.process:
            return self.requests
        return self.requests[max(0, known.number - self.before.number) :]


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
        quality: Energy quality since the last reading.
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
    """The state of a replica actor.

    Attributes:
        url: Where its HTTP app listens; empty before it was started.
        frozen: Whether its engine is frozen.
        block_id: Which control block its engine maps, or will when it has started; 0 for none.
        is_offloaded: Whether its weights are in the memory of the host.
        start_s: How long the engine took to start, without the download of the model, s.
    """

    url: str
    frozen: bool
    block_id: int = 0
    is_offloaded: bool = False
    start_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ControllerStatus:
    """How far a controller came, so that a restarted one can continue from there.

    Attributes:
        tick: The last tick.
        budget: Power budget of the window after it.
        numbers: The last window of each node that is part of a tick, by Ray's id of the node.
    """

    tick: TickRecord
    budget: Budget
    numbers: dict[str, int]


@dataclass(frozen=True, slots=True)
class ControllerUpdate:
    """What the driver has not received yet.

    Attributes:
        begun: False in a controller that restarted.
        ticks: Ticks that the driver has not acknowledged.
        status: How far the controller came; None before its first tick.
        budget_reads: How often its loop has read the budget; constant while it stalls.
        nodes_off: Nodes that are to be off, by Ray's id; None in a controller that restarted.
        moved: The pool of each replica that was moved to another one, by its name.
    """

    begun: bool
    ticks: list[TickRecord]
    status: ControllerStatus | None
    budget_reads: int
    nodes_off: frozenset[str] | None = None
    moved: Mapping[str, str] = field(default_factory=dict)

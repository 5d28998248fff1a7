"""One machine: meters its GPUs, seats its replicas, and carries out what the controller says."""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import ray

from steppe.agent.zeusd_client import ZeusdClient
from steppe.config import EmulatedSection, NvmlSection, ZeusdSection
from steppe.device.nvml import NvmlGpu, open_gpus
from steppe.emulator.environment import STATE_VARIABLE, activate, remove_state
from steppe.energy.gpu_meters import (
    EnergyHistory,
    GpuMeters,
    best_quality,
    wait_for_first_tick,
)
from steppe.energy.window import worst
from steppe.engine.control_block import ControlBlock
from steppe.errors import DeviceError
from steppe.fleet.messages import (
    GpuAssignment,
    GpuInfo,
    NodeInfo,
    NodeReport,
    NodeSettings,
    ReplicaReport,
    ReplicaStatus,
    ReplicaTotals,
    SeamHook,
    SetLimits,
)
from steppe.fleet.node.clock_limits import ClockLimits, ZeusdLimits
from steppe.fleet.node.journal import AssignmentRecord, NodeJournal, NodeRecord
from steppe.fleet.node.replica_meter import ReplicaMeter, block_path
from steppe.fleet.node.token_weights import token_weights
from steppe.fleet.stale_runs import (
    gpus_file_of_node,
    hold,
    remove_run,
    remove_stale_runs,
    run_folder,
    state_folder,
)

COUPLING = "steppe.emulator.coupling:couple"
LONGEST_WINDOW_S = 60.0


class Node:
    """The node actor: every call returns at once."""

    def __init__(self, settings: NodeSettings) -> None:
        """Open the GPUs, start the meters and the agent; go on where a dead predecessor ended.

        Raises:
            BackendUnavailableError: There is no GPU driver.
            InstallError: The emulated GPUs cannot be built here.
        """
        self._settings = settings
        self._id = str(ray.get_runtime_context().get_node_id())
        self._folder = run_folder(settings.run_id, self._id)
        if not self._folder.exists():  # the first life of this node
            remove_stale_runs(state_folder())
        self._held = hold(self._folder)
        self._state: Path | None = None
        if isinstance(settings.device, EmulatedSection):
            self._state = Path(os.environ.get(STATE_VARIABLE) or gpus_file_of_node(self._id))
            activate(settings.device.profile, settings.device.count, self._state)
        self._gpus: dict[str, NvmlGpu] = {gpu.uuid: gpu for gpu in open_gpus()}
        names = [gpu.capabilities.name for gpu in self._gpus.values()]
        self._weights = token_weights(
            settings.device, names, settings.model, settings.gpus_per_replica
        )
        self._meters = GpuMeters(self._gpus)
        self._seats: dict[str, ReplicaMeter] = {}
        self._journal = NodeJournal(self._folder / "journal.json")
        memory = self._journal.read()
        self._number, self._reports = memory.number, list(memory.reports)
        self._looked_to, self._reported_s = 0, 0.0
        self._lock, self._applying = threading.Lock(), threading.Lock()
        self._asked_s: defaultdict[str, float] = defaultdict(float)
        for seat in memory.seats:
            self._meters.resume_from(seat.seen_s, seat.counters_j)
        self._meters.start()
        self._limits = self._open_limits()
        # Clocks that a dead predecessor could limit are no less loose for our having nobody to ask.
        self._has_clocks = self._limits.can_set or any(seat.clock_mhz for seat in memory.seats)
        wait_for_first_tick(tuple(self._meters.histories.values()))
        for seat in memory.seats:
            self._resume(seat)
        self._is_closed = threading.Event()
        threading.Thread(target=self._close_windows, daemon=True, name="windows").start()

    def info(self) -> NodeInfo:
        """Return what the controller needs to know about this machine.

        Raises:
            ConfigError: The zeusd that was asked for is not there.
        """
        if isinstance(self._limits, ZeusdLimits):
            self._limits.require()
        gpus = tuple(
            GpuInfo(
                gpu.index,
                uuid,
                gpu.capabilities.name,
                gpu.capabilities.sm_clocks_mhz if self._has_clocks else (),
                gpu.capabilities.power_limit_range_w and gpu.capabilities.power_limit_range_w[1],
            )
            for uuid, gpu in self._gpus.items()
        )
        source = worst(best_quality(gpu.capabilities) for gpu in self._gpus.values())
        return NodeInfo(self._id, gpus, tuple(sorted(os.sched_getaffinity(0))), source)

    def assign(
        self,
        replica: str,
        gpu_indices: list[int],
        cores: tuple[int, ...],
        status: ReplicaStatus,
    ) -> GpuAssignment:
        """Give a replica its control block and begin to meter it.

        One whose engine runs on the block that it has keeps it; any other is seated anew.

        Raises:
            DeviceError: It asks for a GPU that is not here.
        """
        found = {gpu.index: uuid for uuid, gpu in self._gpus.items()}
        missing = [index for index in gpu_indices if index not in found]
        if missing:
            raise DeviceError(f"{replica}: asked for GPU {missing[0]}, found {sorted(found)}")
        meters = {found[i]: self._meters.histories[found[i]] for i in gpu_indices}
        path = block_path(self._folder, replica)
        with self._lock:
            if replica not in self._seats or self._seats[replica].block.id != status.block_id:
                since_s = self._unseat(replica, meters)
                path.unlink(missing_ok=True)  # an engine that still maps the old file keeps it
                block = ControlBlock.create(path)
                self._seats[replica] = ReplicaMeter(replica, block, meters, since_s)
                self._write_down()
            block_id = self._seats[replica].block.id
        return GpuAssignment(replica, str(path), block_id, self._hook(gpu_indices), cores)

    def apply(self, changes: list[SetLimits], asked_s: float) -> None:
        """Set limits; what lowers the draw comes first in the list and is done first.

        Calls of several ticks may be here at once, for a GPU can take its time: what a later one
        asks of a replica goes before what an earlier one does.

        Args:
            changes: New limits.
            asked_s: When they were asked for, s on the monotonic clock of the driver's host, which
                runs on from one run of a fleet to the next; compared with each other only.
        """
        with self._lock:
            for change in changes:
                self._asked_s[change.replica] = max(self._asked_s[change.replica], asked_s)
        with self._applying:
            for change in changes:
                seat = self._seats.get(change.replica)
                if seat is not None and self._asked_s[change.replica] <= asked_s:
                    seat.enter(change.phase, time.monotonic())
                    seat.set_batch_limit(change.batch_limit)
                    self._limit_clocks(seat, change.clock_mhz)
        with self._lock:
            self._write_down()

    def report(self, after: int, is_last: bool = False) -> list[NodeReport]:
        """Close a window and return it, with those before it that are kept and come `after`.

        The last one of a run also takes in the beginning of each step that is under way.
        """
        self._look_at_clocks()
        with self._lock:
            self._looked_to, self._reported_s = after, time.monotonic()
            seats = self._seats.values()
            self._keep(tuple(seat.report(self._weights, is_last=is_last) for seat in seats))
            self._write_down()
            return [report for report in self._reports if report.number > after]

    def settle(self, acknowledged: int) -> list[NodeReport]:
        """Return the windows that come after `acknowledged`; those before it are in the books.

        A window is forgotten once it is in the books and the controller has seen it.
        """
        with self._lock:
            done = min(acknowledged, self._looked_to)
            self._reports = [report for report in self._reports if report.number > done]
            return [report for report in self._reports if report.number > acknowledged]

    def reading(self, replica: str) -> ReplicaTotals:
        """Return running totals of a replica, for sweeps."""
        return self._seats[replica].reading()

    def close(self) -> None:
        """Undo our limits and leave nothing behind."""
        self._is_closed.set()
        self._limits.close()
        self._meters.stop()
        if self._state is not None:
            remove_state(self._state)
        remove_run(self._folder)
        remove_stale_runs(state_folder())

    def _close_windows(self) -> None:
        """Close windows that nobody asks for: meters remember some minutes only."""
        while not self._is_closed.wait(LONGEST_WINDOW_S):
            if time.monotonic() - self._reported_s > LONGEST_WINDOW_S:
                self.report(self._looked_to)

    def _resume(self, memory: AssignmentRecord) -> None:
        """Take over the seat of an engine that runs on."""
        path = block_path(self._folder, memory.replica)
        if not path.exists():
            return  # its actor was about to be seated anew, and asks again
        uuids = [uuid for uuid, gpu in self._gpus.items() if gpu.index in memory.gpu_indices]
        meters = {uuid: self._meters.histories[uuid] for uuid in uuids}
        since_s = memory.seen_s if memory.counters_j or not meters else None
        seat = ReplicaMeter(memory.replica, ControlBlock(path), meters, since_s)
        seat.resume(memory, {gpu.index for gpu in self._gpus.values()})
        self._seats[memory.replica] = seat
        if memory.clock_mhz:
            self._limit_clocks(seat, memory.clock_mhz)

    def _unseat(self, replica: str, meters: Mapping[str, EnergyHistory]) -> float | None:
        """Close the books of a replica that comes anew; return when, if its GPUs stay the same."""
        old = self._seats.pop(replica, None)
        if old is None:
            return None
        self._keep((old.close(self._weights),))
        return old.seen_s if set(old.gpus) == set(meters) else None

    def _keep(self, replicas: tuple[ReplicaReport, ...]) -> None:
        """Keep a window until it is acknowledged."""
        self._number += 1
        self._reports.append(NodeReport(self._id, self._number, replicas))

    def _write_down(self) -> None:
        """Note what a successor of this actor must know."""
        seats = []
        for seat in self._seats.values():
            indices = tuple(self._gpus[uuid].index for uuid in seat.gpus) + seat.missing
            seats.append(seat.memory(indices, self._meters.counters_j(seat.gpus, seat.seen_s)))
        self._journal.write(NodeRecord(self._number, tuple(self._reports), tuple(seats)))

    def _limit_clocks(self, seat: ReplicaMeter, clock_mhz: int | None) -> None:
        accepted: list[int] = []
        for uuid in seat.gpus:
            gpu = self._gpus[uuid].capabilities
            if gpu.has_clock_limit and self._has_clocks:
                lowest_mhz = gpu.sm_clocks_mhz[0]
                wanted_mhz = gpu.nearest_clock_mhz(lowest_mhz if clock_mhz is None else clock_mhz)
                seat.clocks[uuid].request(wanted_mhz, time.monotonic())
                taken = self._limits.set(uuid, wanted_mhz)
                accepted += [] if taken is None else [taken]
        if accepted and len(accepted) == len(seat.gpus):
            seat.clock_mhz = min(accepted)

    def _look_at_clocks(self) -> None:
        """See which GPUs keep their clock limits, and ask again where one does not hold.

        While limits are applied nothing is asked again, or an older wish might be the last word.
        """
        undone = self._limits.were_undone()
        confirmed_mhz = None if undone else self._limits.confirmed_mhz()
        lost = frozenset(self._meters.lost)
        for seat in tuple(self._seats.values()):
            seat.look_at_clocks(confirmed_mhz, lost, time.monotonic())
        if self._applying.acquire(blocking=False):
            try:
                self._ask_again(confirmed_mhz or {})
            finally:
                self._applying.release()

    def _ask_again(self, confirmed_mhz: Mapping[str, int]) -> None:
        for seat in tuple(self._seats.values()):
            for uuid, clock in seat.clocks.items():
                requested_mhz = clock.requested_mhz
                if requested_mhz is not None and confirmed_mhz.get(uuid) != requested_mhz:
                    self._limits.set(uuid, requested_mhz)

    def _open_limits(self) -> ClockLimits | ZeusdLimits:
        """Find who sets clock limits here."""
        match self._settings.device:
            case NvmlSection(zeusd=ZeusdSection(socket=socket, token_file=token_file)):
                return ZeusdLimits(ZeusdClient(socket, self._gpus, token_file))
            case NvmlSection(agent_socket=socket):
                return ClockLimits(self._folder, self._settings.lease_s, socket)
            case EmulatedSection():  # the agent of the host is there for its real GPUs
                return ClockLimits(self._folder, self._settings.lease_s, None)

    def _hook(self, gpu_indices: Iterable[int]) -> SeamHook:
        if self._state is None:
            return SeamHook()
        assert isinstance(self._settings.device, EmulatedSection), "only these have a state"
        arguments = {"state": str(self._state), "gpu_indices": list(gpu_indices)}
        return SeamHook(COUPLING, arguments | self._settings.device.pace.model_dump())

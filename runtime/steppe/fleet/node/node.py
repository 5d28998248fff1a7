"""The node actor: meters the GPUs of one machine and sets the limits of its replicas."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import ray

from steppe.agent.zeusd_client import ZeusdClient
from steppe.config import EmulatedSection, NvmlSection, ZeusdSection
from steppe.device.nvml import NvmlGpu, open_gpus
from steppe.device.nvml_health import read_health
from steppe.device.rapl import open_host_meter
from steppe.emulator.environment import STATE_VARIABLE, activate_section, remove_state
from steppe.energy.attribution import TokenWeights
from steppe.energy.gpu_meters import (
    EnergyHistory,
    GpuMeters,
    best_quality,
    wait_for_first_tick,
)
from steppe.energy.window import worst
from steppe.engine.control_block import ControlBlock, EngineLimits
from steppe.errors import DeviceLostError, GpuFaultError, NotSupportedError
from steppe.fleet.engine_log import LogPart, engine_log_path, last_lines, read_log
from steppe.fleet.messages import (
    GpuAssignment,
    GpuInfo,
    NodeInfo,
    NodeReport,
    NodeSettings,
    ReplicaPowerLimits,
    ReplicaReport,
    ReplicaStatus,
    ReplicaTotals,
    SeamHook,
    ServedModel,
    SetLimits,
)
from steppe.fleet.node.boundary import Boundary
from steppe.fleet.node.clock_limits import ClockLimits, ZeusdLimits
from steppe.fleet.node.engine_watch import end_engine
from steppe.fleet.node.gpu_watch import GpuWatch
from steppe.fleet.node.journal import AssignmentRecord, NodeJournal, NodeRecord
from steppe.fleet.node.replica_meter import ReplicaMeter, block_path
from steppe.fleet.node.rest_meter import NodeName, PrometheusRest, RaplRest, RestMeter
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
"""A window that is not read is closed after so long, s: meters keep some minutes only."""


class Node:
    """The node actor: every call returns at once."""

    def __init__(self, settings: NodeSettings, clock: Callable[[], float] = time.monotonic) -> None:
        """Open the GPUs, start the meters and the agent; resume from a node actor that died.

        Args:
            settings: How to make it.
            clock: Returns monotonic time, s.

        Raises:
            BackendUnavailableError: There is no GPU driver.
            InstallError: The emulated GPUs cannot be built here.
        """
        self._settings, self._clock = settings, clock
        node_id = str(ray.get_runtime_context().get_node_id())
        self._folder = run_folder(settings.run_id, node_id)
        if not self._folder.exists():  # the first actor of this node
            remove_stale_runs(state_folder())
        self._held = hold(self._folder)
        self._state: Path | None = None
        if isinstance(settings.device, EmulatedSection):
            self._state = Path(os.environ.get(STATE_VARIABLE) or gpus_file_of_node(node_id))
            activate_section(settings.device, self._state)
        self._gpus: dict[str, NvmlGpu] = {gpu.uuid: gpu for gpu in open_gpus()}
        self._weights: dict[tuple[str, str], TokenWeights] = {}
        self._meters = GpuMeters(self._gpus, clock=clock)
        self._watch = GpuWatch(self._gpus, self._meters.histories, self._folder, clock)
        self._rest = self._open_rest_meter()
        self._boundary = Boundary(settings.site, self._rest.history, settings.overhead_w)
        self._replicas: dict[str, ReplicaMeter] = {}
        self._journal = NodeJournal(self._folder / "journal.json")
        record = self._journal.read()
        self._number, self._reports = record.number, list(record.reports)
        self._read_to, self._reported_s = 0, 0.0
        self._lock, self._applying = threading.Lock(), threading.Lock()
        self._closed_s: dict[int, float] = {}
        self._renewed_until_s: float | None = None
        self._requested_s: defaultdict[str, float] = defaultdict(float)
        self._powering, self._power_requested_s = threading.Lock(), 0.0
        for replica in record.replicas:
            self._meters.resume_from(replica.reported_s, replica.counters_j)
        self._meters.start()
        self._rest.start()
        self._watch.start()
        self._limits = self._open_limits()
        # Clocks that the actor before could limit still count as limited, even without an agent.
        self._has_clocks = self._limits.can_set or any(r.clock_mhz for r in record.replicas)
        wait_for_first_tick(tuple(self._meters.histories.values()))
        for replica in record.replicas:
            self._resume(replica)
        self._is_closed = threading.Event()
        threading.Thread(target=self._close_windows, daemon=True, name="windows").start()

    def info(self) -> NodeInfo:
        """Return what the driver needs to know about this machine.

        Raises:
            ConfigError: The zeusd that is configured does not answer.
        """
        if isinstance(self._limits, ZeusdLimits):
            self._limits.require()
        gpus = []
        for gpu in self._gpus.values():
            found = gpu.capabilities
            clocks_mhz = found.sm_clocks_mhz if self._has_clocks else ()
            lowest_w, highest_w = found.power_limit_range_w or (None, None)
            settable_w = lowest_w if self._limits.can_set_power else None
            gpus.append(GpuInfo(gpu.index, found.name, clocks_mhz, highest_w, settable_w))
        source = worst(best_quality(gpu.capabilities) for gpu in self._gpus.values())
        return NodeInfo(tuple(gpus), tuple(sorted(os.sched_getaffinity(0))), source)

    def assign(
        self,
        replica: str,
        gpu_indices: list[int],
        cores: tuple[int, ...],
        status: ReplicaStatus,
        model: str = "",
    ) -> GpuAssignment:
        """Give a replica its control block and begin to meter it.

        A replica whose engine runs on its present block keeps it; any other gets a new one.

        Raises:
            GpuFaultError: A GPU has memory errors that ECC could not correct, is lost, or could
                not be opened. It is metered if it answers.
        """
        found = {gpu.index: uuid for uuid, gpu in self._gpus.items()}
        missing = [index for index in gpu_indices if index not in found]
        if missing:
            raise GpuFaultError(f"GPU {missing[0]} could not be opened, found {sorted(found)}")
        meters = {found[i]: self._watch.histories[found[i]] for i in gpu_indices}
        path = block_path(self._folder, replica)
        with self._lock:
            meter = self._replicas.get(replica)
            if meter is None or meter.block.id != status.block_id:
                since_s = self._close_meter(replica, meters)
                path.unlink(missing_ok=True)  # an engine that still maps the old file keeps it
                block = ControlBlock.create(path)
                meter = self._meter(replica, model, block, meters, since_s)
                if self._renewed_until_s is not None:
                    meter.block.renew(self._renewed_until_s)
                self._replicas[replica] = meter
                self._share_node()
                self._write_journal()
        self._refuse_faulty(gpu_indices)
        hook = self._hook(gpu_indices, model)
        return GpuAssignment(replica, str(path), meter.block.id, hook, cores)

    def apply(self, changes: list[SetLimits], requested_s: float) -> None:
        """Set limits; those that lower the draw come first in the list and are set first.

        Calls of several ticks may overlap, for a GPU can be slow: of two changes of one replica
        only the one that was requested later is made.

        Args:
            changes: New limits.
            requested_s: When they were requested, s on the monotonic clock of the driver's host,
                which runs on from one run of a fleet to the next; only compared with each other.
        """
        with self._lock:
            for change in changes:
                latest_s = self._requested_s[change.replica]
                self._requested_s[change.replica] = max(latest_s, requested_s)
        with self._applying:
            for change in changes:
                meter = self._replicas.get(change.replica)
                if meter is not None and self._requested_s[change.replica] <= requested_s:
                    meter.enter(change.phase, self._clock())
                    limits = (change.batch_limit, change.tokens_per_step, change.holds)
                    meter.set_engine_limits(EngineLimits(*limits))
                    self._limit_clocks(meter, change.clock_mhz)
        with self._lock:
            self._write_journal()

    def renew(self, number: int) -> None:
        """Let the limits of all replicas hold on, for a tick has decided on a report.

        They hold for `deadman_s` from the time at which that report was closed, on the clock of
        this host, so a call that comes late or twice cannot extend them. Replicas on loan are
        renewed, too: the tick has reserved their watts.

        Args:
            number: Number of the latest report that the tick had read.
        """
        with self._lock:
            closed_s = self._closed_s.get(number)
            if closed_s is None:
                return  # of a node actor before this one: the next tick reads a new report
            self._closed_s = {n: at_s for n, at_s in self._closed_s.items() if n >= number}
            self._renewed_until_s = closed_s + self._settings.deadman_s
            for meter in self._replicas.values():
                meter.block.renew(self._renewed_until_s)

    def follow_power_limits(self, limits: ReplicaPowerLimits, requested_s: float) -> None:
        """Let board power limits follow a schedule; of two calls only the later one counts.

        Args:
            limits: The schedules of replicas of this node.
            requested_s: When they were requested, as in `apply`.
        """
        with self._powering:
            if requested_s < self._power_requested_s:
                return
            self._power_requested_s = requested_s
            by_uuid: dict[str, tuple[float, ...]] = {}
            for replica, limits_w in limits.limits_w.items():
                meter = self._replicas.get(replica)
                by_uuid |= {} if meter is None else dict(zip(meter.gpus, limits_w, strict=False))
            self._limits.follow_power_limits(limits.after_s, by_uuid, limits.keep_s)

    def report(self, after: int, is_last: bool = False) -> list[NodeReport]:
        """Close a window and return it, with the kept ones before it that come after `after`.

        The last one of a run also includes the beginning of each step that is in progress.
        """
        self._check_clocks()
        with self._lock:
            self._read_to, self._reported_s = after, self._clock()
            meters = self._replicas.values()
            self._keep(
                tuple(meter.report(self._weights_of(meter), is_last=is_last) for meter in meters)
            )
            self._closed_s[self._number] = self._reported_s
            self._write_journal()
            return [report for report in self._reports if report.number > after]

    def settle(self, acknowledged: int) -> list[NodeReport]:
        """Return the windows after `acknowledged`, the last one in the driver's accounts.

        A window is dropped once it is in these accounts and the controller has read it.
        """
        with self._lock:
            done = min(acknowledged, self._read_to)
            self._reports = [report for report in self._reports if report.number > done]
            return [report for report in self._reports if report.number > acknowledged]

    def reading(self, replica: str) -> ReplicaTotals:
        """Return running totals of a replica, for sweeps."""
        return self._replicas[replica].reading()

    def engine_logs(self, begins: dict[str, int]) -> dict[str, LogPart]:
        """Return a part of the log of each engine, see `read_log`, from where it begins."""
        paths = {name: engine_log_path(self._settings.run_id, name) for name in begins}
        return {name: read_log(path, begins[name]) for name, path in paths.items() if path}

    def last_log_lines(self, replica: str) -> str:
        """Return the last lines of the log of an engine; empty if there are none."""
        path = engine_log_path(self._settings.run_id, replica)
        return "" if path is None else last_lines(path)

    def ping(self) -> None:
        """Return: this actor does not hang."""

    def close(self) -> None:
        """Undo the limits and remove every file."""
        self._is_closed.set()
        self._limits.close()
        self._rest.stop()
        self._watch.stop()
        self._meters.stop()
        if self._state is not None:
            remove_state(self._state)
        remove_run(self._folder)
        remove_stale_runs(state_folder())

    def _refuse_faulty(self, gpu_indices: Collection[int]) -> None:
        """Raise if one of these GPUs has a fault."""
        for gpu in (gpu for gpu in self._gpus.values() if gpu.index in gpu_indices):
            name = f"GPU {gpu.index} ({gpu.capabilities.name}, {gpu.uuid})"
            try:
                faults = read_health(gpu).memory_faults
            except DeviceLostError as error:
                raise GpuFaultError(f"{name}: {error}") from error
            if faults:
                raise GpuFaultError(f"{name}: {'; '.join(faults)}")

    def _close_windows(self) -> None:
        while not self._is_closed.wait(LONGEST_WINDOW_S):
            if self._clock() - self._reported_s > LONGEST_WINDOW_S:
                self.report(self._read_to)

    def _resume(self, record: AssignmentRecord) -> None:
        """Meter an engine that kept running while its node actor was dead."""
        path = block_path(self._folder, record.replica)
        if not path.exists():
            return  # its actor was about to get a new block, and calls again
        uuids = [uuid for uuid, gpu in self._gpus.items() if gpu.index in record.gpu_indices]
        meters = {uuid: self._watch.histories[uuid] for uuid in uuids}
        since_s = record.reported_s if record.counters_j or not meters else None
        block = ControlBlock(path)
        meter = self._meter(record.replica, record.model, block, meters, since_s)
        meter.resume(record, {gpu.index for gpu in self._gpus.values()})
        self._replicas[record.replica] = meter
        self._renewed_until_s = block.deadline_s
        self._share_node()
        if record.clock_mhz:
            self._limit_clocks(meter, record.clock_mhz)

    def _meter(
        self,
        replica: str,
        model: str,
        block: ControlBlock,
        gpus: Mapping[str, EnergyHistory],
        since_s: float | None,
    ) -> ReplicaMeter:
        boundary = self._boundary
        return ReplicaMeter(
            replica, block, gpus, since_s, clock=self._clock, boundary=boundary, model=model
        )

    def _weights_of(self, meter: ReplicaMeter) -> TokenWeights:
        """Return the weights of the tokens of a replica, by its model and its first GPU."""
        names = [self._gpus[uuid].capabilities.name for uuid in meter.gpus]
        key = (meter.model, names[0] if names else "")
        if key not in self._weights:
            served = self._settings.models.get(meter.model, ServedModel(None))
            self._weights[key] = token_weights(self._settings.device, names, served)
        return self._weights[key]

    def _close_meter(self, replica: str, gpus: Mapping[str, EnergyHistory]) -> float | None:
        """Close the meter of a replica that restarts; return when, if its GPUs stay the same."""
        old = self._replicas.pop(replica, None)
        if old is None:
            return None
        end_engine(old.block)
        self._keep((old.close(self._weights_of(old)),))
        return old.reported_s if set(old.gpus) == set(gpus) else None

    def _share_node(self) -> None:
        """Divide the node among the replicas: what is beside the GPUs, by the number of GPUs."""
        used = sum(len(meter.gpus) for meter in self._replicas.values())
        for meter in self._replicas.values():
            meter.share = len(meter.gpus) / used if used else 1.0
            for uuid in meter.gpus:
                self._watch.follow_busy(uuid, partial(getattr, meter, "busy_share"))

    def _keep(self, replicas: tuple[ReplicaReport, ...]) -> None:
        """Keep a window until it is acknowledged."""
        self._number += 1
        watched = tuple(self._watched(report) for report in replicas)
        news = self._rest.now(), self._watch.take_events()
        self._reports.append(NodeReport(self._number, watched, *news))

    def _watched(self, report: ReplicaReport) -> ReplicaReport:
        """Return a report with what holds for the GPUs of its replica."""
        meter = self._replicas.get(report.replica)
        if meter is None:
            return report
        conditions = {found for uuid in meter.gpus for found in self._watch.conditions(uuid)}
        ratios = [self._watch.counter_ratio(uuid) for uuid in meter.gpus]
        known = [ratio for ratio in ratios if ratio is not None]
        return replace(
            report,
            conditions=tuple(sorted(conditions)),
            counter_ratio=max(known, key=lambda ratio: abs(ratio - 1.0), default=None),
        )

    def _write_journal(self) -> None:
        """Write what the next actor of this node needs if this one dies."""
        replicas = []
        for meter in self._replicas.values():
            indices = tuple(self._gpus[uuid].index for uuid in meter.gpus) + meter.missing
            counters_j = self._meters.counters_j(meter.gpus, meter.reported_s)
            replicas.append(meter.record(indices, counters_j))
        self._journal.write(NodeRecord(self._number, tuple(self._reports), tuple(replicas)))

    def _limit_clocks(self, meter: ReplicaMeter, clock_mhz: int | None) -> None:
        set_mhz: list[int] = []
        for uuid in meter.gpus:
            gpu = self._gpus[uuid].capabilities
            if gpu.has_clock_limit and self._has_clocks:
                lowest_mhz = gpu.sm_clocks_mhz[0]
                requested_mhz = gpu.nearest_clock_mhz(
                    lowest_mhz if clock_mhz is None else clock_mhz
                )
                meter.clocks[uuid].request(requested_mhz, self._clock())
                found_mhz = self._limits.set(uuid, requested_mhz)
                is_refused = found_mhz is None and self._limits.refuses(uuid)
                meter.free_clock(uuid, is_free=is_refused)
                set_mhz += [] if found_mhz is None else [found_mhz]
        if set_mhz and len(set_mhz) == len(meter.gpus):
            meter.clock_mhz = min(set_mhz)

    def _check_clocks(self) -> None:
        """Check which GPUs keep their clock limits, and set again those that do not hold.

        While limits are being applied none is set again, or an older one might be set last.
        """
        undone = self._limits.were_undone()
        confirmed_mhz = None if undone else self._limits.confirmed_mhz()
        lost = frozenset(self._meters.lost)
        for meter in tuple(self._replicas.values()):
            meter.check_clocks(confirmed_mhz, lost, self._clock())
        if self._applying.acquire(blocking=False):
            try:
                self._set_again(confirmed_mhz or {})
            finally:
                self._applying.release()

    def _set_again(self, confirmed_mhz: Mapping[str, int]) -> None:
        for meter in tuple(self._replicas.values()):
            for uuid, clock in meter.clocks.items():
                requested_mhz = clock.requested_mhz
                if requested_mhz is not None and confirmed_mhz.get(uuid) != requested_mhz:
                    self._limits.set(uuid, requested_mhz)

    def _open_limits(self) -> ClockLimits | ZeusdLimits:
        """Return what sets clock limits on this machine."""
        folder, lease_s = self._folder, self._settings.lease_s
        holder = f"run {self._settings.run_id}"
        match self._settings.device:
            case NvmlSection(zeusd=ZeusdSection(socket=socket, token_file=token_file)):
                return ZeusdLimits(ZeusdClient(socket, self._gpus, token_file), self._clock)
            case NvmlSection(agent_socket=socket):
                return ClockLimits(folder, lease_s, socket, self._clock, holder)
            case EmulatedSection():  # the agent of the host is there for its real GPUs
                return ClockLimits(folder, lease_s, None, self._clock, holder)

    def _open_rest_meter(self) -> RestMeter:
        """Return what measures the node beside its GPUs, or only states it.

        Raises:
            NoPermissionError: RAPL is configured, and only root may read it.
            NotSupportedError: RAPL is configured, and the machine has none.
        """
        site, name = self._settings.site, NodeName(socket.gethostname(), self._settings.address)
        if site.node_meter is not None:
            reader = PrometheusRest(site.node_meter, name, self._meters.histories)
            return RestMeter(site, reader, self._clock)
        if not site.rapl:
            return RestMeter(site, None, self._clock)
        meter = open_host_meter(gpu.capabilities for gpu in self._gpus.values())
        if meter is None:
            raise NotSupportedError(f"site.rapl: asked for RAPL on {name.host}, found none")
        return RestMeter(site, RaplRest(meter, self._clock), self._clock)

    def _hook(self, gpu_indices: Iterable[int], model: str) -> SeamHook:
        if self._state is None:
            return SeamHook()
        assert isinstance(self._settings.device, EmulatedSection), "only these have a state"
        served = self._settings.models.get(model)
        pace = served.pace if served is not None and served.pace else self._settings.device.pace
        arguments = {"state": str(self._state), "gpu_indices": list(gpu_indices)}
        return SeamHook(COUPLING, arguments | pace.model_dump())

"""One machine: meters its GPUs, seats its replicas, and carries out what the controller says."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path

import ray

from steppe.device.agent_client import AgentClient, AgentProcess, start_agent
from steppe.device.emulator.environment import activate, remove_state
from steppe.device.lease import Restore
from steppe.device.nvml import NvmlGpu, open_gpus
from steppe.energy.attribution import TokenWeights
from steppe.engine.control_block import ControlBlock
from steppe.errors import DeviceError, SteppeError
from steppe.fleet.messages import (
    GpuInfo,
    NodeInfo,
    NodeReport,
    NodeSettings,
    Reading,
    SeamHook,
    Seat,
    SetLimits,
)
from steppe.fleet.meters import Meters
from steppe.fleet.seats import ReplicaSeat, block_path, wait_for_first_tick

COUPLING = "steppe.device.emulator.coupling:couple"
STATE_VARIABLE = "STEPPE_EMULATED_STATE"

_log = logging.getLogger(__name__)


def state_folder() -> Path:
    """Return where files in memory go."""
    shared = Path("/dev/shm")
    return shared if shared.is_dir() else Path(tempfile.gettempdir())


class Node:
    """The node actor: every call returns at once."""

    def __init__(self, settings: NodeSettings) -> None:
        """Open the GPUs, start the meters and the agent.

        Raises:
            BackendUnavailableError: There is no GPU driver.
            InstallError: The emulated GPUs cannot be built here.
        """
        self._settings = settings
        self._id = str(ray.get_runtime_context().get_node_id())
        self._folder = state_folder() / f"steppe-{settings.run_id}-{self._id[:8]}"
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._state: Path | None = None
        if settings.device == "emulated":
            self._state = Path(
                os.environ.get(STATE_VARIABLE) or state_folder() / f"steppe-gpus-{self._id[:8]}"
            )
            activate(settings.profile, settings.count, self._state)
        self._gpus: dict[str, NvmlGpu] = {gpu.uuid: gpu for gpu in open_gpus()}
        self._meters = Meters(self._gpus)
        self._meters.start()
        self._seats: dict[str, ReplicaSeat] = {}
        self._reports: list[NodeReport] = []
        self._numbers = 0
        self._lock = threading.Lock()
        self._agent: AgentProcess | None = None
        self._limits: AgentClient | None = None
        self._leases = 0
        self._clock_refused = False
        wait_for_first_tick(tuple(self._meters.histories.values()))
        self._start_agent()

    def info(self) -> NodeInfo:
        """Return what the controller needs to know about this machine."""
        gpus = tuple(
            GpuInfo(gpu.index, gpu.uuid, gpu.capabilities.name, gpu.capabilities.sm_clocks_mhz)
            for gpu in self._gpus.values()
        )
        emulated = any(gpu.is_emulated for gpu in self._gpus.values())
        cores = tuple(sorted(os.sched_getaffinity(0)))
        return NodeInfo(self._id, gpus, cores, "emulated" if emulated else "measured")

    def seat(self, replica: str, gpu_indices: list[int], cores: tuple[int, ...]) -> Seat:
        """Give a replica its control block and begin to meter it; anew if it had one.

        Raises:
            DeviceError: It asks for a GPU that is not here.
        """
        found = {gpu.index: uuid for uuid, gpu in self._gpus.items()}
        missing = [index for index in gpu_indices if index not in found]
        if missing:
            raise DeviceError(f"{replica}: asked for GPU {missing[0]}, found {sorted(found)}")
        meters = {found[i]: self._meters.histories[found[i]] for i in gpu_indices}
        path = block_path(self._folder, replica)
        path.unlink(missing_ok=True)  # an engine that still maps the old file keeps it
        with self._lock:
            self._seats[replica] = ReplicaSeat(replica, ControlBlock.create(path), meters)
        return Seat(replica, str(path), self._hook(gpu_indices), cores)

    def apply(self, changes: list[SetLimits]) -> None:
        """Set limits; what lowers the draw comes first in the list and is done first."""
        for change in changes:
            seat = self._seats.get(change.replica)
            if seat is None:
                continue
            seat.phase = change.phase
            seat.set_batch_limit(change.batch_limit)
            self._limit_clocks(seat, change.clock_mhz)

    def report(self, acknowledged: int) -> list[NodeReport]:
        """Close a window and return it, with those that were not acknowledged yet."""
        self._set_anew_after_lost_lease()
        with self._lock:
            self._reports = [r for r in self._reports if r.number > acknowledged]
            self._numbers += 1
            weights = self._settings.weights
            replicas = tuple(seat.report(weights) for seat in self._seats.values())
            self._reports.append(NodeReport(self._id, self._numbers, 0.0, replicas))
            return list(self._reports)

    def reading(self, replica: str) -> Reading:
        """Return running totals of a replica, for sweeps."""
        return self._seats[replica].reading()

    def lost_gpus(self) -> frozenset[str]:
        """Return the GPUs that fell off the bus."""
        return frozenset(self._meters.lost)

    def close(self) -> None:
        """Undo our limits and leave nothing behind."""
        if self._limits is not None:
            self._limits.release()
        if self._agent is not None:
            self._agent.stop()
        self._meters.stop()
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._state is not None:
            remove_state(self._state)

    def _start_agent(self) -> None:
        """Start the agent that owns the setters; without it we only meter."""
        socket = self._folder / "agent.sock"
        lease_s = self._settings.lease_s
        try:
            lease_file = self._folder / "lease.json"
            self._agent = start_agent(
                socket, lease_file=lease_file, loss=Restore(), lease_s=lease_s
            )
            self._limits = AgentClient(socket, lease_s)
            self._leases = self._limits.leases_taken
        except (SteppeError, OSError) as error:
            _log.warning("no agent, so no clock limits on this node: %s", error)

    def _limit_clocks(self, seat: ReplicaSeat, clock_mhz: int | None) -> None:
        if self._limits is None or self._clock_refused:
            return
        accepted: list[int] = []
        try:
            for uuid in seat.gpus:
                clocks = self._gpus[uuid].capabilities.sm_clocks_mhz
                wanted_mhz = clocks[0] if clock_mhz is None else clock_mhz
                accepted.append(self._limits.set_clock_limit(uuid, wanted_mhz))
        except (SteppeError, OSError) as error:
            self._clock_refused = True
            _log.warning("no clock limits from now on: %s", error)
            return
        seat.clock_mhz = min(accepted)

    def _set_anew_after_lost_lease(self) -> None:
        """A lease that was taken again began without limits: set what should be set."""
        if self._limits is None or self._limits.leases_taken == self._leases:
            return
        self._leases = self._limits.leases_taken
        for seat in self._seats.values():
            if seat.clock_mhz:
                self._limit_clocks(seat, seat.clock_mhz)

    def _hook(self, gpu_indices: Iterable[int]) -> SeamHook:
        if self._state is None:
            return SeamHook()
        arguments = {"state": str(self._state), "gpu_indices": list(gpu_indices)}
        return SeamHook(COUPLING, arguments | self._settings.pace)


def weights_of(pace: dict[str, float], emulated: bool) -> TokenWeights:
    """Return what a token costs: by the emulated pace, or alike when nothing is known."""
    if not emulated:
        return TokenWeights()
    return TokenWeights(pace["weights_s"], pace["prefill_s"], pace["decode_s"])

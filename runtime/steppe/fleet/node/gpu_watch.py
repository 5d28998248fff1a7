"""Watches the GPUs of a node: Xids, memory errors, slow-downs, other users, a counter that lies."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from steppe.device.health import XidEvent
from steppe.device.nvml import NvmlGpu
from steppe.device.nvml_health import XidEvents, read_health, read_slowdowns
from steppe.device.nvml_processes import compute_processes, process_utilisation
from steppe.energy.counter import CounterHistory
from steppe.energy.cross_check import EVERY_S, FIRST_S, LATER_S, LEAST_J, Agreement
from steppe.energy.gpu_meters import EnergyHistory
from steppe.energy.shared import SharedHistory, SharedUse
from steppe.errors import DeviceError
from steppe.fleet.node.gpu_processes import foreign_processes
from steppe.report.records import GpuEvent

PERIOD_S = 1.0
"""Time between two looks at slow-downs and Xids, s."""
SLOW_PERIOD_S = 10.0
"""Time between two looks at processes and memory errors, s: a list of processes may hold a lock
of the driver for milliseconds."""
STOP_S = 2.0
"""Longest wait for the thread to end, s."""
SHARED = "shared"
COUNTER = "counter disagrees"

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Watched:
    """One GPU and what holds for it."""

    gpu: NvmlGpu
    whole: EnergyHistory
    own: SharedHistory
    slowdowns: frozenset[str] = frozenset()
    foreign: frozenset[int] = frozenset()
    disagrees: bool = False
    ratio: float | None = None
    memory_errors: int | None = None
    idle_w: float = math.inf
    check_s: float = math.inf
    busy: Callable[[], float] = field(default=lambda: 0.0)

    @property
    def conditions(self) -> tuple[str, ...]:
        """What holds for it, in words."""
        found = [*sorted(self.slowdowns)]
        found += [SHARED] if self.foreign else []
        return tuple(found + ([COUNTER] if self.disagrees else []))


class GpuWatch:
    """Watches in a thread of its own, for calls to the driver may take long.

    Attributes:
        histories: Energy of each GPU that is ours: less that of other users.
    """

    def __init__(
        self,
        gpus: Mapping[str, NvmlGpu],
        histories: Mapping[str, EnergyHistory],
        folder: Path,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; `start` begins to watch.

        Args:
            gpus: The GPUs, by UUID.
            histories: The energy of their boards, by UUID.
            folder: Where the control blocks of this node's replicas lie.
            clock: Returns monotonic time, s.
        """
        self.histories = {
            uuid: SharedHistory(histories[uuid], is_emulated=gpu.is_emulated)
            for uuid, gpu in gpus.items()
        }
        self._watched = {
            uuid: _Watched(gpu, histories[uuid], self.histories[uuid]) for uuid, gpu in gpus.items()
        }
        self._folder, self._clock = folder, clock
        self._slow_s = -math.inf
        self._events: list[GpuEvent] = []
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._xids = _open_xids(tuple(gpus.values()), clock)
        self._thread = threading.Thread(target=self._poll, daemon=True, name="gpu-watch")

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(STOP_S)
        if self._xids is not None:
            self._xids.close()

    def follow_busy(self, uuid: str, busy: Callable[[], float]) -> None:
        """Set what returns the share of time in which our engine steps on a GPU, 0 to 1."""
        self._watched[uuid].busy = busy

    def conditions(self, uuid: str) -> tuple[str, ...]:
        """Return what holds for a GPU, in words; empty while it is alone and healthy."""
        return self._watched[uuid].conditions

    def counter_ratio(self, uuid: str) -> float | None:
        """Return the counter's joules for each joule of the power readings, at the last check."""
        return self._watched[uuid].ratio

    def take_events(self) -> tuple[GpuEvent, ...]:
        """Return what happened since the last call."""
        with self._lock:
            events, self._events = self._events, []
        return tuple(events)

    def look(self) -> None:
        """Look at every GPU once; one that does not answer is left for the next time."""
        now_s = self._clock()
        self._read_xids()
        is_slow = now_s - self._slow_s >= SLOW_PERIOD_S
        if is_slow:
            self._slow_s = now_s
        for watched in self._watched.values():
            try:
                self._look_at_clock(watched)
                if is_slow:
                    self._look_at_memory(watched)
                    self._look_at_processes(watched)
                self._share(watched, now_s)
            except DeviceError as error:  # the meter says so already
                _log.debug("%s: %s", watched.gpu.uuid, error)
            self._check_counter(watched, now_s)

    def _poll(self) -> None:
        while not self._stop.wait(PERIOD_S):
            self.look()

    def _note(self, watched: _Watched, event: GpuEvent) -> None:
        _log.warning("%s: %s%s", watched.gpu.uuid, "over: " if event.is_over else "", event.text)
        with self._lock:
            self._events.append(event)

    def _read_xids(self) -> None:
        """Note the Xids that came; one without a GPU counts for the first."""
        while self._xids is not None:
            try:
                xid = self._xids.wait(0.0)
            except DeviceError:
                return
            if xid is None:
                return
            watched = self._watched.get(xid.uuid) or next(iter(self._watched.values()))
            self._note(watched, GpuEvent(watched.gpu.uuid, "xid", _xid_text(xid)))

    def _look_at_clock(self, watched: _Watched) -> None:
        found = frozenset(str(reason) for reason in read_slowdowns(watched.gpu))
        for reason in sorted(found - watched.slowdowns):
            self._note(watched, GpuEvent(watched.gpu.uuid, "slowdown", reason))
        for reason in sorted(watched.slowdowns - found):
            self._note(watched, GpuEvent(watched.gpu.uuid, "slowdown", reason, is_over=True))
        watched.slowdowns = found

    def _look_at_memory(self, watched: _Watched) -> None:
        health = read_health(watched.gpu)
        before, watched.memory_errors = watched.memory_errors, health.uncorrected_errors
        if (health.uncorrected_errors or 0) > (before or 0):
            text = "; ".join(health.memory_faults)
            self._note(watched, GpuEvent(watched.gpu.uuid, "memory", text))

    def _look_at_processes(self, watched: _Watched) -> None:
        pids = compute_processes(watched.gpu.index)
        found = frozenset[int]() if pids is None else foreign_processes(pids, self._folder)
        if bool(found) != bool(watched.foreign):
            names = ", ".join(map(str, sorted(found or watched.foreign)))
            text = f"used by processes of others: {names}"
            self._note(watched, GpuEvent(watched.gpu.uuid, "shared", text, is_over=not found))
        watched.foreign = found

    def _share(self, watched: _Watched, now_s: float) -> None:
        """Learn the idle draw, and divide a GPU that others use, by the last period."""
        window = watched.whole.window(now_s - PERIOD_S, now_s)
        draw_w = window.energy_j / PERIOD_S
        if draw_w > 0:
            watched.idle_w = min(watched.idle_w, draw_w)
        if not watched.foreign:
            watched.own.set_share(now_s, 1.0)
            return
        used = process_utilisation(watched.gpu.index)
        own_busy = min(1.0, max(0.0, watched.busy()))
        if used is None:
            other_busy = max(0.0, (watched.gpu.utilisation() or 0.0) - own_busy)
        else:
            other_busy = sum(used.get(pid, 0.0) for pid in watched.foreign)
        parties = 1 + len(watched.foreign)
        usage = SharedUse(draw_w, watched.idle_w, parties, own_busy, other_busy)
        watched.own.set_share(now_s, usage.own_share)

    def _check_counter(self, watched: _Watched, now_s: float) -> None:
        """Compare counter and power after `FIRST_S`, then every `EVERY_S`, or sooner in doubt."""
        history = watched.whole
        if not isinstance(history, CounterHistory):
            return
        if math.isinf(watched.check_s):
            if math.isfinite(history.covered_until_s):
                watched.check_s = history.covered_until_s + FIRST_S
            return
        if now_s < watched.check_s:
            return
        length_s = FIRST_S if watched.ratio is None else LATER_S
        agreement = history.agreement(now_s - length_s, now_s)
        if agreement is None or min(agreement.power_j, agreement.counter_j) < 0:
            watched.check_s = now_s + FIRST_S
            return
        if agreement.power_j < LEAST_J:
            watched.check_s = now_s + FIRST_S
            return
        self._judge(watched, history, agreement, now_s)
        watched.check_s = now_s + (LATER_S if watched.disagrees else EVERY_S)

    def _judge(
        self, watched: _Watched, history: CounterHistory, found: Agreement, now_s: float
    ) -> None:
        watched.ratio = found.ratio
        text = (
            f"the energy counter added {found.counter_j:.0f} J,"
            f" the power readings {found.power_j:.0f} J"
        )
        if found.is_broken:
            history.doubt(now_s, found.factor, found.gap)
            if not watched.disagrees:
                self._note(watched, GpuEvent(watched.gpu.uuid, "counter", text))
        elif watched.disagrees:
            history.doubt(now_s, 1.0, 0.0)
            self._note(watched, GpuEvent(watched.gpu.uuid, "counter", text, is_over=True))
        watched.disagrees = found.is_broken


def _open_xids(gpus: tuple[NvmlGpu, ...], clock: Callable[[], float]) -> XidEvents | None:
    """Return what waits for Xids; None where the driver has no events, as on some virtual GPUs."""
    try:
        return XidEvents(gpus, clock)
    except DeviceError as error:
        _log.info("no Xids are read on this node: %s", error)
        return None


def _xid_text(xid: XidEvent) -> str:
    advice = ": reset the GPU" if xid.needs_reset else ""
    return f"Xid {xid.xid}: {xid.meaning}{advice}"

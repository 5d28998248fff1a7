"""The controller's view of one replica: its state, its pending calls, its limits."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import ray

from steppe.control.sleep_ladder import SleepDepth
from steppe.control.state import COMING, ReplicaObservation, ReplicaState
from steppe.errors import GpuFaultError, NotSupportedError
from steppe.fleet.cluster import error_line
from steppe.fleet.controller.deep_sleep import OFFLOAD_S, DeepSleep
from steppe.fleet.controller.pending_call import Answers, PendingCall
from steppe.fleet.messages import CHANGE_S, Placement, ReplicaReport, ReplicaStatus, mean_draw_w

RETRY_S = 1.0
"""First pause after a start that failed, s; it doubles with each further failure."""
LONGEST_RETRY_S = 300.0
"""Longest pause before a start, s."""
STABLE_S = 600.0
"""A replica that has run for so long has no failures any more, s."""
STATUS_S = 10.0
"""Longest time of a status call, s; the replica may share few cores with other processes."""


@dataclass(frozen=True, slots=True)
class StartRule:
    """How often and how long a replica is started.

    Attributes:
        longest_s: Longest time of a start, s; its node may have to fetch the weights first.
        restarts: Failures in a row after which it is started again; one more quarantines it.
        stall_s: An engine that has work, or is stopped, and makes no step for so long is dead, s.
    """

    longest_s: float = 1800.0
    restarts: int = 8
    stall_s: float = 60.0


SILENT_S = 1.5
"""A replica that has work and has made no step for so long gets no new requests, s."""
IDLE_MARGIN = 1.3
"""Most idle draw of a GPU at its highest clock, over that at its lowest: 1.2 to 1.3 on the emulated
L4, A100 and H100; an allowance, not a measured number."""

_WITHOUT_ENGINE = COMING | {ReplicaState.QUARANTINED}

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class ReplicaHandle:
    """One replica; `update` brings its state up to date without waiting.

    A replica that is alive but does not answer, or cannot carry out a call, is killed: Ray
    restarts its actor, and it counts as gone until then.

    Attributes:
        placement: Where it runs.
        state: Where it is in its life.
        since_s: When it came into that state, s.
        url: Where its HTTP app listens; empty while it has no engine.
        clock_mhz: SM clock limit that is set, MHz.
        batch_limit: Batch limit that is set.
        tokens_per_step: Most tokens in a step that is set; 0: the engine's own limit.
        planned_tps: Output tokens/s of its operating point; 0 if unknown.
        report: The latest report of its node; None before the first.
        draw_w: The last draw that was metered, W.
        peak_w: The largest draw that was metered, W.
        woke_to_drain: Whether it drains and was waking when that began.
        in_last_step: Whether it was put to sleep during a step, and has the clock limit of it.
        asleep_w: Draw while asleep, as last metered in a window without a step, W; None before.
        failures: Starts that failed and losses in a row, without `STABLE_S` in between.
        fault: Why it is quarantined; empty if it is not.
        rule: How often and how long it is started.
        sleep: How deep it sleeps.
    """

    placement: Placement
    state: ReplicaState = ReplicaState.GONE
    since_s: float = 0.0
    url: str = ""
    clock_mhz: int = 0
    batch_limit: int = 0
    tokens_per_step: int = 0
    planned_tps: float = 0.0
    report: ReplicaReport | None = None
    draw_w: float = 0.0
    peak_w: float = 0.0
    woke_to_drain: bool = False
    in_last_step: bool = False
    asleep_w: float | None = None
    failures: int = 0
    fault: str = ""
    rule: StartRule = StartRule()
    sleep: DeepSleep = field(default_factory=DeepSleep)
    _changes: list[PendingCall] = field(default_factory=list)
    _starting: PendingCall | None = None
    _status: PendingCall | None = None
    _is_overdue: bool = False
    _retry_s: float = 0.0
    _started_s: float | None = None

    @property
    def name(self) -> str:
        """Name of the replica."""
        return self.placement.replica

    @property
    def clock_is_free(self) -> bool:
        """Whether its clock cannot be limited: its node may not, or one of its GPUs refuses."""
        refuses = self.report is not None and self.report.clock_is_free
        return refuses or not self.placement.limits_clocks

    @property
    def is_fenced(self) -> bool:
        """Whether plans must leave it out: it is quarantined, or its draw not under control."""
        if self.state == ReplicaState.QUARANTINED:
            return True
        usable = self.state in (ReplicaState.AWAKE, ReplicaState.DRAINING, ReplicaState.ASLEEP)
        return usable and self.report is not None and not self.report.controllable

    @property
    def is_silent(self) -> bool:
        """Whether new requests must go elsewhere: it is stopped, or has made no step for a while.

        A long step of prompts looks the same; it loses nothing by getting no more work meanwhile.
        """
        report = self.report
        return report is not None and (report.stopped or report.silent_s >= SILENT_S)

    @property
    def waiting(self) -> int:
        """Requests that its engine has not admitted, as last reported; 0 without an engine."""
        return 0 if self.report is None or self.state in COMING else self.report.waiting

    @property
    def depth(self) -> SleepDepth:
        """How deep it sleeps, if it is asleep."""
        return self.sleep.depth

    @property
    def is_deep(self) -> bool:
        """Whether it sleeps deeper than a pause."""
        return self.state == ReplicaState.ASLEEP and self.depth.is_deep

    @property
    def assumed_w(self) -> float:
        """Draw to reckon with, W.

        Without a meter reading that is the largest draw ever metered; once the replica is asleep or
        quarantined, the largest idle draw and a margin, or else the last draw.
        """
        idles = self.state in (ReplicaState.ASLEEP, ReplicaState.QUARANTINED)
        match self.report:
            case ReplicaReport(draw_w=None, max_idle_w=float(idle_w)) if idles:
                return IDLE_MARGIN * idle_w
            case ReplicaReport(draw_w=None) if not idles:
                return self.peak_w
            case _:
                return self.draw_w

    @property
    def can_lower_clock(self) -> bool:
        """Whether the step has ended during which it was put to sleep."""
        return self.in_last_step and self.report is not None and not self.report.stepping

    @property
    def is_waking(self) -> bool:
        """Whether it was called to serve or to drain and the call has not returned yet."""
        called = self.state in (ReplicaState.AWAKE, ReplicaState.DRAINING)
        return called and bool(self._changes)

    def add_reports(self, reports: Sequence[ReplicaReport]) -> None:
        """Add the reports of one window or more; without a reading the last draw stays.

        Where clocks cannot be limited, the clock of the plan stays, or a plan would never seem to
        be carried out.
        """
        self.report = last = reports[-1]
        self.batch_limit, self.tokens_per_step = last.batch_limit, last.tokens_per_step
        if not self.clock_is_free:
            self.clock_mhz = last.clock_mhz
        self.peak_w = max(self.peak_w, *(report.draw_w or 0.0 for report in reports))
        draw_w = mean_draw_w(reports)
        self.draw_w = self.draw_w if draw_w is None else draw_w
        without_step = [report for report in reports if not (report.stepping or report.tokens)]
        if self.state == ReplicaState.ASLEEP and not self.is_deep and without_step:
            self.asleep_w = mean_draw_w(without_step)

    def enter(self, state: ReplicaState, now_s: float) -> None:
        """Change to a state."""
        if state != self.state:
            _log.info("%s: %s -> %s", self.name, self.state, state)
            self.woke_to_drain = self.is_waking and state == ReplicaState.DRAINING
            self.in_last_step, self.asleep_w = False, None
            self.state, self.since_s = state, now_s

    def adopt(self, status: ReplicaStatus, now_s: float) -> None:
        """Take the state from a replica that may be running already."""
        self.url = status.url
        if status.url:
            self._started_s = now_s
            self.sleep.serves(now_s, status.start_s)
            self.enter(ReplicaState.ASLEEP if status.frozen else ReplicaState.AWAKE, now_s)
            if status.is_offloaded:
                self.sleep.depth = SleepDepth.OFFLOADED
            self.in_last_step = status.frozen  # its clock limit may still be that of its last step

    def adopt_start(self, call: Any, now_s: float) -> None:
        """Wait for a start that was requested before; its longest time begins with an update."""
        self._starting = PendingCall(call, math.inf)
        self.enter(ReplicaState.STARTING, now_s)

    def start(self, now_s: float) -> None:
        """Start its engine; after a failure only once a pause is over."""
        is_early = now_s < self._retry_s or self.sleep.is_leaving
        if is_early or self.state in (ReplicaState.QUARANTINED, ReplicaState.STARTING):
            return
        depth = self.depth
        if self.state == ReplicaState.ASLEEP:
            self.sleep.wake(now_s)
        match depth:
            case SleepDepth.OFFLOADED:
                self.adopt_start(self.placement.actor.reload.remote(), now_s)
            case SleepDepth.OFF:
                self.sleep.waits_for_node = True
                self.enter(ReplicaState.STARTING, now_s)
            case _:
                self._start_engine(now_s)

    def node_is_on(self, now_s: float) -> None:
        """Start its engine if that waits for its node."""
        if self.sleep.waits_for_node:
            self.sleep.waits_for_node = False
            self._start_engine(now_s)

    def replaces(self, old: ReplicaHandle, now_s: float) -> None:
        """Go on where a replica of this name was whose node was off, or is lost."""
        if old.state == ReplicaState.QUARANTINED:
            return  # it has other GPUs now
        self.failures, self._retry_s = old.failures, old._retry_s
        if old.sleep.waits_for_node:
            self.sleep.woke_from, self.sleep._began_s = old.sleep.woke_from, old.sleep._began_s
        elif old.is_deep and self.state == ReplicaState.GONE:
            self.enter(ReplicaState.ASLEEP, now_s)
            self.sleep.depth = SleepDepth.STOPPED

    def _start_engine(self, now_s: float) -> None:
        place = self.placement
        # An actor that Ray has restarted may have other GPUs than before.
        gpus = place.actor.gpu_indices.remote()
        status = place.actor.status.remote()
        assignment = place.node.assign.remote(place.replica, gpus, place.cores, status, place.model)
        self.adopt_start(place.actor.start.remote(assignment, "", place.settings), now_s)

    def freeze(self, now_s: float) -> None:
        """Put it to sleep."""
        self._change(self.placement.actor.freeze, now_s)
        self.enter(ReplicaState.ASLEEP, now_s)
        self.in_last_step = self.report is not None and self.report.running > 0

    def deepen(self, depth: SleepDepth, now_s: float) -> None:
        """Put it to a deeper sleep; without requests only."""
        if not self.sleep.may_go_to(depth):
            return
        actor = self.placement.actor
        if depth is SleepDepth.OFFLOADED:
            self.sleep.begin(depth, now_s, None)
            self._change(actor.offload, now_s, OFFLOAD_S)
        else:
            leaving = None if self.sleep.has_no_process else actor.leave.remote()
            self.sleep.begin(depth, now_s, leaving)
            self._changes, self._status, self.url = [], None, ""
        self.enter(ReplicaState.ASLEEP, now_s)

    def move(self, placement: Placement, now_s: float) -> None:
        """Give it to another pool: its process ends, and it starts with the other engine.

        Args:
            placement: Where it runs, with the other pool, model and engine.
            now_s: Now, s.
        """
        self.placement = placement
        if not self.sleep.has_no_process:
            self.sleep.begin(SleepDepth.STOPPED, now_s, placement.actor.leave.remote())
        self.sleep.wake(now_s)
        self._changes, self._status, self.url = [], None, ""
        self._retry_s = now_s
        self.enter(ReplicaState.GONE, now_s)

    def thaw(self, now_s: float) -> None:
        """Wake it."""
        self._change(self.placement.actor.thaw, now_s)
        self.enter(ReplicaState.AWAKE, now_s)

    @property
    def pending(self) -> list[PendingCall]:
        """Its calls whose results were not there at the last update."""
        calls = [*self._changes, self._starting, self._status]
        return [call for call in calls if call is not None]

    def update(self, now_s: float, answers: Answers | None = None) -> None:
        """Take the results of finished calls, and request its status again.

        Args:
            now_s: Now, s.
            answers: The finished calls of many replicas; None to look at its own.
        """
        answers = answers or Answers.of(self.pending)
        try:
            self._finish_start(now_s, answers)
            self.sleep.finish_leaving(self.placement.actor, now_s)
            for change in [change for change in self._changes if answers.has(change)]:
                self._changes.remove(change)
                self._finish_change(change, answers, now_s)
            self._update_status(now_s, answers)
            self._check_deadlines(now_s)
            self._check_stall()
            self.since_s = now_s if self.is_waking else self.since_s
        except ray.exceptions.RayError as error:
            self._lose(error, now_s)

    def observation(self, outstanding: int, cache_worth: float = 0.0) -> ReplicaObservation:
        """Return what a policy gets.

        Args:
            outstanding: Its requests at the gateway.
            cache_worth: Blocks of recent prompts that its prefix cache could serve.
        """
        return ReplicaObservation(
            id=self.name,
            state=self.state,
            since_s=self.since_s,
            clock_mhz=self.clock_mhz,
            batch_limit=self.batch_limit,
            outstanding=outstanding,
            is_waking=self.is_waking,
            starting_w=self.assumed_w if self.state in COMING else 0.0,
            woke_to_drain=self.woke_to_drain,
            tokens_per_step=self.tokens_per_step,
            fault=self.fault,
            lowest_limit_w=sum(lowest_w for lowest_w, _ in self.placement.power_ranges_w),
            clock_is_free=self.clock_is_free,
            depth=self.depth,
            deep_w=self.draw_w if self.is_deep else 0.0,
            node=self.placement.node_id,
            pool=self.placement.pool,
            cache_worth=cache_worth,
        )

    def _finish_start(self, now_s: float, answers: Answers) -> None:
        if self._starting is None or not answers.has(self._starting):
            if self._starting is not None and self._starting.due_s == math.inf:
                self._starting = replace(self._starting, due_s=now_s + self.rule.longest_s)
            return
        status: ReplicaStatus = answers.result(self._starting)
        self._starting = None
        self.adopt(status, now_s)

    def _change(self, method: Any, now_s: float, longest_s: float = CHANGE_S) -> None:
        self._changes.append(PendingCall(method.remote(), now_s + longest_s))
        self._status = None  # a status from before the change is out of date

    def _finish_change(self, change: PendingCall, answers: Answers, now_s: float) -> None:
        try:
            answers.result(change)
        except ray.exceptions.RayTaskError as error:
            if not isinstance(error.cause, NotSupportedError):
                raise
            _log.warning("%s stays paused: %s", self.name, error.cause)
            self.sleep.refuse()
            return
        if self.depth is SleepDepth.OFFLOADED and not self._changes:
            self.sleep.arrived(now_s)

    def _update_status(self, now_s: float, answers: Answers) -> None:
        has_no_process = self.state == ReplicaState.ASLEEP and self.sleep.has_no_process
        if self.state in _WITHOUT_ENGINE or self._changes or has_no_process:
            return
        if self._status is not None:
            if not answers.has(self._status):
                return
            status: ReplicaStatus = answers.result(self._status)
            if not status.url:
                raise ray.exceptions.RayError("it has no engine")
            if status.frozen != (self.state == ReplicaState.ASLEEP):
                self._repeat_change(status, now_s)
                return
        self._status = PendingCall(self.placement.actor.status.remote(), now_s + STATUS_S)

    def _repeat_change(self, status: ReplicaStatus, now_s: float) -> None:
        found = "frozen" if status.frozen else "stepping"
        _log.warning("%s: asked to be %s, found %s", self.name, self.state, found)
        actor = self.placement.actor
        self._change(actor.thaw if status.frozen else actor.freeze, now_s)

    def _check_deadlines(self, now_s: float) -> None:
        """Raise if a result is overdue at two updates in a row.

        At the first, the whole machine may just have been paused, and this process with it.
        """
        before = self._is_overdue
        # A process that is stopped may go on: it has the time of a stall.
        is_stopped = self.report is not None and self.report.stopped
        more_s = self.rule.stall_s if is_stopped else 0.0
        self._is_overdue = any(call.due_s + more_s < now_s for call in self.pending)
        if before and self._is_overdue:
            raise ray.exceptions.GetTimeoutError(f"it does not answer, {self.state}")

    def _check_stall(self) -> None:
        """Raise if its engine has had work, or been stopped, for too long without a step."""
        report = self.report
        if self.state in _WITHOUT_ENGINE or report is None or self._changes:
            return
        if report.silent_s >= self.rule.stall_s:
            what = "is stopped" if report.stopped else "has work and makes no step"
            raise ray.exceptions.GetTimeoutError(f"its engine {what} for {report.silent_s:.0f} s")

    def _lose(self, error: ray.exceptions.RayError, now_s: float) -> None:
        """Count it as gone, and kill it if it is alive, so that no engine runs uncontrolled.

        It starts again at once after a first loss, and after a pause that doubles otherwise. A
        fault of its GPU, or too many failures, quarantine it: its actor stays without an engine,
        so that Ray gives its GPUs to no other one.
        """
        line = error_line(error)
        _log.warning("%s is gone: %s", self.name, line)
        was_starting = self.state == ReplicaState.STARTING
        has_engine = not was_starting or self.sleep.woke_from is SleepDepth.OFFLOADED
        match error, has_engine:
            case ray.exceptions.RayTaskError(), False:
                pass
            case ray.exceptions.RayTaskError() | ray.exceptions.GetTimeoutError(), _:
                ray.kill(self.placement.actor, no_restart=False)
        self._changes, self._starting, self._status = [], None, None
        self._is_overdue = False
        self.url, self.sleep = "", DeepSleep(cannot=self.sleep.cannot)
        self.enter(ReplicaState.GONE, now_s)
        self._count_failure(error, was_starting, now_s)
        if isinstance(getattr(error, "cause", None), GpuFaultError):
            self._quarantine(line, now_s)
        elif self.failures > self.rule.restarts:
            self._quarantine(f"{self.failures} failures in a row, the last: {line}", now_s)

    def _count_failure(
        self, error: ray.exceptions.RayError, was_starting: bool, now_s: float
    ) -> None:
        """Add a failure, and set the pause after it.

        An actor that is out of reach, as behind a slow network, says nothing about the replica.
        """
        if self._started_s is not None and now_s - self._started_s >= STABLE_S:
            self.failures = 0
        self._started_s = None
        self.failures += not isinstance(error, ray.exceptions.ActorUnavailableError)
        is_first_loss = not was_starting and self.failures <= 1
        pause_s = min(LONGEST_RETRY_S, RETRY_S * 2.0 ** max(0, self.failures - 1))
        self._retry_s = now_s if is_first_loss else now_s + pause_s

    def _quarantine(self, fault: str, now_s: float) -> None:
        self.fault = fault
        _log.error("%s is quarantined: %s", self.name, fault)
        self.enter(ReplicaState.QUARANTINED, now_s)

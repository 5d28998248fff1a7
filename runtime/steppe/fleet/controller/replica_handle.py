"""The controller's view of one replica: its state, its pending calls, its limits."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import ray

from steppe.control.state import COMING, ReplicaObservation, ReplicaState
from steppe.fleet.cluster import error_line
from steppe.fleet.messages import CHANGE_S, Placement, ReplicaReport, ReplicaStatus, mean_draw_w

RETRY_S = 1.0
"""Time between two attempts to start a replica, s."""
STATUS_S = 10.0
"""Longest time until a replica says how it is, s; it may share few cores with much else."""
LONGEST_START_S = 3600.0
"""Longest time of a start, s; its node may have to fetch the weights first."""

REST_MARGIN = 1.3
"""Most that a GPU draws at rest at its highest clock, over that at its lowest: 1.2 to 1.3 on the
emulated L4, A100 and H100; an allowance, not a measured number."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A call to an actor, and when its answer is due, s."""

    call: Any
    due_s: float


@dataclass(slots=True)
class ReplicaHandle:
    """One replica; `settle` brings its state up to date without waiting.

    A replica that lives but does not answer, or cannot do as it is told, is ended: Ray starts its
    actor again, and it counts as gone until then.

    Attributes:
        ends_step: Whether it was put to sleep in a step, and its clock is still that of the step.
        rests_w: What it draws asleep, as last metered without any step, W; None before.
    """

    placement: Placement
    state: ReplicaState = ReplicaState.GONE
    since_s: float = 0.0
    url: str = ""
    clock_mhz: int = 0
    batch_limit: int = 0
    report: ReplicaReport | None = None
    draw_w: float = 0.0
    most_w: float = 0.0
    is_finishing: bool = False
    ends_step: bool = False
    rests_w: float | None = None
    _changes: list[_Asked] = field(default_factory=list)
    _starting: _Asked | None = None
    _status: _Asked | None = None
    _is_overdue: bool = False
    _retry_s: float = 0.0

    @property
    def name(self) -> str:
        """Name of the replica."""
        return self.placement.replica

    @property
    def is_fenced(self) -> bool:
        """Whether no plan may count on it, because its GPUs do not obey."""
        usable = self.state in (ReplicaState.AWAKE, ReplicaState.DRAINING, ReplicaState.ASLEEP)
        return usable and self.report is not None and not self.report.obeys

    @property
    def assumed_w(self) -> float:
        """Draw to reckon with, W.

        While its meter is silent that is the most it was ever seen to draw; once it is asleep,
        the most it was seen to draw at rest and a margin, or else the last draw known.
        """
        match self.report, self.state:
            case ReplicaReport(draw_w=None, rest_w=float(rest_w)), ReplicaState.ASLEEP:
                return REST_MARGIN * rest_w
            case ReplicaReport(draw_w=None), state if state != ReplicaState.ASLEEP:
                return self.most_w
            case _:
                return self.draw_w

    @property
    def may_rest(self) -> bool:
        """Whether the step has ended in which it was put to sleep: its clock may fall."""
        return self.ends_step and self.report is not None and not self.report.stepping

    @property
    def is_waking(self) -> bool:
        """Whether it was told to serve or to finish and has not come back yet."""
        called = self.state in (ReplicaState.AWAKE, ReplicaState.DRAINING)
        return called and bool(self._changes)

    def take(self, reports: Sequence[ReplicaReport]) -> None:
        """Take what its node says of one window or more; its draw stays the last one known.

        A clock that nobody limits stays the one of its plan, or it would never seem to be followed.
        """
        self.report = last = reports[-1]
        self.batch_limit = last.batch_limit
        if self.placement.limits_clocks:
            self.clock_mhz = last.clock_mhz
        self.most_w = max(self.most_w, *(report.draw_w or 0.0 for report in reports))
        draw_w = mean_draw_w(reports)
        self.draw_w = self.draw_w if draw_w is None else draw_w
        still = [report for report in reports if not (report.stepping or report.tokens)]
        if self.state == ReplicaState.ASLEEP and still:
            self.rests_w = mean_draw_w(still)

    def move(self, state: ReplicaState, now_s: float) -> None:
        """Come to a state."""
        if state != self.state:
            _log.info("%s: %s -> %s", self.name, self.state, state)
            self.is_finishing = self.is_waking and state == ReplicaState.DRAINING
            self.ends_step, self.rests_w = False, None
            self.state, self.since_s = state, now_s

    def adopt(self, status: ReplicaStatus, now_s: float) -> None:
        """Take over a replica that runs already."""
        self.url = status.url
        if status.url:
            self.move(ReplicaState.ASLEEP if status.frozen else ReplicaState.AWAKE, now_s)
            self.ends_step = status.frozen  # nobody knows whether its clock has fallen

    def start(self, now_s: float) -> None:
        """Ask for a start; a replica that cannot is asked again a little later."""
        if now_s < self._retry_s:
            return
        self._retry_s = now_s + RETRY_S
        place = self.placement
        # An actor that Ray started again may have other GPUs than before.
        gpus = place.actor.gpu_indices.remote()
        status = place.actor.status.remote()
        seat = place.node.seat.remote(place.replica, gpus, place.cores, status)
        self._starting = _Asked(place.actor.start.remote(seat), now_s + LONGEST_START_S)
        self.move(ReplicaState.STARTING, now_s)

    def freeze(self, now_s: float) -> None:
        """Park it."""
        self._change(self.placement.actor.freeze, now_s)
        self.move(ReplicaState.ASLEEP, now_s)
        self.ends_step = self.report is not None and self.report.running > 0

    def thaw(self, now_s: float) -> None:
        """Bring it back."""
        self._change(self.placement.actor.thaw, now_s)
        self.move(ReplicaState.AWAKE, now_s)

    def settle(self, now_s: float) -> None:
        """Look at what has come back, and ask again how it is."""
        try:
            self._finish_start(now_s)
            for change in [change for change in self._changes if _is_ready(change)]:
                self._changes.remove(change)
                ray.get(change.call)
            self._ask_status(now_s)
            self._look_at_silence(now_s)
            self.since_s = now_s if self.is_waking else self.since_s
        except ray.exceptions.RayError as error:
            self._lose(error, now_s)

    def seen(self, outstanding: int) -> ReplicaObservation:
        """Return what a policy sees."""
        return ReplicaObservation(
            id=self.name,
            state=self.state,
            since_s=self.since_s,
            clock_mhz=self.clock_mhz,
            batch_limit=self.batch_limit,
            outstanding=outstanding,
            is_waking=self.is_waking,
            starting_w=self.assumed_w if self.state in COMING else 0.0,
            is_finishing=self.is_finishing,
        )

    def _finish_start(self, now_s: float) -> None:
        if self._starting is None or not _is_ready(self._starting):
            return
        status: ReplicaStatus = ray.get(self._starting.call)
        self._starting = None
        self.adopt(status, now_s)

    def _change(self, method: Any, now_s: float) -> None:
        self._changes.append(_Asked(method.remote(), now_s + CHANGE_S))
        self._status = None  # an answer from before the change says nothing

    def _ask_status(self, now_s: float) -> None:
        if self.state in (ReplicaState.STARTING, ReplicaState.GONE) or self._changes:
            return
        if self._status is not None:
            if not _is_ready(self._status):
                return
            status: ReplicaStatus = ray.get(self._status.call)
            if not status.url:
                raise ray.exceptions.ActorUnavailableError("its engine is not there", None)
            if status.frozen != (self.state == ReplicaState.ASLEEP):
                self._insist(status, now_s)
                return
        self._status = _Asked(self.placement.actor.status.remote(), now_s + STATUS_S)

    def _insist(self, status: ReplicaStatus, now_s: float) -> None:
        """Ask again for what it should have done."""
        found = "frozen" if status.frozen else "stepping"
        _log.warning("%s: asked to be %s, found %s", self.name, self.state, found)
        actor = self.placement.actor
        self._change(actor.thaw if status.frozen else actor.freeze, now_s)

    def _look_at_silence(self, now_s: float) -> None:
        """Refuse an answer that is overdue at two looks in a row.

        At the first, the whole machine may just have come out of a pause, we with it.
        """
        before = self._is_overdue
        asked = [*self._changes, self._starting, self._status]
        self._is_overdue = any(one is not None and one.due_s < now_s for one in asked)
        if before and self._is_overdue:
            raise ray.exceptions.GetTimeoutError(f"it does not answer, {self.state}")

    def _lose(self, error: ray.exceptions.RayError, now_s: float) -> None:
        """Count it as gone, and end it if it lives: nobody would tell its engine what to do."""
        _log.warning("%s is gone: %s", self.name, error_line(error))
        match error, self.state:
            case ray.exceptions.RayTaskError(), ReplicaState.STARTING:
                pass  # it has no engine
            case ray.exceptions.RayTaskError() | ray.exceptions.GetTimeoutError(), _:
                ray.kill(self.placement.actor, no_restart=False)
        self._changes, self._starting, self._status = [], None, None
        self._is_overdue = False
        self.url = ""
        self.move(ReplicaState.GONE, now_s)


def _is_ready(asked: _Asked) -> bool:
    """Tell whether a call has an answer, without waiting."""
    done, _ = ray.wait([asked.call], timeout=0)
    return bool(done)

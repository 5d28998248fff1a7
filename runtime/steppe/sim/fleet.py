"""The simulated fleet behind the control loop: `fleet/controller/live_fleet.py` in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from steppe.control.admission import DEFERRABLE
from steppe.control.demand import Demand, Traffic
from steppe.control.placing import QUEUE_PER_REPLICA
from steppe.control.reconcile import Action, Drain, Retune, Sleep, Start, Wake
from steppe.control.state import Observation, ReplicaState
from steppe.power.budget import Budget, PowerBudget
from steppe.report.tick_records import FleetWindow, ReplicaWindow
from steppe.sim.engine.kind import ReplicaKind
from steppe.sim.engine.replica import SimulatedReplica, Stepped
from steppe.sim.events import EventQueue
from steppe.sim.gate import Patience, SimulatedGateway
from steppe.sim.member import SimulatedHandle
from steppe.sim.request import Request, SimulatedArrival

FROZEN_S = 0.5
"""Windows tell what a sleeper draws that begin so long after it was told to sleep, s."""


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """How large the fleet is, and how soon it obeys.

    Attributes:
        replicas: Replicas of the one pool.
        kind: What each is.
        patience: When the gateway refuses.
        clock_latency_s: From a new clock limit to the new clock, s.
    """

    replicas: int
    kind: ReplicaKind
    patience: Patience
    clock_latency_s: float


@dataclass(slots=True)
class SimulatedTotals:
    """Energy of a run so far, J."""

    energy_j: float = 0.0
    idle_j: float = 0.0
    transition_j: float = 0.0


@dataclass(slots=True)
class MeterWindow:
    """The window that the meters closed last: when, how long, how much."""

    end_s: float = 0.0
    width_s: float = 0.0
    energy_j: float = 0.0

    @property
    def draw_w(self) -> float | None:
        """Mean draw, W; None before the first window."""
        return self.energy_j / self.width_s if self.width_s > 0 else None


class SimulatedFleet:
    """Implements the control loop's `Fleet` over replicas in virtual time.

    Attributes:
        books: Energy so far.
        observation: The last observation; None before the first.
        budget: The budget as it was last observed.
    """

    def __init__(
        self,
        settings: FleetSettings,
        budget: PowerBudget,
        queue: EventQueue,
        ended: Callable[[Request], None],
    ) -> None:
        """Begin with every replica awake, without limits and without work.

        Args:
            settings: What the fleet is.
            budget: Where the watts come from.
            queue: Virtual time.
            ended: Takes each request that has ended, once its energy is complete.
        """
        self._settings, self._power, self._queue, self._ended = settings, budget, queue, ended
        kind = settings.kind
        self._members = [
            SimulatedHandle(
                f"replica-{index + 1}",
                SimulatedReplica(kind, queue, kind.full_clock_mhz, self._stepper(index)),
                queue,
                settings.clock_latency_s,
            )
            for index in range(settings.replicas)
        ]
        self._by_name = {member.name: member for member in self._members}
        self._gate = SimulatedGateway(
            settings.replicas, settings.patience, queue, self._send, self._done_with
        )
        self._demand, self._arrived, self._answered = Demand(), 0, 0
        self._deferrable_arrived = 0
        self._settling: list[Request] = []
        self._window = MeterWindow()
        self.observation: Observation | None = None
        self.books = SimulatedTotals()
        self.budget: Budget = budget.at(queue.now_s)

    def observe(self, now_s: float) -> Observation:
        """Look at meters, gateway, replicas and budget."""
        draw_w, outstanding = self._window.draw_w, self._gate.outstanding
        width_s = self._window.width_s
        self._power.settle(now_s, draw_w or 0.0)
        self.budget = self._power.at(now_s)
        asked = self._demand.take(self._traffic(now_s))
        self.observation = Observation(
            now_s=now_s,
            gpu_budget_w=self.budget.gpu_budget_w,
            draw_w=draw_w,
            demand_tps=asked.tps,
            waiting=self._gate.waiting,
            replicas=tuple(
                [
                    m.seen(taken, width_s)
                    for m, taken in zip(self._members, outstanding, strict=True)
                ]
            ),
            deferrable=asked.deferrable,
            asleep_w=self._asleep_w(),
        )
        return self.observation

    def apply(self, actions: list[Action]) -> None:
        """Carry out actions in their order, then tell the gateway who serves."""
        for action in actions:
            self._carry_out(action, self._by_name[action.replica])
        self._gate.route(
            [
                member.batch_limit + QUEUE_PER_REPLICA if member.state == ReplicaState.AWAKE else 0
                for member in self._members
            ]
        )

    def arrive(self, number: int, arrival: SimulatedArrival) -> None:
        """Let a client send a request."""
        self._arrived += 1
        self._deferrable_arrived += arrival.rank == DEFERRABLE
        self._gate.submit(Request(number, arrival))

    def fail(self, index: int) -> None:
        """Let a replica die; requests without a token yet go to others."""
        member = self._members[index]
        if member.state in (ReplicaState.GONE, ReplicaState.STARTING):
            return
        member.move(ReplicaState.GONE)
        self._gate.release_all(index)
        for request, tokens in member.replica.fail():
            if request.first_s is None:
                self._gate.submit_again(request)
            else:
                self._answered += 1
                request.end(self._queue.now_s, "failed", tokens)
                self._done_with(request)

    def read_meters(self) -> None:
        """Close a window of every meter, and hand over the requests that ended in it."""
        now_s, books, window_j = self._queue.now_s, self.books, 0.0
        for member in self._members:
            reading = member.replica.read_meter()
            member.drawn_j = reading.energy_j
            window_j += reading.energy_j
            books.idle_j += reading.idle_j
            books.transition_j += reading.transition_j
        books.energy_j += window_j
        self._window = MeterWindow(now_s, now_s - self._window.end_s, window_j)
        for request in self._settling:
            self._ended(request)
        self._settling.clear()

    def window(self) -> FleetWindow:
        """Return what the fleet did since the last call."""
        width_s = self._window.width_s
        replicas = [
            ReplicaWindow(member.draw_w(width_s), member.take_tokens()) for member in self._members
        ]
        return FleetWindow(
            draw_w=self._window.draw_w or 0.0,
            energy_j=self._window.energy_j,
            output_tokens=sum([replica.output_tokens for replica in replicas]),
            running=sum([len(member.replica.batch.running) for member in self._members]),
            replicas=replicas,
        )

    def close(self) -> None:
        """End the run: clients leave, and what is drawn is charged."""
        self._gate.close()
        for member in self._members:
            for request, tokens in member.replica.fail():
                request.end(self._queue.now_s, "cancelled", tokens)
                self._done_with(request)
        self.read_meters()

    def _asleep_w(self) -> float | None:
        """Return the mean draw of those that slept through the last window, W; None if none did."""
        width_s = self._window.width_s
        latest_s = self._window.end_s - width_s - FROZEN_S
        slept_w = [m.draw_w(width_s) for m in self._members if m.has_slept_since(latest_s)]
        return sum(slept_w) / len(slept_w) if slept_w else None

    def _traffic(self, now_s: float) -> Traffic:
        tokens = sum([member.replica.output_tokens for member in self._members])
        deferrable = (self._deferrable_arrived, self._gate.deferrable)
        return Traffic(now_s, self._arrived, self._answered, tokens, *deferrable)

    def _carry_out(self, action: Action, member: SimulatedHandle) -> None:
        lowest_mhz = self._settings.kind.lowest_clock_mhz
        match action:
            case Start():
                member.move(ReplicaState.STARTING)
                member.limit(lowest_mhz, 1)
                member.replica.start(lambda now_s, _: member.move(ReplicaState.AWAKE))
            case Sleep():
                member.replica.freeze()
                member.move(ReplicaState.ASLEEP)
                member.limit(lowest_mhz, 1)
            case Drain(_, clock_mhz, batch_limit):
                member.limit(clock_mhz, batch_limit)
                if member.state == ReplicaState.ASLEEP:
                    member.replica.thaw()
                member.move(ReplicaState.DRAINING)
            case Wake(_, clock_mhz, batch_limit):
                member.limit(clock_mhz, batch_limit)
                member.replica.thaw()
                member.move(ReplicaState.AWAKE)
            case Retune(_, clock_mhz, batch_limit):
                member.move(ReplicaState.AWAKE)
                member.limit(clock_mhz, batch_limit)

    def _send(self, index: int, request: Request) -> None:
        request.replica = index
        self._members[index].replica.offer(request)

    def _stepper(self, index: int) -> Stepped:
        def stepped(begun: int, ended: list[Request]) -> None:
            self._gate.begin(index, begun)
            self._answered += len(ended)
            for request in ended:
                self._settling.append(request)
                self._gate.release(index)

        return stepped

    def _done_with(self, request: Request) -> None:
        self._settling.append(request)

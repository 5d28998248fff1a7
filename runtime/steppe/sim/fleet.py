"""The simulated fleet behind the control loop: `fleet/controller/live_fleet.py` in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from steppe.control.admission import DEFERRABLE
from steppe.control.batch_work import BatchWork
from steppe.control.demand import DemandEstimator, Traffic
from steppe.control.measurements import ClockWork, summed_by_clock
from steppe.control.placing import QUEUE_PER_REPLICA
from steppe.control.reconcile import Action, Deepen, Drain, Retune, Sleep, Start, Wake
from steppe.control.sleep_ladder import SleepDepth
from steppe.control.state import Observation, ReplicaState
from steppe.load.arrivals import Arrival
from steppe.power.budget import Budget, PowerBudget
from steppe.report.tick_records import FleetWindow, ReplicaWindow
from steppe.sim.engine.energy import NOTHING_BESIDE, Beside
from steppe.sim.engine.replica import ReplicaReading, SimulatedReplica, Stepped
from steppe.sim.events import EventQueue
from steppe.sim.fleet_settings import FleetSettings
from steppe.sim.gateway import SimulatedGateway
from steppe.sim.latency import SimulatedLatency
from steppe.sim.prompts import PromptTotals
from steppe.sim.replica_handle import SimulatedHandle
from steppe.sim.request import Request

FROZEN_S = 0.5
"""A window shows the draw of a sleeping replica if it begins this long after the sleep, s."""


@dataclass(slots=True)
class SimulatedTotals:
    """Energy of a run so far, J."""

    energy_j: float = 0.0
    idle_j: float = 0.0
    transition_j: float = 0.0


@dataclass(slots=True)
class SimulatedWindow:
    """The last window of the meters."""

    end_s: float = 0.0
    width_s: float = 0.0
    energy_j: float = 0.0
    beside_j: float = 0.0

    @property
    def draw_w(self) -> float | None:
        """Mean draw of the GPUs, W; None before the first window."""
        return self.energy_j / self.width_s if self.width_s > 0 else None


@dataclass(frozen=True, slots=True)
class Given:
    """A replica that goes to another pool.

    Attributes:
        reading: Its energy since the meters were read.
        window: What it did in the last window.
    """

    reading: ReplicaReading
    window: ReplicaWindow


class SimulatedFleet:
    """Implements the control loop's `Fleet` over replicas in virtual time.

    Attributes:
        totals: Energy so far.
        observation: The last observation; None before the first.
        budget: The budget of the last observation.
        row_ended: Takes each deferrable request as it ends, at once.
        work: Returns the batch work that runners declare.
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
            settings: Size and kind of the fleet.
            budget: The power budget.
            queue: Virtual time.
            ended: Takes each request that has ended, once its energy is complete.
        """
        self._settings, self._power, self._queue, self._ended = settings, budget, queue, ended
        places = settings.place.replicas or settings.replicas
        self._handles = [self._handle(index) for index in range(places)]
        self._by_name = {handle.name: handle for handle in self._handles}
        self._settling: list[Request] = []
        self._given: list[tuple[SimulatedHandle, ReplicaReading]] = []
        self._beside = NOTHING_BESIDE
        self._gateway = SimulatedGateway(places, settings.gateway, queue, self._send, self._refuse)
        self._demand, self._arrived, self._answered = DemandEstimator(), 0, 0
        self._deferrable_arrived, self._prompts = 0, PromptTotals()
        self._deferrable_answered = self._deferrable_tokens = 0
        self._window = SimulatedWindow()
        self._latency = SimulatedLatency(settings.gateway.ttft_s, settings.gateway.tpot_s)
        self._work: tuple[ClockWork, ...] = ()
        self.observation: Observation | None = None
        self.totals = SimulatedTotals()
        self.row_ended: Callable[[Request], None] = lambda _: None
        self.work: Callable[[float], tuple[BatchWork, ...]] = lambda _: ()
        self.budget: Budget = budget.at(queue.now_s)

    def observe(self, now_s: float) -> Observation:
        """Observe meters, gateway, replicas and budget."""
        self._power.set_node_rest(self._settings.node_rest_w * len(self.nodes_on))
        self._power.settle(now_s, self._window.draw_w or 0.0)
        self.budget = self._power.at(now_s)
        self.observation = self.observe_within(now_s, self.budget.gpu_budget_w)
        return self.observation

    def observe_within(self, now_s: float, gpu_budget_w: float) -> Observation:
        """Observe meters, gateway and replicas on a budget, W."""
        outstanding, width_s = self._gateway.slots.outstanding, self._window.width_s
        load = self._demand.update(self._traffic(now_s))
        return Observation(
            now_s=now_s,
            gpu_budget_w=gpu_budget_w,
            draw_w=self._window.draw_w,
            demand_tps=load.tps,
            waiting=self._gateway.waiting,
            replicas=tuple(
                [
                    handle.observe(taken, width_s, self._gateway.worth(index))
                    for index, (handle, taken) in enumerate(
                        zip(self._handles, outstanding, strict=True)
                    )
                    if handle.is_here
                ]
            ),
            deferrable=load.deferrable,
            asleep_w=self._asleep_w(),
            lengths=load.lengths,
            engine_queue=sum([len(handle.replica.batch.waiting) for handle in self._handles]),
            latency=self._latency.counts(now_s),
            work=self._work,
            batch=self.work(now_s),
        )

    def apply(self, actions: list[Action]) -> None:
        """Carry out actions in their order, then give the gateway the awake replicas."""
        for action in actions:
            self.carry_out(action)
        self.route()

    def carry_out(self, action: Action) -> None:
        """Carry out one action."""
        self._carry_out(action, self._by_name[action.replica])

    def route(self) -> None:
        """Give the gateway the awake replicas."""
        self._gateway.route(
            [
                handle.batch_limit + QUEUE_PER_REPLICA if handle.serves else 0
                for handle in self._handles
            ],
            [handle.planned_tps for handle in self._handles],
        )

    def places(self) -> tuple[int, int]:
        """Return the places of the awake replicas, and the open requests that are firm."""
        slots = self._gateway.slots
        firm = sum(slots.outstanding) - sum(slots.later)
        return sum(slots.limits), firm + self._gateway.waiting - self._gateway.deferrable

    @property
    def has_room(self) -> bool:
        """Whether a request would get a slot at once."""
        return not self._gateway.waiting and self._gateway.slots.has_room

    def take_waiting(self, is_wanted: Callable[[Request], bool], most: int) -> list[Request]:
        """Give away requests that no replica has taken yet; see `SimulatedGateway`."""
        taken = self._gateway.take_waiting(is_wanted, most) if self._gateway.waiting else []
        for request in taken:
            self._latency.leave(request)
        return taken

    def withdraw(self, number: int) -> Request | None:
        """Take back a request that no replica has taken yet; None if one has."""
        taken = self.take_waiting(lambda request: request.number == number, 1)
        return taken[0] if taken else None

    def lose_all(self) -> list[Request]:
        """Let all replicas die; return the requests without a token, which nothing serves now.

        The others are handed over as failed at once.
        """
        for index in range(len(self._handles)):
            self.fail(index)
        waiting = self.take_waiting(lambda _: True, self._gateway.waiting)
        self.read_meters()
        return waiting

    def arrive(self, number: int, arrival: Arrival, asked: str = "") -> Request:
        """Let a client send a request, and return it.

        Args:
            number: Its arrival number.
            arrival: What the client sends.
            asked: The alias that it asks for; empty if it asks for the model.
        """
        self._arrived += 1
        self._latency.arrive(number, arrival.at_s, arrival.rank)
        self._deferrable_arrived += arrival.rank == DEFERRABLE
        request = Request(number, arrival, self._settings.place.pool, asked)
        self._prompts.arrive(request)
        self._gateway.submit(request)
        return request

    def fail(self, index: int) -> None:
        """Let a replica die; requests without a token yet go to others."""
        handle = self._handles[index]
        if not handle.is_here or handle.state in (ReplicaState.GONE, ReplicaState.STARTING):
            return
        handle.move(ReplicaState.GONE)
        self._gateway.release_all(index)
        for request, tokens in handle.replica.fail():
            if request.first_s is None:
                self._gateway.submit_again(request)
            else:
                self._answered += 1
                request.end(self._queue.now_s, "failed", tokens)
                self._settling.append(request)
                if request.is_deferrable:
                    self.row_ended(request)

    def read_meters(self, beside: Beside | None = None) -> None:
        """Close a window of every meter, and hand over the requests that ended in it.

        Args:
            beside: What each replica that is on is charged beside its GPUs; None if the fleet has
                no other pools.
        """
        now_s, totals, window_j, beside_j = self._queue.now_s, self.totals, 0.0, 0.0
        works: list[ClockWork] = []
        if beside is None:
            beside = self._settings.beside(len(self.nodes_on), self.replicas_on)
        self._beside = beside
        for handle in self.here:
            is_on = handle.depth is not SleepDepth.OFF
            reading = handle.replica.read_meter(beside if is_on else NOTHING_BESIDE)
            if reading.work.steps and handle.has_kept_its_clock_since(self._window.end_s):
                works.append(reading.work)
            handle.drawn_j = reading.energy_j
            window_j += reading.energy_j
            beside_j += reading.beside_j
            totals.idle_j += reading.idle_j
            totals.transition_j += reading.transition_j
        for handle, reading in self._given:
            handle.drawn_j += reading.energy_j
            window_j += reading.energy_j
            beside_j += reading.beside_j
            totals.idle_j += reading.idle_j
            totals.transition_j += reading.transition_j
        self._given.clear()
        totals.energy_j += window_j + beside_j
        self._work = summed_by_clock(works)
        self._window = SimulatedWindow(now_s, now_s - self._window.end_s, window_j, beside_j)
        for request in self._settling:
            self._ended(request)
        self._settling.clear()

    def window(self) -> FleetWindow:
        """Return what the fleet did since the last call."""
        width_s = self._window.width_s
        replicas = [
            ReplicaWindow(handle.draw_w(width_s), handle.take_tokens()) for handle in self.here
        ]
        return FleetWindow(
            draw_w=self._window.draw_w or 0.0,
            energy_j=self._window.energy_j + self._window.beside_j,
            output_tokens=sum([replica.output_tokens for replica in replicas]),
            running=sum([len(handle.replica.batch.running) for handle in self._handles]),
            replicas=replicas,
        )

    def close(self) -> None:
        """End the run: cancel what is outstanding, and read the meters."""
        self.cancel()
        self.read_meters()

    def cancel(self) -> None:
        """Cancel what is outstanding."""
        self._gateway.close()
        for handle in self._handles:
            for request, tokens in handle.replica.fail():
                request.end(self._queue.now_s, "cancelled", tokens)
                self._settling.append(request)

    @property
    def draw_w(self) -> float | None:
        """Mean draw of the last window, W; None before the first."""
        return self._window.draw_w

    @property
    def pool(self) -> str:
        """Name of the pool; empty if there is only one."""
        return self._settings.place.pool

    @property
    def here(self) -> list[SimulatedHandle]:
        """The replicas of the pool."""
        return [handle for handle in self._handles if handle.is_here]

    @property
    def nodes_on(self) -> set[str]:
        """The nodes that are not switched off."""
        return {m.node for m in self.here if m.depth is not SleepDepth.OFF}

    @property
    def replicas_on(self) -> int:
        """Number of replicas whose nodes are not switched off."""
        return sum(handle.depth is not SleepDepth.OFF for handle in self.here)

    def _handle(self, index: int) -> SimulatedHandle:
        settings, place, queue = self._settings, self._settings.place, self._queue
        full_mhz, of_pool = settings.kind.full_clock_mhz, index - place.first
        handle = SimulatedHandle(
            f"replica-{index + 1}",
            SimulatedReplica(settings.kind, queue, full_mhz, self._stepper(index)),
            queue,
            settings.clock_latency_s,
            place.nodes[index] if place.nodes else settings.node(index),
        )
        handle.pool = place.pool
        handle.is_here = 0 <= of_pool < settings.replicas
        return handle

    def _asleep_w(self) -> float | None:
        """Return the mean draw of the replicas that slept all through the last window, W."""
        width_s = self._window.width_s
        latest_s = self._window.end_s - width_s - FROZEN_S
        slept_w = [m.draw_w(width_s) for m in self.here if m.has_slept_since(latest_s)]
        return sum(slept_w) / len(slept_w) if slept_w else None

    def _traffic(self, now_s: float) -> Traffic:
        return Traffic(
            now_s=now_s,
            arrived=self._arrived,
            answered=self._answered,
            output_tokens=sum([handle.replica.output_tokens for handle in self._handles]),
            deferrable_arrived=self._deferrable_arrived,
            deferrable_waiting=self._gateway.deferrable,
            deferrable_running=sum(self._gateway.slots.later),
            deferrable_answered=self._deferrable_answered,
            deferrable_tokens=self._deferrable_tokens,
            prompt_tokens=self._prompts.prompt_tokens,
            running=sum(self._gateway.slots.outstanding),
            cached_tokens=self._prompts.cached_tokens,
        )

    def _carry_out(self, action: Action, handle: SimulatedHandle) -> None:
        lowest_mhz = self._settings.kind.lowest_clock_mhz
        match action:
            case Start():
                self._start(handle)
                handle.set_limits(lowest_mhz, 1)
            case Deepen(_, depth):
                handle.deepen(self._settings.kind.rung(depth))
                handle.set_limits(lowest_mhz, 1)
                self._gateway.forget(self._handles.index(handle))
            case Sleep():
                handle.replica.freeze()
                handle.move(ReplicaState.ASLEEP)
                handle.set_limits(lowest_mhz, 1)
            case Drain(_, clock_mhz, batch_limit):
                handle.set_limits(clock_mhz, batch_limit)
                if handle.state == ReplicaState.ASLEEP:
                    handle.replica.thaw()
                handle.move(ReplicaState.DRAINING)
            case Wake(_, clock_mhz, batch_limit, tokens):
                handle.set_limits(clock_mhz, batch_limit, tokens_per_step=tokens)
                handle.planned_tps = action.output_tps
                handle.replica.thaw()
                handle.move(ReplicaState.AWAKE)
            case Retune(_, clock_mhz, batch_limit, holds, tokens):
                handle.move(ReplicaState.AWAKE)
                handle.planned_tps = action.output_tps
                handle.set_limits(clock_mhz, batch_limit, holds=holds, tokens_per_step=tokens)

    def give(self, name: str) -> Given:
        """Give a replica without requests to another pool."""
        handle = self._by_name[name]
        assert handle.is_here, f"{name} is in this pool"
        reading = handle.replica.read_meter(self._beside)
        lost = handle.replica.fail()
        assert not lost, f"{name} has no request"
        self._gateway.release_all(self._handles.index(handle))
        handle.is_here = False
        handle.move(ReplicaState.GONE)
        return Given(
            reading, ReplicaWindow(handle.draw_w(self._window.width_s), handle.take_tokens())
        )

    def take(self, name: str, given: Given) -> None:
        """Take a replica of another pool, and load this pool's model on it."""
        handle = self._by_name[name]
        handle.replica.read_meter()  # what it was before is no energy of this run
        handle.is_here, handle.drawn_j = True, 0.0
        self._given.append((handle, given.reading))
        handle.start(self._settings.place.load_s)
        handle.set_limits(self._settings.kind.lowest_clock_mhz, 1)

    def _start(self, handle: SimulatedHandle) -> None:
        """Start a replica; if its node was off, the other replicas of the node are stopped now."""
        kind = self._settings.kind
        if not handle.is_deep:
            handle.start(kind.transitions.start_s)
            return
        was_off = handle.depth is SleepDepth.OFF
        handle.start(kind.rung(handle.depth).wake_s)
        for other in self._handles if was_off else ():
            if other.node == handle.node and other.is_deep:
                other.deepen(kind.rung(SleepDepth.STOPPED))

    def _refuse(self, request: Request) -> None:
        self._latency.leave(request)
        self._settling.append(request)
        if request.is_deferrable:
            self.row_ended(request)

    def _send(self, index: int, request: Request) -> None:
        request.replica = index
        self._handles[index].replica.offer(request)

    def _stepper(self, index: int) -> Stepped:
        def stepped(begun: list[Request], ended: list[Request]) -> None:
            self._latency.begin(begun)
            self._prompts.begin(begun)
            self._latency.end(self._queue.now_s, ended)
            self._gateway.begin(index, begun)
            self._answered += len(ended)
            for request in ended:
                self._settling.append(request)
                self._gateway.release(index, request)
                if request.is_deferrable:
                    self._deferrable_answered += 1
                    self._deferrable_tokens += request.output_tokens
                    self.row_ended(request)

        return stepped

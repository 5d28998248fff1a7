"""One replica in virtual time: its steps, its transitions, its energy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from steppe.control.measurements import ClockWork
from steppe.control.sleep_ladder import SleepRung
from steppe.sim.engine.batch import Batch
from steppe.sim.engine.energy import NOTHING_BESIDE, Beside, EnergyShares, IdleEnergy, IdleState
from steppe.sim.engine.kind import ReplicaKind
from steppe.sim.engine.step_run import StepRun
from steppe.sim.events import EventQueue
from steppe.sim.request import Request


@dataclass(frozen=True, slots=True)
class ReplicaReading:
    """The energy of one replica in one window.

    Attributes:
        energy_j: Energy of the window, J.
        idle_j: Part of it without a step, J.
        transition_j: Part of it in transitions, J.
        work: The steps that ended in it, at the clock that is in force now.
        beside_j: Energy beside the GPUs, J; requests and `idle_j` have it, `energy_j` does not.
    """

    energy_j: float
    idle_j: float
    transition_j: float
    work: ClockWork
    beside_j: float = 0.0


WORK_TERMS = 7
"""Numbers of `ClockWork` beside the clock."""
Stepped = Callable[[list[Request], list[Request]], None]


class SimulatedReplica:
    """Runs steps, as many at once as are alike.

    New limits, a new clock, a freeze and new requests take effect with the next step.

    Attributes:
        batch: Its sequences.
        clock_mhz: SM clock in force, MHz.
    """

    __slots__ = (
        "_asleep_w",
        "_busy_j",
        "_busy_s",
        "_closed",
        "_epoch",
        "_frozen",
        "_idle",
        "_kind",
        "_metered_s",
        "_queue",
        "_read_j",
        "_ready",
        "_run",
        "_run_number",
        "_shares",
        "_stepped",
        "_work",
        "_work_read",
        "batch",
        "clock_mhz",
    )

    def __init__(
        self,
        kind: ReplicaKind,
        queue: EventQueue,
        clock_mhz: int,
        stepped: Stepped,
    ) -> None:
        """Begin awake and without work.

        Args:
            kind: What all replicas have in common.
            queue: Virtual time.
            clock_mhz: Initial SM clock, MHz.
            stepped: Takes the requests that got their first token in a step, and those that ended
                with it, before the next step is chosen.
        """
        self._kind, self._queue, self._stepped = kind, queue, stepped
        self._shares = EnergyShares()
        self.batch = Batch(kind.engine, 1, self._shares)
        self.clock_mhz = clock_mhz
        self._run: StepRun | None = None
        self._run_number = self._epoch = 0
        self._frozen, self._ready = False, True
        self._asleep_w = kind.model.asleep_w
        self._busy_s = self._busy_j = self._read_j = 0.0
        self._closed, self._metered_s = (0.0, 0.0), queue.now_s
        self._work, self._work_read = [0.0] * WORK_TERMS, [0.0] * WORK_TERMS
        self._idle = IdleEnergy(queue.now_s, kind.table.idle_w(clock_mhz))

    def offer(self, request: Request) -> None:
        """Take a request in."""
        self.batch.offer(request)
        if self._run is None:
            self._go_on()
        elif self.batch.gives_way_to(request) or len(self.batch.running) < self.batch.limit:
            self._cut_run()

    def limit_batch(self, limit: int, *, holds: bool = True) -> None:
        """Set the batch limit, and whether it binds running requests, too."""
        if (limit, holds) != (self.batch.limit, self.batch.holds):
            self.batch.limit, self.batch.holds = limit, holds
            self._cut_run()

    def limit_tokens(self, tokens_per_step: int) -> None:
        """Set the most tokens of a step, at least one for each place in the batch; 0: no limit."""
        engine = self._kind.engine.tokens_per_step
        tokens = min(engine, max(tokens_per_step, self.batch.limit)) if tokens_per_step else engine
        if tokens != self.batch.tokens_per_step:
            self.batch.tokens_per_step = tokens
            self._cut_run()

    def limit_clock(self, clock_mhz: int) -> None:
        """Set the SM clock."""
        if clock_mhz == self.clock_mhz:
            return
        self.clock_mhz = clock_mhz
        if self._run is not None:
            self._cut_run()
        elif self._ready and not self._frozen:
            self._idle.change(IdleState.IDLE, self._queue.now_s, self._kind.table.idle_w(clock_mhz))

    def freeze(self) -> None:
        """Stop stepping after the present step; requests keep their state."""
        self._frozen = True
        self._cut_run()
        if self._run is None:
            self._fall_asleep()

    def thaw(self) -> None:
        """Step again once awake."""
        self._frozen = False
        if self._run is None:
            self._change(self._kind.transitions.wake_s)

    def deepen(self, rung: SleepRung) -> None:
        """Sleep deeper than a pause, from a pause or a shallower sleep, without requests."""
        assert self._run is None, "only a replica without requests sleeps deeper"
        self._epoch += 1
        self._frozen, self._ready = True, False
        self._asleep_w = rung.asleep_w
        self.batch.prefixes.clear()  # vLLM's sleep clears what is in host memory, too
        if rung.sleep_s > 0:
            self._queue.at(self._queue.now_s + rung.sleep_s, self._sleep, self._epoch)
        else:
            self._sleep(self._queue.now_s, self._epoch)

    def fail(self) -> list[tuple[Request, int]]:
        """Lose the engine; return every request with its output tokens."""
        now_s, run = self._queue.now_s, self._run
        if run is not None:
            done = min(self._done(run), run.steps - 1)
            partial_j = run.drawn_by(now_s, done) - run.energy_j(done)
            if done:
                self._add(run, done)
                self.batch.advance(done, now_s)
            self._run = None
            self._idle.begin(now_s)
            self._idle.add_idle(partial_j)
        self._epoch += 1
        self._ready = False
        self._idle.change(IdleState.IDLE, self._queue.now_s, self._kind.model.asleep_w)
        return self.batch.drop_all()

    def start(self, done: Callable[[float, object], None], duration_s: float) -> None:
        """Start the engine, or bring it back from a deep sleep; call `done` when it serves."""
        self._frozen, self._asleep_w = False, self._kind.model.asleep_w
        self._change(duration_s)
        self._queue.at(self._queue.now_s + duration_s, done, self._epoch)

    @property
    def is_ready(self) -> bool:
        """Whether it can step: it neither starts nor wakes."""
        return self._ready

    @property
    def output_tokens(self) -> int:
        """Output tokens sampled so far."""
        run, tokens = self._run, self.batch.output_tokens
        return tokens if run is None else tokens + self.batch.decodes * self._done(run)

    def read_meter(self, beside: Beside = NOTHING_BESIDE) -> ReplicaReading:
        """Close a window: charge the steps that ended in it, and return its energy.

        Args:
            beside: What is beside the GPUs, and is charged by the time of steps and without.
        """
        now_s, run = self._queue.now_s, self._run
        busy_s, busy_j, share_s = self._busy_s, self._busy_j, self._shares.share_s
        partial_j, work = 0.0, self._work.copy()
        if run is None:
            self._idle.add_until(now_s)
        else:
            done = self._done(run)
            span_s, ended_j = run.span_s(done), run.energy_j(done)
            partial_j = run.drawn_by(now_s, done) - ended_j
            busy_s, busy_j = busy_s + span_s, busy_j + ended_j
            if done:
                share_s += span_s / self.batch.decodes
                self._add_work(work, run, done)
        closed_s, closed_j = self._closed
        stepped_s, stepped_j = busy_s - closed_s, busy_j - closed_j
        charged_j = beside.energy_j(stepped_j, stepped_s)
        self._shares.close(stepped_j + charged_j, stepped_s, share_s)
        self._closed = (busy_s, busy_j)
        idle_j, transition_j = self._idle.take()
        read_j = busy_j + partial_j
        energy_j = read_j - self._read_j + idle_j + transition_j
        self._read_j = read_j
        window_s, self._metered_s = now_s - self._metered_s, now_s
        beside_j = beside.energy_j(energy_j, window_s)
        idle_j += beside_j - charged_j
        ended = [now - before for now, before in zip(work, self._work_read, strict=True)]
        self._work_read = work
        work_done = ClockWork(self.clock_mhz, *ended)
        return ReplicaReading(energy_j, idle_j, transition_j, work_done, beside_j)

    def _done(self, run: StepRun) -> int:
        """Return the number of ended steps of the run; one with prompts ends by its event."""
        return 0 if self.batch.chunks else run.done_by(self._queue.now_s)

    def _go_on(self) -> None:
        """Begin the next steps, if there is work."""
        if self._frozen or not self._ready:
            return
        kind, batch, clock_mhz = self._kind, self.batch, self.clock_mhz
        if not batch.plan():
            self._idle.change(IdleState.IDLE, self._queue.now_s, kind.table.idle_w(clock_mhz))
            return
        now_s, decodes = self._queue.now_s, batch.decodes
        self._idle.add_until(now_s)
        if batch.chunks:
            step_s, step_j = kind.table.mixed(clock_mhz, batch.chunk_tokens, decodes, batch.context)
            if batch.load_s:
                step_s += batch.load_s
                step_j += batch.load_s * kind.table.idle_w(clock_mhz)
                batch.load_s = 0.0
            run = StepRun(now_s, 1, first_s=step_s, first_j=step_j)
        else:
            line = kind.table.decode(clock_mhz, decodes, batch.context)
            into, left = batch.context - line.start, line.end - batch.context
            run = StepRun(
                now_s,
                min(batch.uniform_steps, -(-left // decodes)),
                first_s=line.first_s + line.slope_s * into,
                slope_s=line.slope_s * decodes,
                first_j=line.first_j + line.slope_j * into,
                slope_j=line.slope_j * decodes,
            )
        self._run = run
        self._expect_end(run)

    def _expect_end(self, run: StepRun) -> None:
        self._run_number += 1
        self._queue.at(run.start_s + run.span_s(run.steps), self._end_run, self._run_number)

    def _cut_run(self) -> None:
        """End the run with its present step, because the next one may differ."""
        run = self._run
        if run is None or run.steps == 1:
            return
        steps = run.done_by(self._queue.now_s) + 1
        if steps < run.steps:
            run.steps = steps
            self._expect_end(run)

    def _end_run(self, now_s: float, number: int) -> None:
        run = self._run
        if number != self._run_number or run is None:
            return
        self._add(run, run.steps)
        ended = self.batch.advance(run.steps, now_s)
        begun = self.batch.take_begun()
        if begun or ended:
            self._stepped(begun, ended)
        self._run = None
        self._idle.begin(now_s)
        if self._frozen:
            self._fall_asleep()
        else:
            self._go_on()

    def _add(self, run: StepRun, steps: int) -> None:
        """Add the time and energy of steps, and the shares of their requests."""
        span_s, batch = run.span_s(steps), self.batch
        self._add_work(self._work, run, steps)
        self._busy_s += span_s
        self._busy_j += run.energy_j(steps)
        if not batch.chunks:
            self._shares.share_s += span_s / batch.decodes
            return
        weights = self._kind.weights
        of_decode = weights.sequence + weights.decode
        of_prompts = [weights.sequence + weights.prompt * tokens for _, tokens in batch.chunks]
        per_weight_s = span_s / (batch.decodes * of_decode + sum(of_prompts))
        self._shares.share_s += per_weight_s * of_decode
        for (sequence, _), weight in zip(batch.chunks, of_prompts, strict=True):
            self._shares.charge(sequence.request, per_weight_s * weight)

    def _add_work(self, work: list[float], run: StepRun, steps: int) -> None:
        """Add the first steps of a run to work, in the order of `ClockWork`."""
        batch = self.batch
        work[0] += steps
        if batch.chunks:
            work[1] += steps
            work[3] += batch.chunk_tokens
        work[2] += batch.decodes * steps
        work[4] += batch.context * steps + batch.decodes * steps * (steps - 1) / 2
        work[5] += run.span_s(steps)
        work[6] += run.energy_j(steps)

    def _change(self, duration_s: float) -> None:
        """Be ready to step after a transition."""
        self._epoch += 1
        if duration_s > 0:
            self._ready = False
            self._idle.change(
                IdleState.TRANSITION, self._queue.now_s, self._kind.transitions.draw_w
            )
            self._queue.at(self._queue.now_s + duration_s, self._become_ready, self._epoch)
        else:
            self._become_ready(self._queue.now_s, self._epoch)

    def _become_ready(self, _now_s: float, epoch: int) -> None:
        if epoch == self._epoch:
            self._ready = True
            self._go_on()

    def _fall_asleep(self) -> None:
        self._epoch += 1
        transitions = self._kind.transitions
        if transitions.sleep_s > 0:
            self._idle.change(IdleState.TRANSITION, self._queue.now_s, transitions.draw_w)
            self._queue.at(self._queue.now_s + transitions.sleep_s, self._sleep, self._epoch)
        else:
            self._sleep(self._queue.now_s, self._epoch)

    def _sleep(self, now_s: float, epoch: int) -> None:
        if epoch == self._epoch:
            self._idle.change(IdleState.IDLE, now_s, self._asleep_w)

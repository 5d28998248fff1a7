"""One replica in virtual time: its steps, its rests, its joules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from steppe.sim.engine.account import Account
from steppe.sim.engine.batch import Batch
from steppe.sim.engine.idle_energy import IdleEnergy, IdleState
from steppe.sim.engine.kind import ReplicaKind
from steppe.sim.engine.sequence import Sequence
from steppe.sim.engine.step_run import StepRun
from steppe.sim.events import EventQueue
from steppe.sim.request import Request


@dataclass(frozen=True, slots=True)
class ReplicaReading:
    """What one replica drew in one window.

    Attributes:
        energy_j: Energy of the window, J.
        idle_j: The part of it without a step, J.
        transition_j: The part of it that changes of state cost, J.
    """

    energy_j: float
    idle_j: float
    transition_j: float


Stepped = Callable[[int, list[Request]], None]


class SimulatedReplica:
    """Runs steps, as many at once as are alike.

    A step goes on to its end as it began: new limits, a new clock, a freeze and new requests
    count from the next step on.

    Attributes:
        batch: Its sequences.
        clock_mhz: SM clock in force, MHz.
    """

    __slots__ = (
        "_account",
        "_busy_j",
        "_busy_s",
        "_closed",
        "_epoch",
        "_frozen",
        "_kind",
        "_queue",
        "_read_j",
        "_ready",
        "_rests",
        "_run",
        "_run_number",
        "_stepped",
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
            kind: What it is.
            queue: Virtual time.
            clock_mhz: SM clock to begin with, MHz.
            stepped: Takes how many requests got their first token by a step, and which ended
                with it, before the next step is chosen.
        """
        self._kind, self._queue, self._stepped = kind, queue, stepped
        self._account = Account()
        self.batch = Batch(kind.engine, 1, self._account)
        self.clock_mhz = clock_mhz
        self._run: StepRun | None = None
        self._run_number = self._epoch = 0
        self._frozen, self._ready = False, True
        self._busy_s = self._busy_j = self._read_j = 0.0
        self._closed = (0.0, 0.0)
        self._rests = IdleEnergy(queue.now_s, kind.table.idle_w(clock_mhz))

    def offer(self, request: Request) -> None:
        """Take a request in."""
        self.batch.waiting.append(Sequence(request))
        if self._run is None:
            self._go_on()
        elif len(self.batch.running) < self.batch.limit:
            self._cut_run()

    def limit_batch(self, limit: int) -> None:
        """Set the batch limit."""
        if limit != self.batch.limit:
            self.batch.limit = limit
            self._cut_run()

    def limit_clock(self, clock_mhz: int) -> None:
        """Let the SM clock be this."""
        if clock_mhz == self.clock_mhz:
            return
        self.clock_mhz = clock_mhz
        if self._run is not None:
            self._cut_run()
        elif self._ready and not self._frozen:
            self._rests.become(
                IdleState.IDLE, self._queue.now_s, self._kind.table.idle_w(clock_mhz)
            )

    def freeze(self) -> None:
        """Stop stepping after the step that runs; requests keep their place."""
        self._frozen = True
        self._cut_run()
        if self._run is None:
            self._fall_asleep()

    def thaw(self) -> None:
        """Go on stepping once awake."""
        self._frozen = False
        if self._run is None:
            self._change(self._kind.transitions.wake_s)

    def fail(self) -> list[tuple[Request, int]]:
        """Die; return every request with the tokens that it had."""
        now_s, run = self._queue.now_s, self._run
        if run is not None:
            done = min(self._done(run), run.steps - 1)
            partial_j = run.drawn_by(now_s, done) - run.energy_j(done)
            if done:
                self._book(run, done)
                self.batch.advance(done, now_s)
            self._run = None
            self._rests.begin(now_s)
            self._rests.add_idle(partial_j)
        self._epoch += 1
        self._ready = False
        self._rests.become(IdleState.IDLE, self._queue.now_s, self._kind.model.asleep_w)
        return self.batch.drop_all()

    def start(self, done: Callable[[float, object], None]) -> None:
        """Come back from nothing, and say so."""
        self._frozen = False
        self._change(self._kind.transitions.start_s)
        self._queue.at(self._queue.now_s + self._kind.transitions.start_s, done, self._epoch)

    @property
    def is_ready(self) -> bool:
        """Whether it can step: it neither starts nor wakes."""
        return self._ready

    @property
    def output_tokens(self) -> int:
        """How many tokens it has sampled."""
        run, tokens = self._run, self.batch.output_tokens
        return tokens if run is None else tokens + self.batch.decodes * self._done(run)

    def read_meter(self) -> ReplicaReading:
        """Close a window: charge the steps that ended in it, and return what was drawn."""
        now_s, run = self._queue.now_s, self._run
        busy_s, busy_j, share_s = self._busy_s, self._busy_j, self._account.share_s
        partial_j = 0.0
        if run is None:
            self._rests.book(now_s)
        else:
            done = self._done(run)
            span_s, ended_j = run.span_s(done), run.energy_j(done)
            partial_j = run.drawn_by(now_s, done) - ended_j
            busy_s, busy_j = busy_s + span_s, busy_j + ended_j
            if done:
                share_s += span_s / self.batch.decodes
        closed_s, closed_j = self._closed
        self._account.close(busy_j - closed_j, busy_s - closed_s, share_s)
        self._closed = (busy_s, busy_j)
        idle_j, transition_j = self._rests.take()
        read_j = busy_j + partial_j
        energy_j = read_j - self._read_j + idle_j + transition_j
        self._read_j = read_j
        return ReplicaReading(energy_j, idle_j, transition_j)

    def _done(self, run: StepRun) -> int:
        """Return how many steps of the run have ended; one that takes prompts ends by its event."""
        return 0 if self.batch.chunks else run.done_by(self._queue.now_s)

    def _go_on(self) -> None:
        """Begin the next steps, or rest."""
        if self._frozen or not self._ready:
            return
        kind, batch, clock_mhz = self._kind, self.batch, self.clock_mhz
        if not batch.plan():
            self._rests.become(IdleState.IDLE, self._queue.now_s, kind.table.idle_w(clock_mhz))
            return
        now_s, decodes = self._queue.now_s, batch.decodes
        self._rests.book(now_s)
        if batch.chunks:
            step_s, step_j = kind.table.mixed(clock_mhz, batch.chunk_tokens, decodes, batch.context)
            run = StepRun(now_s, 1, (step_s, 0.0), (step_j, 0.0))
        else:
            line = kind.table.decode(clock_mhz, decodes, batch.context)
            into, left = batch.context - line.start, line.end - batch.context
            run = StepRun(
                now_s,
                min(batch.uniform_steps, -(-left // decodes)),
                (line.first_s + line.slope_s * into, line.slope_s * decodes),
                (line.first_j + line.slope_j * into, line.slope_j * decodes),
            )
        self._run = run
        self._expect_end(run)

    def _expect_end(self, run: StepRun) -> None:
        self._run_number += 1
        self._queue.at(run.start_s + run.span_s(run.steps), self._end_run, self._run_number)

    def _cut_run(self) -> None:
        """Let the run end with the step that runs, for the next one may differ."""
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
        self._book(run, run.steps)
        begun = self.batch.begun
        ended = self.batch.advance(run.steps, now_s)
        begun = self.batch.begun - begun
        if begun or ended:
            self._stepped(begun, ended)
        self._run = None
        self._rests.begin(now_s)
        if self._frozen:
            self._fall_asleep()
        else:
            self._go_on()

    def _book(self, run: StepRun, steps: int) -> None:
        """Note the time and energy of steps, and who shares them."""
        span_s, batch = run.span_s(steps), self.batch
        self._busy_s += span_s
        self._busy_j += run.energy_j(steps)
        if not batch.chunks:
            self._account.share_s += span_s / batch.decodes
            return
        weights = self._kind.weights
        of_decode = weights.sequence + weights.decode
        of_prompts = [weights.sequence + weights.prompt * tokens for _, tokens in batch.chunks]
        per_weight_s = span_s / (batch.decodes * of_decode + sum(of_prompts))
        self._account.share_s += per_weight_s * of_decode
        for (sequence, _), weight in zip(batch.chunks, of_prompts, strict=True):
            self._account.charge(sequence.request, per_weight_s * weight)

    def _change(self, duration_s: float) -> None:
        """Be ready to step after a transition."""
        self._epoch += 1
        if duration_s > 0:
            self._ready = False
            self._rests.become(
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
            self._rests.become(IdleState.TRANSITION, self._queue.now_s, transitions.draw_w)
            self._queue.at(self._queue.now_s + transitions.sleep_s, self._sleep, self._epoch)
        else:
            self._sleep(self._queue.now_s, self._epoch)

    def _sleep(self, now_s: float, epoch: int) -> None:
        if epoch == self._epoch:
            self._rests.become(IdleState.IDLE, now_s, self._kind.model.asleep_w)

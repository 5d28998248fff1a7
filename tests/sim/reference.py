"""The same fleet, simulated the simplest way: one step after another, nothing skipped.

Slow and plain on purpose: lists are searched anew at every step, and no sum is in closed form.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import Any

ROTATE_STEPS, FRESH_WEIGHT = 8, 16


@dataclass
class RefRequest:
    number: int
    at_s: float
    prompt: int
    output: int
    rank: int
    got: int = 0
    cached: int = 0
    target: int = 0
    first_s: float | None = None
    end_s: float | None = None
    replica: int | None = None

    def __post_init__(self) -> None:
        self.target = self.prompt

    def is_late(self, now_s: float) -> bool:
        """Tell whether more than a quarter of an SLO of 2 s is over; class 2 has all the time."""
        return self.rank < 2 and self.at_s + 0.5 < now_s


@dataclass
class RefStep:
    start_s: float
    end_s: float
    energy_j: float
    weights: dict[int, float]


@dataclass
class RefReplica:
    kind: Any
    clock: int
    limit: int = 1
    frozen: bool = False
    ready: bool = True
    running: list[RefRequest] = field(default_factory=list)
    waiting: list[RefRequest] = field(default_factory=list)
    steps: list[RefStep] = field(default_factory=list)
    plan: list[tuple[RefRequest, int]] = field(default_factory=list)
    timer_s: float = inf
    timer: str = ""
    rests: list[tuple[float, float, float, bool]] = field(default_factory=list)
    rest: tuple[float, float, bool] | None = None
    tokens: list[float] = field(default_factory=list)
    holds: int = 0
    preemptions: int = 0

    def __post_init__(self) -> None:
        self.rest = (0.0, self.kind.model.idle_w(self.clock), False)

    @property
    def stepping(self) -> bool:
        return self.timer == "step"

    def become(self, now_s: float, draw_w: float, transition: bool = False) -> None:
        self.wake_up(now_s)
        self.rest = (now_s, draw_w, transition)

    def wake_up(self, now_s: float) -> None:
        if self.rest is not None:
            start_s, draw_w, transition = self.rest
            self.rests.append((start_s, now_s, draw_w, transition))
        self.rest = None

    def set_timer(self, at_s: float, what: str) -> None:
        self.timer_s, self.timer = at_s, what

    def command(self, now_s: float, what: str, value: int) -> None:
        if what == "limit":
            self.limit = value
        elif what == "clock" and value != self.clock:
            self.clock = value
            if not self.stepping and self.ready and not self.frozen:
                self.become(now_s, self.kind.model.idle_w(value))
        elif what == "freeze" and not self.frozen:
            self.frozen = True
            if not self.stepping:
                self.fall_asleep(now_s)
        elif what == "thaw" and self.frozen:
            self.frozen = False
            if not self.stepping:
                self.ready = False
                self.become(now_s, self.kind.transitions.draw_w, transition=True)
                self.set_timer(now_s + self.kind.transitions.wake_s, "ready")

    def fall_asleep(self, now_s: float) -> None:
        self.become(now_s, self.kind.transitions.draw_w, transition=True)
        self.set_timer(now_s + self.kind.transitions.sleep_s, "asleep")

    def offer(self, now_s: float, request: RefRequest) -> None:
        self.waiting.append(request)
        if not self.stepping:
            self.go_on(now_s)

    def go_on(self, now_s: float) -> None:
        if self.frozen or not self.ready:
            return
        self.choose()
        if not self.plan:
            self.become(now_s, self.kind.model.idle_w(self.clock))
            self.set_timer(inf, "")
            return
        self.wake_up(now_s)
        prompts = [(r, n) for r, n in self.plan if r.cached < r.target]
        decodes = [r for r, n in self.plan if r.cached >= r.target]
        context = sum(r.cached for r in decodes)
        if prompts:
            computed = sum(n for _, n in prompts)
            step_s, step_j = self.kind.table.mixed(self.clock, computed, len(decodes), context)
        else:
            line = self.kind.table.decode(self.clock, len(decodes), context)
            step_s = line.first_s + line.slope_s * (context - line.start)
            step_j = line.first_j + line.slope_j * (context - line.start)
        w = self.kind.weights
        weights = {r.number: w.sequence + w.decode for r in decodes}
        weights |= {r.number: w.sequence + w.prompt * n for r, n in prompts}
        self.steps.append(RefStep(now_s, now_s + step_s, step_j, weights))
        self.set_timer(now_s + step_s, "step")

    def choose(self) -> None:
        while True:
            if len(self.running) > self.limit and len(self.steps) % ROTATE_STEPS == 0:
                self.running = self.running[self.limit :] + self.running[: self.limit]
            active = self.running[: self.limit]
            held = self.running[self.limit :]
            self.holds += bool(held)
            preempted = self.fit(active)
            self.running = active + held
            if not preempted and not held:
                self.admit()
            if self.plan or not preempted:
                return

    def fit(self, active: list[RefRequest]) -> bool:
        preempted = False
        while True:
            decodes = [r for r in active if r.cached >= r.target]
            room = self.kind.engine.tokens_per_step - len(decodes)
            self.plan = [(r, 1) for r in decodes]
            for request in active:
                if request.cached < request.target:
                    left = request.target - request.cached
                    tokens = min(left, self.kind.engine.chunk_tokens, room)
                    if tokens > 0:
                        self.plan.append((request, tokens))
                        room -= tokens
            used = sum(r.cached for r in self.running) + sum(n for _, n in self.plan)
            if used <= self.kind.engine.kv_tokens:
                return preempted
            victim = active.pop()
            self.running.remove(victim)
            victim.cached, victim.target = 0, victim.prompt + victim.got
            self.waiting.insert(0, victim)
            preempted = True
            self.preemptions += 1

    def admit(self) -> None:
        while self.waiting and len(self.running) < self.limit:
            planned = sum(n for _, n in self.plan)
            used = sum(r.cached for r in self.running) + planned
            request = self.waiting[0]
            room = self.kind.engine.tokens_per_step - planned
            tokens = min(request.target, self.kind.engine.chunk_tokens, room)
            if tokens <= 0 or used + tokens > self.kind.engine.kv_tokens:
                return
            self.running.append(self.waiting.pop(0))
            self.plan.append((request, tokens))

    def end_step(self, now_s: float) -> list[RefRequest]:
        finished = []
        for request, tokens in self.plan:
            request.cached += tokens
            if request.cached < request.target:
                continue
            request.got += 1
            self.tokens.append(now_s)
            if request.first_s is None:
                request.first_s = now_s
            if request.got == request.output:
                request.end_s = now_s
                finished.append(request)
        self.running = [r for r in self.running if r not in finished]
        return finished

    def after_step(self, now_s: float) -> None:
        self.set_timer(inf, "")
        if self.frozen:
            self.fall_asleep(now_s)
        else:
            self.go_on(now_s)

    def drawn_j(self, until_s: float) -> float:
        """Return the energy up to a time; a step draws evenly."""
        total = 0.0
        for step in self.steps:
            share = (until_s - step.start_s) / (step.end_s - step.start_s)
            total += step.energy_j * min(1.0, max(0.0, share))
        for start_s, end_s, draw_w, _ in self.rests:
            total += draw_w * max(0.0, min(end_s, until_s) - start_s)
        if self.rest is not None:
            total += self.rest[1] * max(0.0, until_s - self.rest[0])
        return total


class RefFleet:
    """Replicas behind one queue."""

    def __init__(self, kind: Any, replicas: int, clock: int) -> None:
        self.replicas = [RefReplica(kind, clock) for _ in range(replicas)]
        self.outstanding = [0] * replicas
        self.table = [0] * replicas
        self.queue: list[RefRequest] = []
        self.requests: list[RefRequest] = []
        self.turn = 0

    def run(self, arrivals: list[Any], commands: list[Any], until_s: float) -> None:
        arrivals, commands = list(arrivals), list(commands)
        while True:
            timers = [replica.timer_s for replica in self.replicas]
            times = [
                commands[0][0] if commands else inf,
                arrivals[0].at_s if arrivals else inf,
                min(timers),
            ]
            now_s = min(times)
            if now_s > until_s:
                return
            if times[0] == now_s:
                _, index, what, value = commands.pop(0)
                self.command(now_s, index, what, value)
            elif times[1] == now_s:
                self.arrive(now_s, arrivals.pop(0))
            else:
                self.fire(now_s, timers.index(now_s))

    def command(self, now_s: float, index: int, what: str, value: int) -> None:
        if what == "route":
            self.table[index] = value
            self.hand_out(now_s)
        else:
            self.replicas[index].command(now_s, what, value)

    def arrive(self, now_s: float, arrival: Any) -> None:
        request = RefRequest(
            len(self.requests) + 1,
            arrival.at_s,
            arrival.prompt_tokens,
            arrival.output_tokens,
            arrival.rank,
        )
        self.requests.append(request)
        self.queue.append(request)
        self.hand_out(now_s)

    def hand_out(self, now_s: float) -> None:
        while self.queue:
            count = len(self.replicas)
            best, least = None, inf
            for place in range(count):
                index = (self.turn + place) % count
                if self.outstanding[index] < self.table[index]:
                    replica = self.replicas[index]
                    asked = [*replica.running, *replica.waiting]
                    fresh = sum(request.first_s is None for request in asked)
                    load = (self.outstanding[index] + FRESH_WEIGHT * fresh) / self.table[index]
                    if load < least:
                        best, least = index, load
            if best is None:
                return
            self.turn = best + 1
            request = min(self.queue, key=lambda r: (r.rank, r.is_late(now_s), r.number))
            self.queue.remove(request)
            self.outstanding[best] += 1
            request.replica = best
            self.replicas[best].offer(now_s, request)

    def fire(self, now_s: float, index: int) -> None:
        replica = self.replicas[index]
        what = replica.timer
        if what == "step":
            for _ in replica.end_step(now_s):
                self.outstanding[index] -= 1
                self.hand_out(now_s)
            replica.after_step(now_s)
        elif what == "ready":
            replica.set_timer(inf, "")
            replica.ready = True
            replica.go_on(now_s)
        else:
            replica.set_timer(inf, "")
            replica.become(now_s, replica.kind.model.asleep_w)

"""The simulator agrees with one that takes every step by itself."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steppe.energy.attribution import BusyStep, TokenWeights, attribute
from steppe.load.arrivals import Arrival
from steppe.sim.engine.batch import BatchLimits
from steppe.sim.engine.kind import ReplicaKind, Transitions
from steppe.sim.engine.replica import SimulatedReplica, Stepped
from steppe.sim.events import EventQueue
from steppe.sim.gateway import GatewayLimits, SimulatedGateway
from steppe.sim.request import Request

FULL_MHZ = 1200
END_S = 60.0
SAMPLE_S = 0.731
WEIGHTS = TokenWeights(sequence=0.01, prompt=5e-5, decode=2e-4)
Command = tuple[float, int, str, int]


class Fleet:
    """A gate and replicas under a script, without a control loop."""

    def __init__(self, kind: ReplicaKind, replicas: int) -> None:
        self.queue = EventQueue()
        self.requests: list[Request] = []
        self.samples: list[list[tuple[int, float]]] = []
        self.energy_j = [0.0] * replicas
        self.rest_j = 0.0
        self.replicas = [
            SimulatedReplica(kind, self.queue, FULL_MHZ, self._stepper(i)) for i in range(replicas)
        ]
        self.table = [0] * replicas
        patience = GatewayLimits(1000, 1000.0, 2.0)
        self.gate = SimulatedGateway(replicas, patience, self.queue, self._send, lambda _: None)

    def run(self, arrivals: list[Arrival], commands: list[Command]) -> None:
        for command in commands:
            self.queue.at(command[0], self._obey, command)
        for arrival in arrivals:
            self.queue.at(arrival.at_s, self._arrive, arrival)
        for i in range(1, int(END_S / SAMPLE_S)):
            self.queue.at(i * SAMPLE_S, self._sample)
        self.queue.run_until(END_S)

    def _stepper(self, index: int) -> Stepped:
        def stepped(begun: int, ended: list[Request]) -> None:
            self.gate.begin(index, begun)
            for _ in ended:
                self.gate.release(index)

        return stepped

    def _send(self, index: int, request: Request) -> None:
        request.replica = index
        self.replicas[index].offer(request)

    def _arrive(self, now_s: float, arrival: Arrival) -> None:
        request = Request(len(self.requests) + 1, arrival)
        self.requests.append(request)
        self.gate.submit(request)

    def _obey(self, now_s: float, command: Command) -> None:
        _, index, what, value = command
        replica = self.replicas[index]
        match what:
            case "route":
                self.table = [*self.table]
                self.table[index] = value
                self.gate.route(self.table)
            case "limit":
                replica.limit_batch(value)
            case "clock":
                replica.limit_clock(value)
            case "freeze":
                if not replica._frozen:
                    replica.freeze()
            case "thaw":
                if replica._frozen:
                    replica.thaw()

    def _sample(self, now_s: float, _: object) -> None:
        tokens = [replica.output_tokens for replica in self.replicas]
        for index, replica in enumerate(self.replicas):
            reading = replica.read_meter()
            self.energy_j[index] += reading.energy_j
            self.rest_j += reading.idle_j + reading.transition_j
        self.samples.append(list(zip(tokens, self.energy_j, strict=True)))


@dataclass(frozen=True)
class Script:
    """A small workload, and what is done to the two replicas meanwhile."""

    engine: BatchLimits
    arrivals: list[Arrival]
    commands: list[Command]


def write_script(rng: Random) -> Script:
    kv_tokens = rng.choice([80, 300, 1500, 20_000])
    engine = BatchLimits(
        tokens_per_step=rng.choice([8, 64, 10_000]),
        chunk_tokens=rng.choice([16, 10_000]),
        kv_tokens=kv_tokens,
    )
    longest, busy_s = min(kv_tokens // 2, 500), rng.uniform(0.5, 20.0)
    arrivals = [
        Arrival(
            rng.uniform(0.01, busy_s),
            rng.randint(1, longest),
            rng.randint(1, longest),
            rng.randint(0, 2),
        )
        for _ in range(rng.randint(1, 40))
    ]
    orders = ("limit", "limit", "clock", "freeze", "thaw", "route")
    values = {"limit": (1, 2, 3, 5, 8), "clock": (300, 700, FULL_MHZ), "route": (0, 4, 8)}
    commands = [
        (rng.uniform(0.0, 30.0), rng.randint(0, 1), what, rng.choice(values.get(what, (0,))))
        for what in rng.choices(orders, k=rng.randint(0, 25))
    ]
    begin = [(0.0, i, what, 6) for i in (0, 1) for what in ("limit", "route")]
    rescue = [(31.0, i, what, 8) for i in (0, 1) for what in ("thaw", "limit", "route")]
    arrivals.sort(key=lambda arrival: arrival.at_s)
    return Script(engine, arrivals, [*begin, *sorted(commands), *rescue])


def both(script: Script, reference: ModuleType, model: Any) -> tuple[Fleet, Any]:
    """Return both simulations of a script, run to the end."""
    transitions = Transitions(start_s=3.0, wake_s=0.7, sleep_s=0.3, draw_w=90.0)
    kind = ReplicaKind(model, script.engine, 300, FULL_MHZ, transitions, WEIGHTS)
    fleet = Fleet(kind, replicas=2)
    fleet.run(script.arrivals, script.commands)
    plain = reference.RefFleet(kind, 2, FULL_MHZ)
    plain.run(script.arrivals, script.commands, END_S)
    return fleet, plain


def test_the_scripts_hold_and_preempt(reference: ModuleType, curved_model: Any) -> None:
    runs = [both(write_script(Random(seed)), reference, curved_model)[1] for seed in range(30)]
    replicas = [replica for plain in runs for replica in plain.replicas]
    assert sum(replica.holds for replica in replicas) > 100
    assert sum(replica.preemptions for replica in replicas) > 100


@given(seed=st.integers(0, 1 << 32))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_times_tokens_and_joules_are_those_of_single_steps(
    reference: ModuleType, curved_model: Any, seed: int
) -> None:
    fleet, plain = both(write_script(Random(seed)), reference, curved_model)
    for ours, theirs in zip(fleet.requests, plain.requests, strict=True):
        assert ours.replica == theirs.replica
        assert (ours.first_s or 0.0) == pytest.approx(theirs.first_s or 0.0, rel=1e-9)
        assert ours.end_s == pytest.approx(theirs.end_s or 0.0, rel=1e-9)
    for number, sample in enumerate(fleet.samples, start=1):
        now_s = number * SAMPLE_S
        for (tokens, energy_j), replica in zip(sample, plain.replicas, strict=True):
            assert tokens == sum(at_s <= now_s for at_s in replica.tokens)
            assert energy_j == pytest.approx(replica.drawn_j(now_s), rel=1e-9)


@given(seed=st.integers(0, 1 << 32))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_requests_are_charged_as_if_each_step_were_attributed(
    reference: ModuleType, curved_model: Any, seed: int
) -> None:
    fleet, plain = both(write_script(Random(seed)), reference, curved_model)
    last_s = len(fleet.samples) * SAMPLE_S
    charged_uj: dict[int, int] = {}
    for replica in plain.replicas:
        for number in range(1, len(fleet.samples) + 1):
            begin_s, end_s = (number - 1) * SAMPLE_S, number * SAMPLE_S
            steps = [step for step in replica.steps if begin_s < step.end_s <= end_s]
            busy = [BusyStep(step.end_s - step.start_s, step.weights) for step in steps]
            shares = attribute(sum(s.energy_j for s in steps), end_s - begin_s, 0.0, busy)
            for key, part_uj in shares.requests_uj.items():
                charged_uj[key] = charged_uj.get(key, 0) + part_uj
    for request in fleet.requests:
        if 0 < request.end_s <= last_s:
            expected_j = charged_uj[request.number] * 1e-6
            assert request.energy_j == pytest.approx(expected_j, rel=1e-6, abs=1e-4)

"""The simulator agrees with one that takes every step by itself."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from math import isclose
from random import Random

import pytest
from tests.fixtures.curved_model import CurvedModel
from tests.fixtures.step_by_step_fleet import RefFleet

from steppe.energy.attribution import BusyStep, TokenWeights, attribute
from steppe.load.arrivals import Arrival
from steppe.sim.engine.batch import BatchLimits
from steppe.sim.engine.kind import ReplicaKind, Transitions
from steppe.sim.engine.replica import SimulatedReplica, Stepped
from steppe.sim.events import EventQueue
from steppe.sim.gateway import GatewayLimits, SimulatedGateway
from steppe.sim.request import Request

SCRIPTS = 50
FULL_MHZ = 1200
END_S = 60.0
SAMPLE_S = 0.731
WEIGHTS = TokenWeights(sequence=0.01, prompt=5e-5, decode=2e-4)
Command = tuple[float, int, str, int]


class Fleet:
    """A gateway and replicas under a script, without a control loop."""

    def __init__(self, kind: ReplicaKind, replicas: int) -> None:
        self.queue = EventQueue()
        self.requests: list[Request] = []
        self.samples: list[list[tuple[int, float]]] = []
        self.energy_j = [0.0] * replicas
        self.idle_j = 0.0
        self.replicas = [
            SimulatedReplica(kind, self.queue, FULL_MHZ, self._stepper(i)) for i in range(replicas)
        ]
        self.table = [0] * replicas
        limits = GatewayLimits(1000, 1000.0, 2.0)
        self.gateway = SimulatedGateway(replicas, limits, self.queue, self._send, lambda _: None)

    def run(self, arrivals: list[Arrival], commands: list[Command]) -> None:
        for command in commands:
            self.queue.at(command[0], self._execute, command)
        for arrival in arrivals:
            self.queue.at(arrival.at_s, self._arrive, arrival)
        for i in range(1, int(END_S / SAMPLE_S)):
            self.queue.at(i * SAMPLE_S, self._sample)
        self.queue.run_until(END_S)

    def _stepper(self, index: int) -> Stepped:
        def stepped(begun: list[Request], ended: list[Request]) -> None:
            self.gateway.begin(index, begun)
            for request in ended:
                self.gateway.release(index, request)

        return stepped

    def _send(self, index: int, request: Request) -> None:
        request.replica = index
        self.replicas[index].offer(request)

    def _arrive(self, now_s: float, arrival: Arrival) -> None:
        request = Request(len(self.requests) + 1, arrival)
        self.requests.append(request)
        self.gateway.submit(request)

    def _execute(self, now_s: float, command: Command) -> None:
        _, index, what, value = command
        replica = self.replicas[index]
        match what:
            case "route":
                self.table = [*self.table]
                self.table[index] = value
                self.gateway.route(self.table)
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
            self.idle_j += reading.idle_j + reading.transition_j
        self.samples.append(list(zip(tokens, self.energy_j, strict=True)))


@dataclass(frozen=True)
class Script:
    """A small workload, and the commands to the two replicas."""

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
    arrivals = [write_arrival(rng, busy_s, longest) for _ in range(rng.randint(1, 40))]
    kinds = ("limit", "limit", "clock", "freeze", "thaw", "route")
    values = {"limit": (1, 2, 3, 5, 8), "clock": (300, 700, FULL_MHZ), "route": (0, 4, 8)}
    commands = [
        (rng.uniform(0.0, 30.0), rng.randint(0, 1), what, rng.choice(values.get(what, (0,))))
        for what in rng.choices(kinds, k=rng.randint(0, 25))
    ]
    begin = [(0.0, i, what, 6) for i in (0, 1) for what in ("limit", "route")]
    rescue = [(31.0, i, what, 8) for i in (0, 1) for what in ("thaw", "limit", "route")]
    arrivals.sort(key=lambda arrival: arrival.at_s)
    return Script(engine, arrivals, [*begin, *sorted(commands), *rescue])


def write_arrival(rng: Random, busy_s: float, longest: int) -> Arrival:
    """Return a request; a prefix cache holds a part of every third prompt."""
    prompt, output = rng.randint(1, longest), rng.randint(1, longest)
    cached = rng.randint(0, prompt - 1) if rng.random() < 1 / 3 else 0
    # Rows of a batch come last in an engine: `engine/test_deferrable.py`.
    at_s, rank = rng.uniform(0.01, busy_s), min(1, rng.randint(0, 2))
    return Arrival(at_s, prompt, output, rank, cached)


Pair = tuple[Fleet, RefFleet]
"""Both simulations of one script, run to the end."""


def simulate_both(script: Script) -> Pair:
    transitions = Transitions(start_s=3.0, wake_s=0.7, sleep_s=0.3, draw_w=90.0)
    kind = ReplicaKind(CurvedModel(), script.engine, 300, FULL_MHZ, transitions, WEIGHTS)
    fleet, reference = Fleet(kind, replicas=2), RefFleet(kind, 2, FULL_MHZ)
    fleet.run(script.arrivals, script.commands)
    reference.run(script.arrivals, script.commands, END_S)
    return fleet, reference


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    return [simulate_both(write_script(Random(seed))) for seed in range(SCRIPTS)]


def test_the_scripts_hold_preempt_and_hit_a_prefix_cache(pairs: list[Pair]) -> None:
    replicas = [replica for _, reference in pairs for replica in reference.replicas]
    assert sum(replica.holds for replica in replicas) > 100
    assert sum(replica.preemptions for replica in replicas) > 100
    requests = [request for fleet, _ in pairs for request in fleet.requests]
    assert sum(request.arrival.cached_tokens > 0 for request in requests) > 100


def test_times_tokens_and_joules_are_those_of_single_steps(pairs: list[Pair]) -> None:
    for fleet, reference in pairs:
        for ours, theirs in zip(fleet.requests, reference.requests, strict=True):
            assert ours.replica == theirs.replica
            assert isclose(ours.first_s or 0.0, theirs.first_s or 0.0)
            assert isclose(ours.end_s, theirs.end_s or 0.0)
        tokens_s = [sorted(replica.tokens) for replica in reference.replicas]
        for number, sample in list(enumerate(fleet.samples, start=1))[::4]:
            now_s = number * SAMPLE_S
            for (tokens, energy_j), at_s, replica in zip(
                sample, tokens_s, reference.replicas, strict=True
            ):
                assert tokens == bisect_right(at_s, now_s)
                assert isclose(energy_j, replica.drawn_j(now_s), abs_tol=1e-12)


def test_requests_are_charged_as_if_each_step_were_attributed(pairs: list[Pair]) -> None:
    for fleet, reference in pairs:
        last_s, charged_uj = len(fleet.samples) * SAMPLE_S, attributed_uj(fleet, reference)
        for request in fleet.requests:
            if 0 < request.end_s <= last_s:
                expected_j = charged_uj[request.number] * 1e-6
                assert request.energy_j == pytest.approx(expected_j, rel=1e-6, abs=1e-4)


def attributed_uj(fleet: Fleet, reference: RefFleet) -> dict[int, int]:
    """Return the energy of each request by the attribution of live runs, step by step, uJ."""
    charged_uj: dict[int, int] = {}
    for replica in reference.replicas:
        for number in range(1, len(fleet.samples) + 1):
            begin_s, end_s = (number - 1) * SAMPLE_S, number * SAMPLE_S
            steps = [step for step in replica.steps if begin_s < step.end_s <= end_s]
            busy = [BusyStep(step.end_s - step.start_s, step.weights) for step in steps]
            shares = attribute(sum(s.energy_j for s in steps), end_s - begin_s, 0.0, busy)
            for key, part_uj in shares.requests_uj.items():
                charged_uj[key] = charged_uj.get(key, 0) + part_uj
    return charged_uj

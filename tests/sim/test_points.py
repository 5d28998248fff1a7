"""A modelled operating point is what a saturated simulated replica does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import repeat
from typing import Any

import numpy as np
import pytest

from steppe.config import PaceSection
from steppe.errors import InfeasibleError
from steppe.load.arrivals import Arrival
from steppe.roofline.files import read_roofline
from steppe.roofline.lengths import RequestLengths
from steppe.sim.build import roofline_replica
from steppe.sim.engine.batch import BatchLimits
from steppe.sim.engine.kind import ReplicaKind, Transitions
from steppe.sim.engine.pace_model import PaceModel, emulated_profile
from steppe.sim.engine.replica import SimulatedReplica
from steppe.sim.events import EventQueue
from steppe.sim.points import modelled_frontier, modelled_point
from steppe.sim.request import Request

MEASURED_S, WARM_UP_S = 300.0, 100.0
LENGTHS, MOST = RequestLengths(300, 100), 20_000


def kind_of(model: Any, engine: BatchLimits, clocks: tuple[int, int]) -> ReplicaKind:
    return ReplicaKind(model, engine, *clocks, Transitions(0.0, 0.0, 0.0, 0.0))


def emulated(engine: BatchLimits) -> ReplicaKind:
    pace = PaceSection(weights_s=0.02, decode_s=0.0005, prefill_s=0.0001)
    return kind_of(PaceModel(emulated_profile("l4"), pace), engine, (210, 2040))


def roofline(engine: BatchLimits) -> ReplicaKind:
    replica = roofline_replica(read_roofline("llama-3.1-8b", "h100", 1), LENGTHS)
    return kind_of(replica.model, engine, replica.clocks_mhz)


def spread(mean: RequestLengths) -> Iterable[tuple[int, int]]:
    """Return the prompts and outputs of requests of many lengths, tokens."""
    rng = np.random.default_rng(1)
    prompts = rng.integers(1, 2 * int(mean.prompt_tokens), MOST).tolist()
    outputs = rng.integers(1, 2 * int(mean.output_tokens), MOST).tolist()
    return zip(prompts, outputs, strict=True)


def saturate(
    kind: ReplicaKind,
    clock_mhz: int,
    batch_limit: int,
    requests: Iterable[tuple[int, int]],
    cached: int = 0,
) -> tuple[float, float]:
    """Return tokens/s and draw of a replica for which requests always wait.

    Beside the prompts of the requests, a prefix cache holds so many tokens of each.
    """
    queue, lengths = EventQueue(), enumerate(requests)

    def offer() -> None:
        number, (prompt, output) = next(lengths)
        arrival = Arrival(queue.now_s, cached + prompt, output, cached_tokens=cached)
        replica.offer(Request(number, arrival))

    def follow(begun: list[Request], ended: list[Request]) -> None:
        for _ in ended:
            offer()

    replica = SimulatedReplica(kind, queue, clock_mhz, follow)
    replica.limit_batch(batch_limit)
    for _ in range(batch_limit + 4):
        offer()
    queue.run_until(WARM_UP_S)
    replica.read_meter()
    tokens = replica.output_tokens
    queue.run_until(WARM_UP_S + MEASURED_S)
    draw_w = replica.read_meter().energy_j / MEASURED_S
    return (replica.output_tokens - tokens) / MEASURED_S, draw_w


@pytest.mark.parametrize("batch_limit", [1, 2, 16, 64])
@pytest.mark.parametrize("engine", [BatchLimits(), BatchLimits(256, 256, 30_000)])
@pytest.mark.parametrize("make", [emulated, roofline])
def test_tokens_and_watts_are_those_of_a_saturated_replica(
    make: Any, engine: BatchLimits, batch_limit: int
) -> None:
    kind = make(engine)
    point = modelled_point(kind, 1500, batch_limit, LENGTHS)
    output_tps, draw_w = saturate(kind, 1500, batch_limit, spread(LENGTHS))
    assert point.output_tps == pytest.approx(output_tps, rel=0.10)
    assert point.draw_w == pytest.approx(draw_w, rel=0.05)


@pytest.mark.parametrize(
    ("prompt", "output", "batch_limit"), [(2000, 100, 128), (4000, 100, 256), (1155, 20, 256)]
)
def test_prompts_that_fill_every_step_limit_the_output(
    prompt: int, output: int, batch_limit: int
) -> None:
    kind, mean = roofline(BatchLimits(2048, 2048)), RequestLengths(prompt, output)
    point = modelled_point(kind, 1500, batch_limit, mean)
    output_tps, draw_w = saturate(kind, 1500, batch_limit, spread(mean))
    assert point.output_tps == pytest.approx(output_tps, rel=0.10)
    assert point.draw_w == pytest.approx(draw_w, rel=0.05)


@pytest.mark.parametrize(("prompt", "output", "held"), [(1155, 211, 2000), (15_000, 200, 16_000)])
def test_a_batch_beyond_the_kv_cache_changes_nothing(prompt: int, output: int, held: int) -> None:
    kind = roofline(BatchLimits(2048, 2048, held))
    point = modelled_point(kind, 1500, 8, RequestLengths(prompt, output))
    output_tps, draw_w = saturate(kind, 1500, 8, repeat((prompt, output)))
    assert point.output_tps == pytest.approx(output_tps, rel=0.02)
    assert point.draw_w == pytest.approx(draw_w, rel=0.02)


def test_a_prefix_cache_takes_room_and_time_but_computes_no_prompt() -> None:
    kind = roofline(BatchLimits(2048, 2048, 50_000))
    lengths = RequestLengths(500, 100, cached_tokens=4000)
    point = modelled_point(kind, 1500, 8, lengths)
    output_tps, draw_w = saturate(kind, 1500, 8, repeat((500, 100)), cached=4000)
    assert point.output_tps == pytest.approx(output_tps, rel=0.03)
    assert point.draw_w == pytest.approx(draw_w, rel=0.03)
    assert point.output_tps < modelled_point(kind, 1500, 8, RequestLengths(500, 100)).output_tps
    # Ten requests of 4,550 tokens half-way through their output fit into the KV cache.
    ten, more = (modelled_point(kind, 1500, batch, lengths) for batch in (10, 64))
    assert replace(more, batch_limit=10) == ten


def test_the_frontier_keeps_the_efficient_points_and_says_what_it_is() -> None:
    frontier = modelled_frontier(emulated(BatchLimits()), (500, 1020, 2040), (1, 8), LENGTHS)
    assert frontier.source == "modelled"
    assert frontier.full.clock_mhz == 2040
    assert frontier.full.batch_limit == 8
    assert frontier.asleep_w <= frontier.idle_w < frontier.floor.draw_w


def test_a_frontier_needs_points() -> None:
    with pytest.raises(InfeasibleError):
        modelled_frontier(emulated(BatchLimits()), (), (8,), LENGTHS)

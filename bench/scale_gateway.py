"""The gateway's table at many replicas: the choice of a route, a new table, memory."""

from __future__ import annotations

import gc
import random
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

from scale_figures import spread
from steppe.gateway.prompt_blocks import BLOCK_BYTES, prompt_blocks
from steppe.gateway.replica_caches import AffinitySettings, ReplicaCaches
from steppe.gateway.routing import Route, RoutingTable

LIMIT, RUNNING, CONVERSATIONS_PER_REPLICA = 66, 32, 4
PROMPT_BYTES = 5000
"""A prompt of 1,155 tokens has about so many."""
AFFINITY = AffinitySettings(load_bound=3.0, blocks_per_replica=4096, wait_share=0.1)


def table_of(replicas: int) -> RoutingTable:
    """Return a table of busy replicas."""
    table = RoutingTable(0.5, ReplicaCaches(AFFINITY))
    table.replace(routes_of(replicas))
    return table


def routes_of(replicas: int) -> tuple[Route, ...]:
    """Return routes to replicas at several operating points."""
    return tuple(
        Route(f"replica-{n}", f"http://10.0.0.1:{n}", LIMIT, "m", 900.0 + n % 7)
        for n in range(replicas)
    )


def blocks_of(conversation: int) -> tuple[int, ...]:
    """Return the blocks of a prompt of a conversation; all share a system prompt."""
    text = "s" * BLOCK_BYTES + str(conversation) * (PROMPT_BYTES // len(str(conversation)))
    return prompt_blocks({"model": "m", "prompt": text})


def choose(table: RoutingTable, blocks: tuple[int, ...], now_s: float) -> Route | None:
    """Take a slot as the gate does, with the look for a busy replica that holds the prompt."""
    if table.has_room and not table.should_wait(1, blocks):
        return table.acquire(1, blocks)
    return None


def fill(table: RoutingTable, replicas: int, rng: random.Random) -> list[Route]:
    """Give each replica its requests, and return them."""
    taken = []
    for number in range(RUNNING * replicas):
        blocks = (
            blocks_of(number % (CONVERSATIONS_PER_REPLICA * replicas)) if number % 8 == 0 else ()
        )
        route = table.acquire(1, blocks)
        if route is not None:
            table.begin(route, 0.0)
            taken.append(route)
    rng.shuffle(taken)
    return taken


def measure(replicas: int, repeats: int) -> dict[str, Any]:
    """Return the row of one size: times of one call, s."""
    rng = random.Random(0)
    gc.collect()
    tracemalloc.start()
    table = table_of(replicas)
    table_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    taken = fill(table, replicas, rng)
    prompts = [blocks_of(rng.randrange(4 * replicas)) for _ in range(repeats)]
    plain, near = [], []
    for blocks in prompts:
        plain.append(_timed(lambda: _turn(table, taken, ())))
        near.append(_timed(partial(_turn, table, taken, blocks)))
    routes = routes_of(replicas)
    return {
        "replicas": replicas,
        "choice_s": spread(plain),
        "choice_by_prefix_s": spread(near),
        "new_table_s": spread([_timed(lambda: table.replace(routes)) for _ in range(20)]),
        "counts_s": spread([_timed(table.all_outstanding) for _ in range(20)]),
        "worth_s": spread(
            [_timed(lambda: table.caches and table.caches.worth()) for _ in range(20)]
        ),
        "table_bytes_per_replica": table_bytes / replicas,
    }


def _turn(table: RoutingTable, taken: list[Route], blocks: tuple[int, ...]) -> None:
    """Let one request end and another begin."""
    table.release(taken.pop())
    route = choose(table, blocks, 0.0)
    if route is None:
        route = table.acquire(1)
    assert route is not None, "a slot has just come free"
    table.begin(route, 0.0)
    taken.insert(0, route)


def _timed(call: Callable[[], object]) -> float:
    began_s = time.process_time()
    call()
    return time.process_time() - began_s

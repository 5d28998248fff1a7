"""Random scenarios for a scheduler: requests, events between steps, and the shape of the engine."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from steppe.engine.request_class import ROW_PRIORITY

MAX_MODEL_LEN = 56
SEQUENCES = 6
"""`max_num_seqs` of every scenario."""


@dataclass(frozen=True)
class Asked:
    """One request: when it comes, what it asks for."""

    at: int
    prompt: tuple[int, ...]
    max_tokens: int
    priority: int = 0


@dataclass(frozen=True)
class Limits:
    """New limits, as the controller writes them."""

    at: int
    batch: int
    tokens: int
    hold: bool


@dataclass(frozen=True)
class Abort:
    """A client disconnects: of the request with this index."""

    at: int
    index: int


@dataclass(frozen=True)
class Freeze:
    """The engine stops stepping for some rounds."""

    at: int
    rounds: int


@dataclass(frozen=True)
class Lapse:
    """The limits lapse for some rounds, as without a controller."""

    at: int
    rounds: int


@dataclass(frozen=True)
class Reset:
    """The prefix cache is emptied, and running requests are preempted."""

    at: int


Event = Limits | Abort | Freeze | Lapse | Reset


@dataclass(frozen=True)
class Scenario:
    """One run of a scheduler.

    Attributes:
        in_flight: Steps that may be under way at once; 1 without async scheduling.
        is_async: Whether the engine schedules a step before the output of the one before.
        is_v2: Model runner V2.
        pipeline: Pipeline parallel size.
        block_size: Tokens in a KV block.
        blocks: KV blocks, the null block included.
        step_tokens: `max_num_batched_tokens`.
        spec_tokens: Draft tokens of a step; 0: no speculation.
        prefix_caching: Whether equal prefixes share blocks.
        chunked_prefill: Whether a prompt may take several steps.
        long_prefill: `long_prefill_token_threshold`.
        by_priority: Policy `priority` and not `fcfs`.
        requests: The requests.
        events: What else happens.
        seed: Seed of the right drafts.
    """

    in_flight: int
    is_async: bool
    is_v2: bool
    pipeline: int
    block_size: int
    blocks: int
    step_tokens: int
    spec_tokens: int
    prefix_caching: bool
    chunked_prefill: bool
    long_prefill: int
    by_priority: bool
    requests: tuple[Asked, ...]
    events: tuple[Event, ...]
    seed: int

    def without_limits(self) -> Scenario:
        """Return the same scenario as the plain scheduler sees it."""
        kept = tuple(event for event in self.events if not isinstance(event, Limits | Lapse))
        return replace(self, events=kept)


def random_scenario(seed: int) -> Scenario:
    """Return the scenario of a seed."""
    rng = random.Random(seed)
    is_async = rng.random() < 0.75
    is_v2 = rng.random() < 0.5
    pipeline = 2 if is_v2 >= is_async and rng.random() < 0.25 else 1
    block_size = rng.choice((2, 4, 8))
    spec_tokens = rng.choice((0, 0, 1, 3)) if pipeline == 1 else 0
    fits = -(-MAX_MODEL_LEN // block_size) + 1
    spare = rng.choice((0, 1, 2, fits, 6 * fits))
    chunked = rng.random() < 0.85
    few = max(SEQUENCES * (1 + spec_tokens), 16)
    found = Scenario(
        in_flight=pipeline + is_async,
        is_async=is_async,
        is_v2=is_v2,
        pipeline=pipeline,
        block_size=block_size,
        blocks=fits + spare + (1 if spec_tokens else 0),
        step_tokens=rng.choice((few, 24, 40, 64)) if chunked else 64,
        spec_tokens=spec_tokens,
        prefix_caching=rng.random() < 0.7,
        chunked_prefill=chunked,
        long_prefill=rng.choice((0, 0, 0, 5)) if chunked else 0,
        by_priority=rng.random() < 0.3,
        requests=tuple(_requests(rng)),
        events=tuple(_events(rng)),
        seed=seed,
    )
    return replace(found, requests=tuple(_with_rows(found)))


def _requests(rng: random.Random) -> Iterator[Asked]:
    shared = [rng.randrange(4, 40) for _ in range(24)]
    rush = rng.random() < 0.5
    for _ in range(rng.randint(1, 10)):
        prompt = shared[: rng.randint(0, 24)] if rng.random() < 0.6 else []
        prompt = prompt + [rng.randrange(4, 40) for _ in range(rng.randint(1, 12))]
        most = MAX_MODEL_LEN - len(prompt)
        max_tokens = rng.randint(1, most) if rng.random() < 0.8 else most
        at = 0 if rush else rng.randint(0, 40)
        yield Asked(at, tuple(prompt), max_tokens, rng.randint(0, 2))


def _with_rows(scenario: Scenario) -> Iterator[Asked]:
    """Yield the requests; of some scenarios the least urgent ones are rows of a batch."""
    has_rows = scenario.by_priority and scenario.seed % 3
    for asked in scenario.requests:
        is_row = has_rows and asked.priority == 2
        yield replace(asked, priority=ROW_PRIORITY) if is_row else asked


def _events(rng: random.Random) -> Iterator[Event]:
    for _ in range(rng.randint(0, 6)):
        batch = rng.choice((0, 1, 1, 2, 3, SEQUENCES))
        tokens = rng.choice((0, 0, 1, 2, 5, 12))
        yield Limits(rng.randint(0, 60), batch, tokens, rng.random() < 0.8)
    for _ in range(rng.choice((0, 0, 1, 3))):
        yield Abort(rng.randint(0, 60), rng.randrange(10))
    for _ in range(rng.choice((0, 0, 1, 2))):
        yield Freeze(rng.randint(0, 60), rng.randint(1, 10))
    for _ in range(rng.choice((0, 0, 0, 1, 2))):
        yield Lapse(rng.randint(0, 60), rng.randint(1, 10))
    if rng.random() < 0.1:
        yield Reset(rng.randint(0, 40))


def smaller(scenario: Scenario) -> Iterator[Scenario]:
    """Yield simpler scenarios than this one, the simplest first, to shrink one that fails."""
    requests, events = scenario.requests, scenario.events
    for i in range(len(requests)):
        kept = requests[:i] + requests[i + 1 :]
        if kept:
            yield replace(scenario, requests=kept, events=tuple(_moved(events, i)))
    for i in range(len(events)):
        yield replace(scenario, events=events[:i] + events[i + 1 :])
    for i, asked in enumerate(requests):
        for less in _less(asked):
            yield replace(scenario, requests=(*requests[:i], less, *requests[i + 1 :]))
    plain = {"spec_tokens": 0, "long_prefill": 0, "by_priority": False, "prefix_caching": False}
    for name, value in plain.items():
        if getattr(scenario, name) != value:
            yield replace(scenario, **{name: value})  # type: ignore[arg-type]


def _moved(events: tuple[Event, ...], gone: int) -> Iterator[Event]:
    """Yield the events with the indices that they have without one request."""
    for event in events:
        match event:
            case Abort(at, index) if index > gone:
                yield Abort(at, index - 1)
            case Abort(_, index) if index == gone:
                pass
            case _:
                yield event


def _less(asked: Asked) -> Iterator[Asked]:
    if asked.max_tokens > 1:
        yield replace(asked, max_tokens=asked.max_tokens // 2)
    if len(asked.prompt) > 1:
        yield replace(asked, prompt=asked.prompt[: len(asked.prompt) // 2])
    if asked.at:
        yield replace(asked, at=asked.at // 2)

"""The frontier of a modelled replica under a saturating load."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from steppe.frontier.pareto import Frontier
from steppe.roofline.energy_roofline import StepWork
from steppe.roofline.lengths import RequestLengths
from steppe.roofline.point import OperatingPoint
from steppe.roofline.step_cost_fit import StepRange, tabulated
from steppe.roofline.step_costs import StepCosts
from steppe.sim.engine.batch import BatchLimits
from steppe.sim.engine.kind import ReplicaKind
from steppe.sim.engine.step_table import StepModel

USUAL_TOKENS_PER_STEP = 8192
"""Steps are fitted up to this many prompt tokens: vLLM's limit for an H100
(`max_num_batched_tokens`)."""
FITTED_CLOCKS = 8
"""Clocks, besides the lowest, at which the costs of a step are fitted."""


def modelled_frontier(
    kind: ReplicaKind,
    clocks_mhz: Iterable[int],
    batch_limits: Iterable[int],
    lengths: RequestLengths,
) -> Frontier:
    """Return the efficient operating points of a replica, from its step model."""
    limits = tuple(batch_limits)
    points = [
        modelled_point(kind, clock_mhz, batch_limit, lengths)
        for clock_mhz in clocks_mhz
        for batch_limit in limits
    ]
    idle_w = kind.model.idle_w(kind.lowest_clock_mhz)
    frontier = Frontier.of(points, kind.model.asleep_w, idle_w, "modelled")
    clocks = sorted({point.clock_mhz for point in points})
    return frontier.with_costs(modelled_costs(kind, clocks, max(limits)), lengths)


def modelled_costs(kind: ReplicaKind, clocks_mhz: Sequence[int], batch_limit: int) -> StepCosts:
    """Return the costs of a step of a replica, fitted to its step model at some of the clocks."""
    engine = kind.engine
    tokens = min(engine.tokens_per_step, USUAL_TOKENS_PER_STEP)
    steps = StepRange(
        engine.tokens_per_step, min(tokens, engine.chunk_tokens), batch_limit, engine.kv_tokens
    )

    def predict(
        clock_mhz: int, prompt_tokens: int, sequences: int, context_tokens: int
    ) -> tuple[float, float]:
        return _step(kind.model, StepWork(prompt_tokens, sequences, context_tokens), clock_mhz)

    last = len(clocks_mhz) - 1
    chosen = sorted({round(i * last / FITTED_CLOCKS) for i in range(FITTED_CLOCKS + 1)})
    clocks = [clocks_mhz[index] for index in chosen]
    return tabulated(predict, clocks, steps)


def modelled_point(
    kind: ReplicaKind, clock_mhz: int, batch_limit: int, lengths: RequestLengths
) -> OperatingPoint:
    """Return output and draw of a saturated replica at an operating point.

    A request spends some steps on its prompt and one on each further token. The requests of a full
    batch are spread evenly over that life, so every step computes prompts with a fixed probability
    (or, above 1, several of them), and the others of the batch decode meanwhile. Time and energy
    are the means of steps with and without prompts. If prompts need more tokens than a step has,
    as many requests end as it has room for. No more requests run than the KV cache holds whole;
    recomputation after preemption is not counted.
    """
    chunk, ending = _chunk_tokens(kind.engine, lengths), _ending(kind.engine, batch_limit, lengths)
    prompts = ending * lengths.prompt_tokens / chunk
    running = prompts + ending * (lengths.output_tokens - 1)
    several, share = max(1.0, prompts), min(1.0, prompts)
    with_prompt = _work(several * chunk, running - several, lengths)
    step_s, step_j = _step(kind.model, with_prompt, clock_mhz)
    if share < 1:
        without_s, without_j = _step(kind.model, _work(0.0, running, lengths), clock_mhz)
        step_s = share * step_s + (1 - share) * without_s
        step_j = share * step_j + (1 - share) * without_j
    output_tps = ending * lengths.output_tokens / step_s
    return OperatingPoint(clock_mhz, batch_limit, output_tps, step_j / step_s, step_s)


def _work(prompt_tokens: float, decodes: float, lengths: RequestLengths) -> StepWork:
    """Return a step in which so many sequences decode, each half way through its output."""
    sequences = round(decodes)
    context = round(sequences * lengths.context_tokens)
    return StepWork(round(prompt_tokens), sequences, context)


def _ending(engine: BatchLimits, batch_limit: int, lengths: RequestLengths) -> float:
    """Return how many requests end in a mean step."""
    prompt_steps = lengths.prompt_tokens / _chunk_tokens(engine, lengths)
    fitting = engine.kv_tokens // lengths.context_tokens
    by_batch = min(batch_limit, max(1.0, fitting)) / (lengths.output_tokens - 1 + prompt_steps)
    by_tokens = engine.tokens_per_step / (lengths.prompt_tokens + lengths.output_tokens - 1)
    return min(by_batch, by_tokens)


def _chunk_tokens(engine: BatchLimits, lengths: RequestLengths) -> float:
    return min(lengths.prompt_tokens, engine.chunk_tokens, engine.tokens_per_step)


def _step(model: StepModel, work: StepWork, clock_mhz: int) -> tuple[float, float]:
    step_s = model.step_s(work, clock_mhz)
    return step_s, step_s * model.step_draw_w(work, clock_mhz)

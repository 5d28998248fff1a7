"""What a replica does under every load: time, draw and latency, from the costs of a step.

A step ends `x` requests on average. Each brings one prompt of P tokens and O output tokens, the
first of which comes with the prompt. So a mean step computes `x P` prompt tokens, decodes
`N = x (O - 1)` sequences, and reads their context. Its time `t` follows from the costs, and the
replica serves `x / t` requests per second. Everything else follows from `x`, so a table over `x`
needs no equation to be solved.

Latency is that of the slow requests (`TAIL`), by two approximations:

- Time per output token: the mean step, and the deviation of the prompts that others bring
  meanwhile. Their number is Poisson with the mean `x o` over `o` steps, and their lengths spread
  as widely as their mean, so the time over `o` steps deviates by `sqrt(2 x o)` prompts.
- Time to the first token: the rest of the step that runs, a wait, and the prompt's own steps. The
  wait is that of an M/G/1 queue (Kleinrock, Queueing Systems I, 1975, chapter 5) whose service
  time, that of a prompt in full steps, deviates by its mean; its tail is taken as exponential.
  Requests go to the replica with the least load, so n replicas serve one queue, n times as fast.

`tests/frontier/test_load_table.py` compares both with the simulator.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steppe.roofline.lengths import RequestLengths
from steppe.roofline.step_costs import StepCosts

Floats = NDArray[np.float64]

TAIL = 0.02
"""Share of requests that may be slower than a tail."""
_DEVIATIONS = 2.05
"""Standard deviations above the mean that a share of `TAIL` exceeds, normal distribution."""
SHORT_SHARE = 0.4
"""A short output, share of the mean: its time per token deviates more."""
KV_SHARE = 0.9
"""Share of the KV cache that a plan counts on: requests differ in length, and a full cache costs
computing prompts again."""
_MOST = 1 - 1e-6


@dataclass(frozen=True, slots=True)
class LoadTable:
    """A replica under rising load, arrays of shape (clocks, loads).

    Attributes:
        rate_rps: Requests per second.
        draw_w: Mean draw of its GPUs, W.
        step_s: Mean time of a step, s.
        ttft_s: Time to the first token that a share of `TAIL` exceeds, s; infinite where prompts
            come faster than they can be computed.
        tpot_s: Time per output token that a share of `TAIL` exceeds, s.
        running: Mean number of requests in the engine, shape (loads,).
    """

    rate_rps: Floats
    draw_w: Floats
    step_s: Floats
    ttft_s: Floats
    tpot_s: Floats
    running: Floats


def most_ending(costs: StepCosts, lengths: RequestLengths) -> float:
    """Return how many requests a step can end by its tokens and by the KV cache."""
    decodes = max(0.0, lengths.output_tokens - 1)
    most = costs.tokens_per_step / (decodes + max(1.0, lengths.prompt_tokens))
    if costs.kv_tokens is not None:
        held = max(1.0, KV_SHARE * costs.kv_tokens / max(1.0, lengths.context_tokens))
        most = min(most, held / (decodes + prompt_steps(costs, lengths, held)))
    return most


def prompt_steps(costs: StepCosts, lengths: RequestLengths, decoding: float) -> float:
    """Return over how many steps a prompt is computed beside sequences that decode."""
    room = max(1.0, costs.tokens_per_step - decoding)
    return max(1.0, lengths.prompt_tokens / room)


def ending_of(costs: StepCosts, lengths: RequestLengths, batch_limits: Floats) -> Floats:
    """Return how many requests a step ends while batches of these sizes stay full."""
    decodes = max(0.0, lengths.output_tokens - 1)
    room = np.maximum(1.0, costs.tokens_per_step - batch_limits)
    steps = np.maximum(1.0, lengths.prompt_tokens / room)
    return np.minimum(batch_limits / (decodes + steps), most_ending(costs, lengths))


def load_table(
    costs: StepCosts,
    lengths: RequestLengths,
    ending: Floats,
    idle_w: float | None = None,
    replicas: int = 1,
) -> LoadTable:
    """Return what a replica does where a step ends so many requests.

    Args:
        costs: The costs of its steps, at the clocks of interest.
        lengths: The mean request.
        ending: Requests that end in a mean step, rising, shape (loads,).
        idle_w: Draw without work, W; None if a request always waits, so that no step is missed.
        replicas: Replicas that serve the same queue.
    """
    outputs = max(0.0, lengths.output_tokens - 1)
    decoding = ending * outputs
    room = np.maximum(1.0, costs.tokens_per_step - decoding)
    steps = np.maximum(1.0, lengths.prompt_tokens / room)
    running = decoding + ending * steps
    # Without a request there is no step: the steps that there are have the more work.
    busy = np.ones_like(running) if idle_w is None else -np.expm1(-running)
    work = _work(ending / busy, decoding / busy, steps, lengths)
    step_s, energy_j = costs.time_s(work), costs.energy_j(work)
    alone = _work(np.zeros_like(ending), decoding / busy, steps, lengths)
    prompt_s = costs.time_s(_work(np.ones_like(ending), np.zeros_like(ending), steps, lengths))
    prompt_s = prompt_s - costs.time_s(_work(*(np.zeros_like(ending),) * 2, steps, lengths))
    own_s = prompt_s + steps * costs.time_s(alone)
    rate_rps = ending / step_s
    service_s = prompt_s + costs.time_s(alone) * lengths.prompt_tokens / room
    wait_s = _wait_s(rate_rps * service_s, service_s / replicas)
    short = max(1.0, SHORT_SHARE * outputs)
    spread_s = _DEVIATIONS * np.sqrt(2 * ending * short) * prompt_s / short
    return LoadTable(
        rate_rps=rate_rps,
        draw_w=busy * energy_j / step_s + (1 - busy) * (idle_w or 0.0),
        step_s=step_s,
        ttft_s=step_s + wait_s + own_s,
        tpot_s=step_s + spread_s if outputs else np.zeros_like(step_s),
        running=running,
    )


def _work(ending: Floats, decoding: Floats, steps: Floats, lengths: RequestLengths) -> Floats:
    """Return the work of mean steps for `StepCosts.time_s`."""
    return np.stack(
        [
            np.ones_like(ending),
            np.minimum(1.0, ending * steps),
            decoding,
            ending * lengths.prompt_tokens,
            decoding * lengths.context_tokens,
        ]
    )


def _wait_s(load: Floats, service_s: Floats) -> Floats:
    """Return the wait that a share of `TAIL` of the requests exceeds, s."""
    below = np.minimum(load, _MOST)
    wait_s = service_s / (1 - below) * np.log(np.maximum(1.0, below / TAIL))
    return np.where(load < _MOST, wait_s, np.inf)

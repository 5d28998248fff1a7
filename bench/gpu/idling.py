"""Draw at idle, and how the energy counter ticks."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from gpu.meter import Meter, window
from gpu.plan import Plan
from gpu.probing import under_load

Row = dict[str, Any]


def bare(meter: Meter, plan: Plan) -> Iterator[Row]:
    """Measure the draw while no process of ours is on the GPU, W."""
    with window(meter) as row:
        time.sleep(plan.idle_s)
    yield row


def with_context(meter: Meter, plan: Plan) -> Iterator[Row]:
    """Measure the draw with an idle CUDA context, W."""
    import torch

    kept = torch.zeros(1, device="cuda" if torch.cuda.is_available() else "cpu")
    with window(meter) as row:
        time.sleep(plan.idle_s)
    del kept
    yield row


def counter(meter: Meter, plan: Plan) -> Iterator[Row]:
    """Record the counter's ticks under a steady copy, beside the driver's own power reading."""
    from steppe_kernels.stream_copy import copy_workload

    # The power reading is a mean over a second on most GPUs: let it fill first.
    settle_s = 0.2 * plan.ticks_s
    with under_load(copy_workload(plan.copy_bytes), settle_s + plan.ticks_s):
        time.sleep(settle_s)
        ticks, powers_w, end_s = [meter.edge()], [], time.monotonic() + plan.ticks_s
        while time.monotonic() < end_s:
            ticks.append(meter.edge())
            powers_w.append(meter.power_w())
    yield summary(ticks, powers_w)


def summary(ticks: list[tuple[float, float]], powers_w: list[float]) -> Row:
    """Return period and error of a counter.

    Args:
        ticks: Time (s) and value (J) of each tick.
        powers_w: The driver's power readings meanwhile, W.
    """
    gaps_s = [late[0] - early[0] for early, late in pairwise(ticks)]
    steps_j = [late[1] - early[1] for early, late in pairwise(ticks)]
    draws_w = [joules / gap_s for joules, gap_s in zip(steps_j, gaps_s, strict=True)]
    draw_w = sum(steps_j) / sum(gaps_s)
    return {
        "ticks": len(gaps_s),
        "period_s": statistics.median(gaps_s),
        "longest_gap_s": max(gaps_s),
        "draw_w": draw_w,
        "spread_between_ticks": statistics.pstdev(draws_w) / draw_w,
        "against_power_reading": draw_w / statistics.mean(powers_w) - 1.0,
    }

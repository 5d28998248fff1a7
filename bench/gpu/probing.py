"""Rates and draws of the probe kernels."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

from gpu.data_sheets import data_sheet
from gpu.meter import Meter, window
from gpu.plan import Plan

TICK_S = 0.25
"""More than the period of any known counter, 0.1 s."""
WEIGHTS = 4
"""Matrices that a product uses in turn: 512 MB at the full width, far more than an L2 cache."""


def probes(meter: Meter, plan: Plan) -> Iterator[dict[str, Any]]:
    """Run each probe; its row has the achieved rates, their shares of the peak, and the draw."""
    import torch

    sheet = data_sheet(meter.names()["gpu"])
    for make, bits in _workloads(plan):
        workload = make()
        with under_load(workload, 1.5 * plan.probe_s) as load:
            time.sleep(plan.probe_s / 2)
            with window(meter) as row:
                time.sleep(plan.probe_s)
        found = load.result()
        peak = sheet.flop_per_s(bits) if sheet else None
        yield {
            **row,
            **asdict(found),
            "of_bandwidth": found.bytes_per_s / sheet.bytes_per_s if sheet else None,
            "of_compute": found.flop_per_s / peak if peak else None,
        }
        del workload
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


@contextmanager
def under_load(workload: Any, seconds: float) -> Iterator[Future[Any]]:
    """Probe a workload in a thread for some seconds and two ticks more.

    A window inside then begins and ends under load; the result is ready after the block.
    """
    from steppe_kernels.probe import probe

    workload.launch()  # compiles it
    workload.wait()
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(probe, workload, seconds + 2 * TICK_S)


def _workloads(plan: Plan) -> list[tuple[Callable[[], Any], int]]:
    """Return what makes each workload, with the bits of its operands; riskier ones come last."""
    import torch

    from steppe_kernels.interpreting import INTERPRETING
    from steppe_kernels.matmul import matmul_workload
    from steppe_kernels.paged_decode import DecodeShape, decode_workload
    from steppe_kernels.spin import spin_workload
    from steppe_kernels.stream_copy import copy_workload

    shape = DecodeShape(2, 40, 16, 4, 2, 32) if INTERPRETING else DecodeShape()
    held = WEIGHTS * plan.width**2
    found: list[tuple[Callable[[], Any], int]] = [
        (partial(spin_workload, plan.spin_steps), 16),
        (partial(copy_workload, plan.copy_bytes), 16),
    ]
    for ratio in plan.intensities:
        found.append((partial(matmul_workload, ratio, torch.bfloat16, plan.width, 2 * held), 16))
    found.append((partial(decode_workload, shape), 16))
    if INTERPRETING or torch.cuda.get_device_capability() >= (8, 9):
        most, fp8 = plan.intensities[-1], torch.float8_e4m3fn
        found.append((partial(matmul_workload, most, fp8, plan.width, held), 8))
    return found

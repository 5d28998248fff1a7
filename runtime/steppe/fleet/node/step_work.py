"""What the steps of one window did, summed: the input of the fit of the step costs."""

from __future__ import annotations

from collections.abc import Sequence

from steppe.control.measurements import ClockWork
from steppe.engine.control_block import StepRecord


def step_work(clock_mhz: int, steps: Sequence[StepRecord], energy_j: float) -> ClockWork:
    """Return the work of the steps of one window.

    Args:
        clock_mhz: SM clock limit of all of them, MHz.
        steps: The steps.
        energy_j: Energy while they ran, J.
    """
    prompts = [sum(work.prompt_tokens for work in step.work) for step in steps]
    return ClockWork(
        clock_mhz=clock_mhz,
        steps=len(steps),
        prefill_steps=sum(tokens > 0 for tokens in prompts),
        sequences=sum(work.decode_tokens > 0 for step in steps for work in step.work),
        prompt_tokens=sum(prompts),
        context_tokens=sum(step.context_tokens for step in steps),
        busy_s=sum(step.end_s - step.start_s for step in steps),
        energy_j=energy_j,
    )

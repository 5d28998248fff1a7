"""The mix of engine steps that a replica settles into when requests always wait.

Each sequence brings one prompt for its whole output. While fewer requests end than steps go by,
a share of the steps prefills one whole prompt and the others only decode; beyond that, every
step prefills a part. All numbers may be floats or arrays.

In a service without end, a running sequence has decoded more than half of its output, because
long outputs are met more often (`STEADY_SERVICE`). In a benchmark with a begin and an end it has
decoded less (`bench/run_progress.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from steppe.roofline.architecture.shape import ModelShape, least
from steppe.roofline.hardware import GpuSpec, Sharding
from steppe.roofline.lengths import DECODED_SHARE
from steppe.roofline.step_law import StepStages
from steppe.roofline.step_rates import StepRates

MEMORY_SHARE = 0.9
"""Share of a GPU's memory that vLLM takes by default (`gpu_memory_utilization`)."""
WORKSPACE_BYTES = 3e9
"""Activations, graphs and libraries on each GPU, bytes: what the KV-bound rows of ML.ENERGY
leave beside weights and cache."""


@dataclass(frozen=True, slots=True)
class RunProgress:
    """How far the outputs of a run have come, on average over the run.

    Attributes:
        decoded_share: Tokens that a running sequence has decoded, over the mean output.
        completion_share: Outputs that end in a step, over those in a service without end.
    """

    decoded_share: float
    completion_share: float


STEADY_SERVICE = RunProgress(DECODED_SHARE, 1.0)
"""A service without end."""


@dataclass(frozen=True, slots=True)
class SteadyState:
    """The steps of a saturated replica.

    Attributes:
        sequences: Sequences that decode at once.
        mixed_share: Share of the steps that also prefill.
        decode: Stages of a step that only decodes.
        mixed: Stages of a step that also prefills.
    """

    sequences: float
    mixed_share: float
    decode: StepStages
    mixed: StepStages


def steady_state(
    rates: StepRates,
    sequences: float,
    input_tokens: float,
    output_tokens: float,
    progress: RunProgress,
) -> SteadyState:
    """Return the steps of a replica that decodes these sequences."""
    ends = progress.completion_share * sequences / output_tokens
    mixed_share = least(ends, 1.0)
    prompts = ends / mixed_share
    padding = input_tokens * (rates.padded(prompts) - prompts)
    context = sequences * (input_tokens + progress.decoded_share * output_tokens)
    return SteadyState(
        sequences=sequences,
        mixed_share=mixed_share,
        decode=rates.stages(0.0, sequences, context),
        mixed=rates.stages(input_tokens * prompts, sequences, context, padding),
    )


def running_sequences(
    model: ModelShape, gpu: GpuSpec, sharding: Sharding, batch_limit: float, context_bytes: float
) -> float:
    """Return how many sequences run at once: a smooth minimum of the batch limit and memory.

    Args:
        model: The model.
        gpu: Each of the replica's GPUs.
        sharding: How they share the model.
        batch_limit: Most sequences decoded at once.
        context_bytes: Keys, values and states of one sequence, over all key/value heads, bytes.
    """
    free = free_bytes(model, gpu, sharding)
    free = 0.5 * (free + abs(free)) + 1.0
    fitting = free * sharding.kv_split / context_bytes
    running: float = (batch_limit**-16.0 + fitting**-16.0) ** (-1.0 / 16.0)
    return running


def free_bytes(model: ModelShape, gpu: GpuSpec, sharding: Sharding) -> float:
    """Return the memory of one GPU beside weights and workspace, bytes; below 0: too little."""
    dense = model.weight_bytes - model.expert_bytes
    weights = dense / sharding.dense_split + model.expert_bytes / sharding.gpus
    return MEMORY_SHARE * gpu.memory_bytes - weights - WORKSPACE_BYTES

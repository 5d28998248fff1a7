"""What a replica does when requests always wait: the mix of steps that it settles into.

Each sequence brings one prompt for its whole answer. While fewer requests end than steps go by,
a share of the steps prefills one whole prompt and the others only decode; beyond that, every
step prefills a part. Plain arithmetic, for floats and arrays alike.
"""

from __future__ import annotations

from dataclasses import dataclass

from steppe.roofline.architecture.shape import ModelShape, least
from steppe.roofline.gpu_spec import GpuSpec, Sharding
from steppe.roofline.step_costs import StepRates, StepStages
from steppe.roofline.turnover import RunProgress

MEMORY_SHARE = 0.9
"""Share of a GPU's memory that vLLM takes unless told otherwise."""
WORKSPACE_BYTES = 3e9
"""Activations, graphs and libraries on each GPU, bytes: what the KV-bound rows of ML.ENERGY
leave beside weights and cache."""


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
    turnover: RunProgress,
) -> SteadyState:
    """Return the steps of a replica that decodes so many sequences of this length."""
    ends = turnover.ends * sequences / output_tokens
    mixed_share = least(ends, 1.0)
    prompts = ends / mixed_share
    padding = input_tokens * (rates.padded(prompts) - prompts)
    context = sequences * (input_tokens + turnover.decoded * output_tokens)
    return SteadyState(
        sequences=sequences,
        mixed_share=mixed_share,
        decode=rates.stages(0.0, sequences, context),
        mixed=rates.stages(input_tokens * prompts, sequences, context, padding),
    )


def running_sequences(
    model: ModelShape, gpu: GpuSpec, sharding: Sharding, batch_limit: float, context_bytes: float
) -> float:
    """Return how many sequences run under a batch limit, as far as memory holds them.

    Args:
        model: The model.
        gpu: Each of the replica's GPUs.
        sharding: How they share the model.
        batch_limit: Most sequences wanted.
        context_bytes: Keys, values and states of one sequence, over all key/value heads, bytes.
    """
    free = free_bytes(model, gpu, sharding)
    free = 0.5 * (free + abs(free)) + 1.0
    fitting = free * sharding.kv_split / context_bytes
    held: float = (batch_limit**-16.0 + fitting**-16.0) ** (-1.0 / 16.0)
    return held


def free_bytes(model: ModelShape, gpu: GpuSpec, sharding: Sharding) -> float:
    """Return what weights and workspace leave of one GPU's memory, bytes; below 0: too little."""
    dense = model.weight_bytes - model.expert_bytes
    weights = dense / sharding.dense_split + model.expert_bytes / sharding.gpus
    return MEMORY_SHARE * gpu.memory_bytes - weights - WORKSPACE_BYTES

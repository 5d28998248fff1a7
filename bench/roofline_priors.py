"""Priors of the coefficients of the energy roofline."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prior:
    """The prior of a coefficient: its median, and standard deviations of its logarithm.

    Attributes:
        median: Median.
        spread: Over all GPUs together.
        between: Between two GPUs; 0 where it is the same for all.
    """

    median: float
    spread: float = 0.7
    between: float = 0.2


PRIORS = {
    "weight_stream": Prior(1 / 0.85, 0.1),
    "expert_stream": Prior(1 / 0.8, 0.15),
    "fp4_stream": Prior(1.2, 0.1, 0.1),
    "cache_stream": Prior(1 / 0.75, 0.3),
    "dense_compute": Prior(1 / 0.65, 0.2),
    "expert_compute": Prior(1 / 0.5, 0.3),
    "fp8_compute": Prior(1.0, 0.2, 0.0),
    "overlap": Prior(3.0, 0.2, 0.0),
    "routing": Prior(0.1, 0.5, 0.0),
    "attention_layer_s": Prior(30e-6),
    "norm_s": Prior(4e-6),
    "expert_layer_s": Prior(30e-6),
    "state_layer_s": Prior(40e-6),
    "chunked_layer_s": Prior(30e-6),
    "block_layer_s": Prior(20e-6),
    "block_expert_s": Prior(50e-6),
    "scaled_layer_s": Prior(8e-6),
    "shard_layer_s": Prior(15e-6),
    "prefill_attention_s": Prior(20e-6),
    "prefill_expert_s": Prior(30e-6),
    "prefill_state_s": Prior(300e-6),
    "link": Prior(1.0),
    "expert_link": Prior(1.5, 0.5),
    "activation": Prior(20.0, 0.5, 0.0),
    "routed": Prior(2.0, 0.5, 0.0),
    "sample_s": Prior(8e-6),
    "vocabulary_s": Prior(3e-11),
    "host_s": Prior(0.7e-3),
    "sequence_s": Prior(15e-6),
    "crowd_s": Prior(1e-7, 1.5, 1.5),
    "host_overlap": Prior(3.0, 0.3, 0.0),
    "busy": Prior(0.05),
    "weight_energy": Prior(0.4),
    "expert_energy": Prior(0.4),
    "cache_energy": Prior(0.4),
    "dense_energy": Prior(0.5),
    "expert_compute_energy": Prior(0.8),
    "launch_energy": Prior(0.1),
    "shard_energy": Prior(0.1),
    "block_energy": Prior(0.3),
}
"""By nature: data-sheet rates are reached to 50 to 90 %, a kernel takes microseconds to launch,
and all causes together draw about the power limit."""
PROMPT_TOKENS = {
    "lm-arena-chat": Prior(400.0, 0.1, 0.0),
    "gpqa": Prior(250.0, 0.2, 0.0),
    "sourcegraph-fim": Prior(1500.0, 0.5, 0.0),
}
"""Prompt lengths, which the table lacks: from the memory of its KV-bound rows (chat, GPQA); that of
fill-in-the-middle follows from the fit alone."""

"""The relative energy of tokens on a node, for attribution.

On emulated GPUs it follows from the emulated pace; on real ones from the energy roofline of the
GPU and the model's shape. For an unknown GPU, or one that cannot hold the model, the bytes and FLOP
of the model are weighted with the energy that they cost on an H100. If the shape of the model is
not known, all tokens have the same weight. With any weights the parts sum to the metered energy.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from steppe.config import EmulatedSection, NvmlSection, RunConfig
from steppe.energy.attribution import TokenWeights
from steppe.errors import ModelError, UsageError
from steppe.fleet.messages import ServedModel
from steppe.models.store import get_model_config
from steppe.roofline.architecture.shape import ModelShape
from steppe.roofline.energy_roofline import EnergyRoofline
from steppe.roofline.files import read_calibration, read_gpu_spec, read_model_shape, spec_name

SEQUENCES, CONTEXT_TOKENS = 32, 1024
"""The step for which the weights hold, as in `EnergyRoofline.token_weights`."""
_FITTED = "h100"

_log = logging.getLogger(__name__)


def token_weights(
    device: NvmlSection | EmulatedSection,
    gpu_names: Sequence[str],
    model: ServedModel,
) -> TokenWeights:
    """Return the weights of the tokens of a replica; logs what is not known.

    Args:
        device: The kind of its GPUs.
        gpu_names: NVML names of the GPUs of the replica; they are assumed to be of one kind.
        model: The model that it serves.
    """
    match device:
        case EmulatedSection(pace=common):
            pace = model.pace or common
            return TokenWeights(pace.weights_s, pace.prefill_s, pace.decode_s)
        case NvmlSection():
            if model.shape is None:
                _log.warning("all tokens have the same weight: the shape of the model is not known")
                return TokenWeights()
            name = gpu_names[0] if gpu_names else "no GPU"
            try:
                return _by_roofline(model.shape, spec_name(name), model.gpus_per_replica)
            except UsageError as error:
                _log.warning(
                    "tokens are weighted by the bytes and FLOP of the model only: %s", error
                )
                return estimated_weights(model.shape)


def shape_of_served(config: RunConfig) -> ModelShape | None:
    """Return the shape of the model that a run serves; None if it is not known.

    It is read from the `config.json` that the engine loads, or is that of a known name.
    """
    if config.engine.kind == "synthetic":
        return None
    name = config.model.name
    try:
        return read_model_shape(name)
    except ModelError:
        pass
    try:
        return read_model_shape(get_model_config(name, progress=_log.info))
    except UsageError as error:
        _log.warning("%s", error)
        return None


def _by_roofline(model: ModelShape, gpu: str, gpus: int) -> TokenWeights:
    roofline = EnergyRoofline(model, read_gpu_spec(gpu), gpus, read_calibration())
    token = roofline.token_weights(SEQUENCES, CONTEXT_TOKENS)
    return TokenWeights(token.sequence_j, token.prompt_j, token.decode_j)


def estimated_weights(model: ModelShape) -> TokenWeights:
    """Return the weights of tokens from the bytes and FLOP that they need, for any GPU.

    Each byte and FLOP counts with the energy fitted for the H100; launches, waits and communication
    between GPUs are left out. The ratio of a decoded token, with its share of the step, to a prompt
    token is then 0.3 to 3.5 times that of the roofline, over the known models that one L4, V100,
    A100, H100 or B200 holds (most are within 0.4 to 2.1).
    """
    token_j, alone_j = _token_j(model), _step_j(model, SEQUENCES)
    decode_j = (_step_j(model, 2 * SEQUENCES) - alone_j) / SEQUENCES
    return TokenWeights(alone_j / SEQUENCES - decode_j, token_j, decode_j)


def _step_j(model: ModelShape, sequences: int) -> float:
    """Return the energy of a step that decodes this many sequences, J."""
    gpu = read_gpu_spec(_FITTED)
    fitted, byte_j = read_calibration().of(gpu), gpu.power_limit_w / gpu.bandwidth_bps
    experts, precision = model.experts, model.precision
    dense = model.dense_params * precision.dense_bytes + 2.0 * model.head_params
    chosen = (
        experts.layers * _chosen_experts(model, sequences) * experts.params * precision.expert_bytes
    )
    cached = sequences * model.sequence_bytes(CONTEXT_TOKENS)
    streamed_j = byte_j * (
        fitted.weight_energy * dense + fitted.expert_energy * chosen + fitted.cache_energy * cached
    )
    head_j = 2.0 * fitted.dense_energy * model.head_params * gpu.power_limit_w / gpu.half_flops
    return streamed_j + sequences * (_token_j(model) + head_j)


def _chosen_experts(model: ModelShape, tokens: int) -> float:
    """Return how many experts of a layer this many tokens choose, if all are equally likely."""
    experts = model.experts
    if not experts.count:
        return 0.0
    return experts.count * float(1.0 - (1.0 - experts.per_token / experts.count) ** tokens)


def _token_j(model: ModelShape) -> float:
    """Return the energy of the matrix products of one token, J."""
    gpu = read_gpu_spec(_FITTED)
    fitted, experts = read_calibration().of(gpu), model.experts
    routed = experts.layers * experts.per_token * experts.params
    dense_j = fitted.dense_energy * model.dense_params
    routed_j = fitted.expert_compute_energy * routed
    return 2.0 * (dense_j + routed_j) * gpu.power_limit_w / gpu.half_flops

"""How a Hugging Face `config.json` says that its weights are kept."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from steppe.errors import ModelError
from steppe.frontier.model_shape import WeightPrecision

_BYTES = {"bfloat16": 2.0, "float16": 2.0, "float32": 4.0, "half": 2.0}
_MXFP4_BYTES = 0.53125
"""Four bits and a scale of eight bits for each 32 weights (OCP Microscaling 1.0)."""
_INT4_BYTES = 0.5625
"""Four bits and 16 bits of scale and zero for each 128 weights, and what padding costs."""


def weight_precision(
    config: Mapping[str, Any], dense_params: float, attention_params: float
) -> WeightPrecision:
    """Return the precision of a model.

    Args:
        config: The text model's part of `config.json`.
        dense_params: Weights that every token uses, without embedding and head.
        attention_params: Those of them that project queries, keys, values and outputs.

    Raises:
        ModelError: A dtype or a quantisation that is not known.
    """
    dtype = str(config.get("torch_dtype") or config.get("dtype") or "bfloat16")
    if dtype not in _BYTES:
        raise ModelError(f"asked for the size of a weight, found dtype {dtype}")
    plain = _BYTES[dtype]
    quantisation = config.get("quantization_config")
    if not quantisation:
        return WeightPrecision(plain, plain, 0.0, 0, 0, 0)
    try:
        bits, floating = _bits(quantisation)
    except (TypeError, ValueError, AttributeError) as error:
        method, found = quantisation.get("quant_method"), repr(dict(quantisation))
        said = f"quantization_config: asked for the bits of {method!r}, found {found[:60]}"
        raise ModelError(said) from error
    if _is_mxfp4(quantisation):
        return WeightPrecision(plain, _MXFP4_BYTES, 0.0, 0, 0, 1)
    kept = _kept_share(quantisation, dense_params, attention_params)
    small = 1.0 if bits == 8 else _INT4_BYTES
    fp8 = 1.0 if bits == 8 and floating else 0.0
    return WeightPrecision(
        dense_bytes=kept * plain + (1.0 - kept) * small,
        expert_bytes=small,
        dense_fp8=(1.0 - kept) * fp8,
        expert_fp8=int(fp8),
        block_scaled=int(bool(quantisation.get("weight_block_size"))),
        expert_fp4=int(bits == 4 and floating),
    )


def _is_mxfp4(quantisation: Mapping[str, Any]) -> bool:
    return str(quantisation.get("quant_method", "")) == "mxfp4"


def _bits(quantisation: Mapping[str, Any]) -> tuple[int, bool]:
    """Return bits of a quantised weight, and whether they are a floating-point number."""
    method = str(quantisation.get("quant_method", "")).lower()
    match method:
        case "fp8" | "fbgemm_fp8":
            return 8, True
        case "mxfp4":
            return 4, True
        case "awq" | "gptq":
            return int(quantisation.get("bits", quantisation.get("w_bit", 4))), False
        case "bitsandbytes":
            return (4 if quantisation.get("load_in_4bit") else 8), False
        case "modelopt":
            return (4 if "FP4" in str(quantisation.get("quant_algo")) else 8), True
        case "compressed-tensors":
            groups = list(quantisation.get("config_groups", {}).values())
            weights = groups[0].get("weights", {}) if groups else {}
            return int(weights.get("num_bits", 8)), weights.get("type", "float") == "float"
        case _:
            raise ModelError(f"asked for the size of a weight, found quantisation {method!r}")


def _kept_share(
    quantisation: Mapping[str, Any], dense_params: float, attention_params: float
) -> float:
    """Return the share of the dense weights that the quantisation leaves as they were."""
    named = quantisation.get("modules_to_not_convert") or quantisation.get("ignore") or ()
    names = " ".join(str(name) for name in named)
    attention = bool(re.search(r"self_attn", names))
    if re.search(r"shared_expert|feed_forward", names) and attention:
        return 1.0
    return attention_params / dense_params if attention else 0.0

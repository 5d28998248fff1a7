"""The precision of a model's weights, by its Hugging Face `config.json`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from steppe.errors import ModelError
from steppe.roofline.architecture.shape import WeightPrecision

_DTYPES = ("bfloat16", "float16", "half", "float32", "float")
_PLAIN_BYTES = 2.0
"""16 bits, whatever the file has: vLLM also loads 32-bit weights in 16 bits."""
_MXFP4_BYTES = 0.53125
"""Four bits and a scale of eight bits for each 32 weights (OCP Microscaling 1.0)."""
_INT4_BYTES = 0.5625
"""Four bits, 16 bits of scale and zero for each 128 weights, and padding."""
_NOT_LANGUAGE = re.compile(r"(^|[.:*^])(vision|visual|multi_modal|audio)")
"""Names of the vision and audio parts beside the language model."""
_ONE_LAYER = re.compile(r"layers\\?\.(\d+)\b")
"""The number in the name of a module, or in a regular expression for names."""
_MODELOPT_BITS = re.compile("FP([48])")
"""The bits of a weight in the name of an algorithm of ModelOpt."""


def weight_precision(
    config: Mapping[str, Any], dense_params: float, attention_params: float
) -> WeightPrecision:
    """Return the precision of a model.

    Args:
        config: The text model's part of `config.json`.
        dense_params: Weights that every token uses, without embedding and head.
        attention_params: The part of them that projects queries, keys, values and outputs.

    Raises:
        ModelError: A dtype or a quantisation is unknown.
    """
    dtype = str(config.get("torch_dtype") or config.get("dtype") or "bfloat16")
    if dtype not in _DTYPES:
        raise ModelError(f"asked for the size of a weight, found dtype {dtype}")
    plain = _PLAIN_BYTES
    quantisation = config.get("quantization_config")
    if not quantisation:
        return WeightPrecision(plain, plain, 0.0, 0, 0, 0)
    try:
        bits, floating = _bits(quantisation)
    except (TypeError, ValueError, AttributeError) as error:
        method, found = quantisation.get("quant_method"), repr(dict(quantisation))
        asked = f"asked for 4, 8 or 16 as the bits of {method!r}"
        raise ModelError(f"quantization_config: {asked}, found {found[:100]}") from error
    if bits == 16:
        return WeightPrecision(plain, plain, 0.0, 0, 0, 0)
    if _is_mxfp4(quantisation):
        return WeightPrecision(plain, _MXFP4_BYTES, 0.0, 0, 0, 1)
    kept = _kept_share(quantisation, config["num_hidden_layers"], attention_params / dense_params)
    small = 1.0 if bits == 8 else _INT4_BYTES
    fp8 = 1.0 if bits == 8 and floating else 0.0
    return WeightPrecision(
        dense_bytes=kept * plain + (1.0 - kept) * small,
        expert_bytes=small,
        dense_fp8=(1.0 - kept) * fp8,
        expert_fp8=int(fp8),
        block_scaled=int(_has_block_scales(quantisation)),
        expert_fp4=int(bits == 4 and floating),
    )


def weight_assumptions(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what `weight_precision` assumes because a `config.json` does not state it.

    Args:
        config: The text model's part of `config.json`; its precision is known.

    Returns:
        One line for each assumption; none where the config states everything.
    """
    if not (quantisation := config.get("quantization_config")):
        return ()
    method = str(quantisation.get("quant_method", "")).lower()
    match method:
        case "fp8" if not quantisation.get("weight_block_size"):
            return ("quantization_config.weight_block_size: not stated, assumed none",)
        case "awq" | "gptq" if not {"bits", "w_bit"} & set(quantisation):
            return ("quantization_config.bits: not stated, assumed 4",)
        case "bitsandbytes" if not {"load_in_4bit", "load_in_8bit"} & set(quantisation):
            return ("quantization_config.load_in_4bit: not stated, assumed 8 bits",)
        case "compressed-tensors":
            return _group_assumptions(quantisation)
        case _:
            return ()


def _group_assumptions(quantisation: Mapping[str, Any]) -> tuple[str, ...]:
    groups = [g for g in (quantisation.get("config_groups") or {}).values() if _is_in_layers(g)]
    if not groups:
        return ("quantization_config.config_groups: not stated, assumed 8-bit float",)
    weights = [group.get("weights") or {} for group in groups]
    key = "quantization_config.config_groups.weights"
    lines = [
        f"{key}.{name}: not stated, assumed {value}"
        for name, value in (("num_bits", "8"), ("type", "float"))
        if any(name not in each for each in weights)
    ]
    bits, floating = _bits(quantisation)
    if bits == 8 and floating and not any(each.get("strategy") for each in weights):
        lines.append(f"{key}.strategy: not stated, assumed no scale for each block")
    return tuple(lines)


def _has_block_scales(quantisation: Mapping[str, Any]) -> bool:
    """Return whether fp8 weights have a scale for each block of a matrix."""
    groups = (quantisation.get("config_groups") or {}).values()
    return bool(quantisation.get("weight_block_size")) or any(
        (group.get("weights") or {}).get("strategy") == "block" for group in groups
    )


def modelopt_quantisation(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the `quantization_config` that an `hf_quant_config.json` stands for.

    Raises:
        ModelError: It has no quantisation, or an unknown one.
    """
    quantisation = values.get("quantization")
    if not isinstance(quantisation, Mapping):
        found = "nothing" if quantisation is None else repr(quantisation)
        raise ModelError(f"quantization: asked for a mapping, found {found[:100]}")
    algorithm = quantisation.get("quant_algo")
    if not isinstance(algorithm, str) or not _MODELOPT_BITS.search(algorithm):
        found = "nothing" if algorithm is None else repr(algorithm)
        asked = "asked for FP8 or NVFP4"
        raise ModelError(f"quantization.quant_algo: {asked}, found {found[:100]}")
    return {**quantisation, "quant_method": "modelopt"}


def _is_mxfp4(quantisation: Mapping[str, Any]) -> bool:
    return str(quantisation.get("quant_method", "")) == "mxfp4"


def _bits(quantisation: Mapping[str, Any]) -> tuple[int, bool]:
    """Return the bits of a quantised weight, and whether it is a floating-point number."""
    bits, floating = _stated_bits(quantisation)
    if type(bits) is not int or bits not in (4, 8, 16):
        raise ValueError(f"found {bits!r} bits")
    return bits, floating


def _stated_bits(quantisation: Mapping[str, Any]) -> tuple[Any, bool]:
    method = str(quantisation.get("quant_method", "")).lower()
    match method:
        case "fp8" | "fbgemm_fp8":
            return 8, True
        case "mxfp4" | "modelopt_fp4":
            return 4, True
        case "awq" | "gptq":
            return quantisation.get("bits", quantisation.get("w_bit", 4)), False
        case "bitsandbytes":
            return (4 if quantisation.get("load_in_4bit") else 8), False
        case "modelopt":
            found = _MODELOPT_BITS.search(str(quantisation.get("quant_algo")))
            return int(found[1]) if found else None, True
        case "compressed-tensors":
            groups = quantisation.get("config_groups", {}).values()
            return _bits_of_groups(groups) if groups else (8, True)
        case _:
            raise ModelError(f"asked for the size of a weight, found quantisation {method!r}")


def _bits_of_groups(groups: Iterable[Mapping[str, Any]]) -> tuple[Any, bool]:
    """Return the bits that all groups of modules in the decoder's layers have in common."""
    weights = [group.get("weights", {}) for group in groups if _is_in_layers(group)]
    found = dict.fromkeys((each.get("num_bits", 8), each.get("type", "float")) for each in weights)
    if len(found) > 1:
        kinds = " and ".join(f"{bits}-bit {kind}" for bits, kind in found)
        asked = "asked for weights of one kind"
        raise ModelError(f"quantization_config.config_groups: {asked}, found {kinds}")
    bits, kind = next(iter(found), (16, "float"))
    return bits, kind == "float"


def _is_in_layers(group: Mapping[str, Any]) -> bool:
    """Return whether a group has modules beside the vision and audio parts and the head."""
    targets = [str(target) for target in group.get("targets") or ()]
    beside = [t for t in targets if "lm_head" in t or _NOT_LANGUAGE.search(t)]
    return not targets or len(beside) < len(targets)


def _kept_share(quantisation: Mapping[str, Any], layers: int, attention_share: float) -> float:
    """Return the share of the dense weights that are not quantised."""
    keys = ("modules_to_not_convert", "ignore", "exclude_modules")
    kept_names = next((quantisation[key] for key in keys if quantisation.get(key)), ())
    names = [name for name in map(str, kept_names) if not _NOT_LANGUAGE.search(name)]
    kept = min(_named_layers([name for name in names if "self_attn" in name], layers), layers)
    if kept == layers and re.search(r"shared_expert|feed_forward", " ".join(names)):
        return 1.0
    return attention_share * kept / layers


def _named_layers(names: Sequence[str], layers: int) -> int:
    """Return how many layers these names belong to; a name without a number, to all."""
    numbers = {found[1] if (found := _ONE_LAYER.search(name)) else None for name in names}
    return layers if None in numbers else len(numbers)

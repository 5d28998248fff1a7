"""How a Hugging Face `config.json` says that its weights are kept."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from steppe.errors import ModelError
from steppe.roofline.architecture.shape import WeightPrecision

_DTYPES = ("bfloat16", "float16", "half", "float32", "float")
_PLAIN_BYTES = 2.0
"""16 bits, whatever the file has: vLLM loads weights of 32 bits as such too."""
_MXFP4_BYTES = 0.53125
"""Four bits and a scale of eight bits for each 32 weights (OCP Microscaling 1.0)."""
_INT4_BYTES = 0.5625
"""Four bits and 16 bits of scale and zero for each 128 weights, and what padding costs."""
_NOT_LANGUAGE = re.compile(r"(^|[.:*^])(vision|visual|multi_modal|audio)")
"""Names of what sees or hears beside the language model."""
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
        attention_params: Those of them that project queries, keys, values and outputs.

    Raises:
        ModelError: A dtype or a quantisation that is not known.
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
        said = f"quantization_config: {asked}, found {found[:100]}"
        raise ModelError(said) from error
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
        block_scaled=int(bool(quantisation.get("weight_block_size"))),
        expert_fp4=int(bits == 4 and floating),
    )


def modelopt_quantisation(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what the `hf_quant_config.json` of a checkpoint stands for in its `config.json`.

    Raises:
        ModelError: It has no quantisation, or one whose size is not known.
    """
    said = values.get("quantization")
    if not isinstance(said, Mapping):
        found = "nothing" if said is None else repr(said)
        raise ModelError(f"quantization: asked for a mapping, found {found[:100]}")
    algorithm = said.get("quant_algo")
    if not isinstance(algorithm, str) or not _MODELOPT_BITS.search(algorithm):
        found = "nothing" if algorithm is None else repr(algorithm)
        asked = "asked for FP8 or NVFP4"
        raise ModelError(f"quantization.quant_algo: {asked}, found {found[:100]}")
    return {**said, "quant_method": "modelopt"}


def _is_mxfp4(quantisation: Mapping[str, Any]) -> bool:
    return str(quantisation.get("quant_method", "")) == "mxfp4"


def _bits(quantisation: Mapping[str, Any]) -> tuple[int, bool]:
    """Return bits of a quantised weight, and whether they are a floating-point number."""
    bits, floating = _said_bits(quantisation)
    if type(bits) is not int or bits not in (4, 8, 16):
        raise ValueError(f"found {bits!r} bits")
    return bits, floating


def _said_bits(quantisation: Mapping[str, Any]) -> tuple[Any, bool]:
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
        said = " and ".join(f"{bits}-bit {kind}" for bits, kind in found)
        asked = "asked for weights of one kind"
        raise ModelError(f"quantization_config.config_groups: {asked}, found {said}")
    bits, kind = next(iter(found), (16, "float"))
    return bits, kind == "float"


def _is_in_layers(group: Mapping[str, Any]) -> bool:
    """Return whether a group may have modules beside those that see or hear and the head."""
    targets = [str(target) for target in group.get("targets") or ()]
    beside = [t for t in targets if "lm_head" in t or _NOT_LANGUAGE.search(t)]
    return not targets or len(beside) < len(targets)


def _kept_share(quantisation: Mapping[str, Any], layers: int, attention_share: float) -> float:
    """Return the share of the dense weights that the quantisation leaves as they were."""
    keys = ("modules_to_not_convert", "ignore", "exclude_modules")
    said = next((quantisation[key] for key in keys if quantisation.get(key)), ())
    names = [name for name in map(str, said) if not _NOT_LANGUAGE.search(name)]
    kept = min(_named_layers([name for name in names if "self_attn" in name], layers), layers)
    if kept == layers and re.search(r"shared_expert|feed_forward", " ".join(names)):
        return 1.0
    return attention_share * kept / layers


def _named_layers(names: Sequence[str], layers: int) -> int:
    """Return how many layers some names are of; one without a number is of all."""
    numbers = {found[1] if (found := _ONE_LAYER.search(name)) else None for name in names}
    return layers if None in numbers else len(numbers)

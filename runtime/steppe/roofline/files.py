"""The files of the energy roofline: models, GPUs, coefficients and residuals."""

from __future__ import annotations

import csv
import difflib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import cache
from pathlib import Path
from typing import Any

from steppe.config import shipped_config
from steppe.config.error_message import unknown_key_error
from steppe.config.yaml_file import read_mapping
from steppe.errors import ConfigError, ModelError
from steppe.roofline.architecture.config_json import assumptions_of, longest_context_of, shape_of
from steppe.roofline.architecture.shape import ModelShape
from steppe.roofline.architecture.weight_precision import modelopt_quantisation
from steppe.roofline.calibration import Calibration, Coefficients
from steppe.roofline.energy_roofline import EnergyRoofline
from steppe.roofline.hardware import ClockCurve, GpuSpec, Host
from steppe.roofline.residual_model import Context, Residual, features_of

_FOR_PEOPLE = ("energy_source", "by_clock", "provenance")
"""Further keys of the files that `steppe bench probe` writes."""
_TEXTS = ("name", "coefficients", "clock_curve")
_RATE, _KNOB, _DRAW, _ENERGY = (1e6, 1e21), (1e-3, 1e6), (0.0, 1e6), (0.0, 1.0)
_RANGES = {
    "memory_bytes": _RATE,
    "bandwidth_bps": _RATE,
    "half_flops": _RATE,
    "fp8_flops": _RATE,
    "link_bps": _RATE,
    "power_limit_w": _KNOB,
    "lowest_mhz": _KNOB,
    "highest_mhz": _KNOB,
    "step_mhz": _KNOB,
    "bare_w": _DRAW,
    "context_w": _DRAW,
    "static_w": _DRAW,
    "joules_per_byte": _ENERGY,
    "joules_per_flop": _ENERGY,
}
"""Smallest and largest plausible value of a key."""
_WHOLE = ("lowest_mhz", "highest_mhz")


CLOCK_CURVES = {"low": -1.0, "nominal": 0.0, "high": 1.0}
"""Standard errors by which the clock curves of a run may be shifted, by name."""


def read_roofline(
    model: str | Path,
    gpu: str | Path,
    tp: int,
    *,
    data_parallel: bool = False,
    clock_curve: str = "nominal",
) -> EnergyRoofline:
    """Return the roofline of a model on some GPUs, with the calibration that comes with steppe.

    Args:
        model: A folder with a `config.json`, or a well-known name.
        gpu: A GPU file, or the name of one in `configs/gpus`.
        tp: Number of GPUs.
        data_parallel: Whether attention runs data-parallel.
        clock_curve: One of `CLOCK_CURVES`: `low` and `high` are one standard error off.

    Raises:
        ModelError: The model is not known, or its `config.json` lacks something.
        ConfigError: The GPU is not known, or a file is malformed.
        UsageError: The GPUs cannot split the model or do not hold it.
    """
    shape, spec = read_model_shape(model), read_gpu_spec(gpu)
    known = read_calibration().shifted(CLOCK_CURVES[clock_curve])
    return EnergyRoofline(shape, spec, tp, known, data_parallel=data_parallel)


def read_model_shape(model: str | Path) -> ModelShape:
    """Return the shape of a model: a folder with its `config.json`, or a well-known name.

    Raises:
        ModelError: Neither a folder nor a known name, or a `config.json` that lacks something.
    """
    name, config = _named_config(model)
    return shape_of(name, config)


def read_longest_context(model: str | Path) -> int | None:
    """Return the longest context of a model, prompt and output, tokens; None if not stated.

    Raises:
        ModelError: As of `read_model_shape`.
    """
    name, config = _named_config(model)
    return longest_context_of(name, config)


def read_assumptions(model: str | Path) -> tuple[str, ...]:
    """Return what is assumed about a model because its `config.json` does not state it.

    Raises:
        ModelError: As of `read_model_shape`.
    """
    name, config = _named_config(model)
    return assumptions_of(name, config)


def read_gpu_spec(gpu: str | Path) -> GpuSpec:
    """Return a GPU: a YAML file, or the name of one in `configs/gpus`.

    Raises:
        ConfigError: There is no such GPU, or its file lacks a key, has an unknown one or a number
            that cannot be. The message is one line.
    """
    path = Path(gpu)
    if not path.is_file():
        folder = shipped_config("gpus")
        path = folder / f"{str(gpu).lower()}.yaml"
        if not path.is_file():
            known = ", ".join(sorted(p.stem for p in folder.glob("*.yaml")))
            raise ConfigError(f"asked for GPU {str(gpu)!r}, found {known}")
    try:
        return gpu_spec_of(read_mapping(path))
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


def spec_name(gpu_name: str) -> str:
    """Return the name in `configs/gpus` of a GPU by its NVML name.

    `NVIDIA H100 80GB HBM3` and `NVIDIA H100 PCIe` are both an `h100`: their bandwidth and their
    rates differ, but the cost ratio of two tokens hardly does.

    Raises:
        ConfigError: There is no such GPU.
    """
    words = re.split(r"[^a-z0-9]+", gpu_name.lower())
    known = sorted(path.stem for path in shipped_config("gpus").glob("*.yaml"))
    found = [name for name in known if name in words]
    if not found:
        raise ConfigError(f"asked for the GPU {gpu_name!r}, found {', '.join(known)}")
    return found[0]


def gpu_spec_of(values: Mapping[Any, Any]) -> GpuSpec:
    """Return a GPU from the keys and values of its file.

    Raises:
        ValueError: A key is missing or unknown, or a value cannot be; the message names the key.
    """
    known = {field.name: field for field in fields(GpuSpec)}
    for key in values:
        if key not in known and key not in _FOR_PEOPLE:
            raise ValueError(unknown_key_error([], str(key), known))
    for name, field in known.items():
        if field.default is MISSING and name not in values:
            raise ValueError(f"{name}: missing")
    spec = GpuSpec(**{name: _found(name, values[name]) for name in known if name in values})
    if spec.lowest_mhz > spec.highest_mhz:
        raise ValueError(
            f"lowest_mhz: asked for at most highest_mhz {spec.highest_mhz}, found {spec.lowest_mhz}"
        )
    return spec


@cache
def read_calibration() -> Calibration:
    """Return the calibration that comes with steppe; `bench/fit_roofline.py` writes it.

    Raises:
        ConfigError: A file is missing or malformed.
    """
    path = shipped_config("roofline") / "coefficients.yaml"
    values = read_mapping(path)
    try:
        curves = {name: _clock_curve(part) for name, part in values["clock"].items()}
        coefficients = {name: _coefficients(part) for name, part in values["gpus"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: {error}: missing or malformed") from error
    residuals = read_residuals(path.with_name("residuals.csv"))
    return Calibration(coefficients, curves, residuals)


def read_residuals(path: Path) -> tuple[Residual, ...]:
    """Return the difference between the formula and each measured run.

    Raises:
        ConfigError: The file is missing or malformed.
    """
    try:
        rows = list(csv.DictReader(path.read_text().splitlines()))
        shapes = {name: read_model_shape(name) for name in {row["model"] for row in rows}}
        gpus = {name: read_gpu_spec(name) for name in {row["gpu"] for row in rows}}
        return tuple(_residual(row, shapes[row["model"]], gpus[row["gpu"]]) for row in rows)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: not a table of residuals: {error}") from error


def _residual(row: Mapping[str, str], model: ModelShape, gpu: GpuSpec) -> Residual:
    host = Host(int(row["neighbours"]), float(row["parsed_tokens"]))
    context = Context(
        model=model,
        gpu=gpu,
        gpus=int(row["gpus"]),
        batch=float(row["sequences"]),
        context_tokens=float(row["context_tokens"]),
        host=host,
        data_parallel=row["data_parallel"] == "True",
    )
    return Residual(features_of(context), float(row["log_time"]), float(row["log_draw"]))


def _coefficients(part: Mapping[str, Any]) -> Coefficients:
    return Coefficients(**{f.name: float(_value(part[f.name])) for f in fields(Coefficients)})


def _clock_curve(part: Mapping[str, Any]) -> ClockCurve:
    floor, knee, memory = part["voltage_floor"], part["voltage_knee"], part["memory_knee"]
    return ClockCurve(
        voltage_floor=float(floor["value"]),
        voltage_knee=float(knee["value"]),
        memory_knee=float(memory["value"]),
        per_error=(
            float(floor["per_error"]),
            float(knee["per_error"]),
            float(memory["per_error"]),
        ),
    )


def _value(entry: Any) -> Any:
    """Return a number that may stand beside its source and error."""
    return entry["value"] if isinstance(entry, Mapping) else entry


def _named_config(model: str | Path) -> tuple[str, Mapping[str, Any]]:
    """Return the name and the `config.json` of a folder or of a well-known model."""
    folder = Path(model)
    path = folder / "config.json" if folder.is_dir() else folder
    if path.is_file():
        called = path.absolute().parent if path.name == "config.json" else path
        return called.name or str(model), _quantised(path, _json(path))
    if folder.is_dir():
        raise ModelError(f"asked for a model, found no config.json in {folder}")
    name = str(model).lower()
    known: list[str] = []
    for full, aliases, config in _known_models():
        names = full.lower(), full.lower().split("/")[-1], *map(str.lower, aliases)
        if name in names:
            return full, config
        known += names
    close = ", ".join(difflib.get_close_matches(name, known))
    raise ModelError(
        f"asked for model {model}, found neither such a folder with a config.json nor a name "
        f"in configs/models.yaml{f', where {close} come close' if close else ''}"
    )


def _quantised(path: Path, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a `config.json` with the quantisation that ModelOpt may have left beside it."""
    beside = path.with_name("hf_quant_config.json")
    if path.name != "config.json" or config.get("quantization_config") or not beside.is_file():
        return config
    values = _json(beside)
    try:
        return {**config, "quantization_config": modelopt_quantisation(values)}
    except ModelError as error:
        raise ModelError(f"{beside}: {error}") from error


@cache
def _known_models() -> tuple[tuple[str, tuple[str, ...], Mapping[str, Any]], ...]:
    models = read_mapping(shipped_config("models.yaml"))["models"]
    return tuple(
        (name, tuple(entry.get("aliases", ())), entry["config"]) for name, entry in models.items()
    )


def _json(path: Path) -> Mapping[str, Any]:
    try:
        values = json.loads(path.read_text())
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}") from error
    except RecursionError as error:
        raise ModelError(f"{path}: asked for a few levels of nesting, found too many") from error
    except ValueError as error:
        raise ModelError(f"{path}: not JSON: {error}") from error
    if not isinstance(values, dict):
        raise ModelError(f"{path}: asked for a mapping, found {type(values).__name__}")
    return values


def _found(name: str, entry: Any) -> Any:
    """Return a value, which may stand beside its source, if it can be."""
    if isinstance(entry, Mapping):
        if "value" not in entry:
            raise ValueError(f"{name}.value: missing")
        entry = entry["value"]
    if name in _TEXTS:
        if not isinstance(entry, str) or not entry:
            raise ValueError(f"{name}: asked for a text, found {entry!r}")
        return entry
    kinds = (int,) if name in _WHOLE else (int, float)
    if type(entry) not in kinds or not -math.inf < entry < math.inf:
        kind = "whole" if name in _WHOLE else "finite"
        raise ValueError(f"{name}: asked for a {kind} number, found {entry!r}")
    if name == "link_bps" and entry == 0:
        return 0.0
    least, most = _RANGES[name]
    if not least <= entry <= most:
        raise ValueError(f"{name}: asked for a number from {least:g} to {most:g}, found {entry!r}")
    return entry

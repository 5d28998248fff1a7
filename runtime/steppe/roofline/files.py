"""The files of the energy roofline: models, GPUs, coefficients and residuals."""

from __future__ import annotations

import csv
import difflib
import json
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

from steppe.config import shipped_config
from steppe.config.yaml_file import read_mapping
from steppe.errors import ConfigError, ModelError
from steppe.roofline.architecture.config_json import longest_context_of, shape_of
from steppe.roofline.architecture.shape import ModelShape
from steppe.roofline.architecture.weight_precision import modelopt_quantisation
from steppe.roofline.calibration import Calibration
from steppe.roofline.coefficients import Coefficients
from steppe.roofline.energy_roofline import EnergyRoofline
from steppe.roofline.gpu_file import gpu_spec_of
from steppe.roofline.gpu_spec import ClockCurve, GpuSpec
from steppe.roofline.host import Host
from steppe.roofline.residual_model import Context, Residual, features_of


def read_roofline(
    model: str | Path, gpu: str | Path, tp: int, *, data_parallel: bool = False
) -> EnergyRoofline:
    """Return the roofline of a model on some GPUs, with the calibration that comes with steppe.

    Raises:
        ModelError: The model is not known, or its `config.json` lacks something.
        ConfigError: The GPU is not known, or a file is malformed.
        UsageError: The GPUs cannot split the model or do not hold it.
    """
    shape, spec, known = read_model_shape(model), read_gpu_spec(gpu), read_calibration()
    return EnergyRoofline(shape, spec, tp, known, data_parallel=data_parallel)


def read_model_shape(model: str | Path) -> ModelShape:
    """Return the shape of a model: a folder with its `config.json`, or a well-known name.

    Raises:
        ModelError: Neither a folder nor a known name, or a `config.json` that lacks something.
    """
    return shape_of(*_named_config(model))


def read_longest_context(model: str | Path) -> int | None:
    """Return how many tokens a model was made for, prompt and output; None where it is not said.

    Raises:
        ModelError: As of `read_model_shape`.
    """
    return longest_context_of(*_named_config(model))


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


@cache
def read_calibration() -> Calibration:
    """Return the calibration that comes with steppe; `bench/fit_roofline.py` writes it.

    Raises:
        ConfigError: A file is missing or malformed.
    """
    path = shipped_config("roofline") / "coefficients.yaml"
    values = read_mapping(path)
    try:
        curve = ClockCurve(**{f.name: _value(values["clock"][f.name]) for f in fields(ClockCurve)})
        coefficients = {name: _coefficients(part) for name, part in values["gpus"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: {error}: missing or malformed") from error
    residuals = read_residuals(path.with_name("residuals.csv"))
    return Calibration(coefficients, curve, residuals)


def read_residuals(path: Path) -> tuple[Residual, ...]:
    """Return what the formula missed of each measured run.

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
    sequences, context_tokens = float(row["sequences"]), float(row["context_tokens"])
    shared = model, gpu, int(row["gpus"]), sequences, context_tokens, host
    place = Context(*shared, row["data_parallel"] == "True")
    return Residual(features_of(place), float(row["log_time"]), float(row["log_draw"]))


def _coefficients(part: Mapping[str, Any]) -> Coefficients:
    return Coefficients(**{f.name: float(_value(part[f.name])) for f in fields(Coefficients)})


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

"""Check that a frontier file is of the configured model and GPUs."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from steppe.config import (
    EmulatedSection,
    ModelledSection,
    NvmlSection,
    RunConfig,
    shipped_config,
)
from steppe.errors import ConfigError, ModelError
from steppe.frontier.file import FrontierSubject, read_frontier_and_subject
from steppe.frontier.pareto import Frontier
from steppe.roofline.architecture.shape import ModelShape
from steppe.roofline.files import read_gpu_spec, read_model_shape, spec_name


def configured_frontier(
    config: RunConfig, cards: Collection[str] = (), *, any_gpu: bool = False
) -> Frontier:
    """Read the frontier file of a configuration; of several, the one for these GPUs.

    Args:
        config: The configuration; it names a file.
        cards: NVML names of the GPUs of a running fleet; without them those of the configuration.
        any_gpu: Whether to take the frontier of another GPU.

    Raises:
        ConfigError: The file is missing or malformed, asks for larger batches than the engines
            take, or names another model or GPU.
    """
    if config.frontier.file is not None:
        return _frontier_of(config.frontier.file, config, cards, any_gpu=any_gpu)
    errors: list[str] = []
    for path in config.frontier.files:
        try:
            return _frontier_of(path, config, cards, any_gpu=False)
        except ConfigError as error:
            errors.append(str(error))
    raise ConfigError("frontier.files: none fits: " + "; ".join(errors))


def _frontier_of(
    path: Path, config: RunConfig, cards: Collection[str], *, any_gpu: bool
) -> Frontier:
    frontier, subject = read_frontier_and_subject(path, config.engine.max_batch_limit)
    if subject.model == config.model.served_name:  # `steppe bench --url` writes this name
        subject = replace(subject, model=None)
    wanted = subject_of(config)
    if any_gpu:
        subject = replace(subject, gpu=None)
    names = ", ".join(sorted(cards))
    refuse_another(path, subject, replace(wanted, gpu=names or wanted.gpu))
    if names and subject.gpu:
        _refuse_like_gpu(path, subject.gpu, names)
    return frontier


def subject_of(config: RunConfig) -> FrontierSubject:
    """Return the model and GPUs of a configuration."""
    each = config.fleet.gpus_per_replica
    match config.device:
        case EmulatedSection(gpu_types=types):
            return FrontierSubject(config.model.name, ", ".join(sorted(set(types))), each)
        case ModelledSection(gpu=gpu):
            return FrontierSubject(config.model.name, gpu, each)
        case NvmlSection():
            return FrontierSubject(config.model.name, None, each)


def refuse_another(path: Path, subject: FrontierSubject, wanted: FrontierSubject) -> None:
    """Refuse the frontier of another model, another GPU or another number of GPUs.

    What a file does not state is not checked. A user's own GPU file may have any name, so such a
    GPU is not checked either.

    Raises:
        ConfigError: The model or GPUs differ.
    """
    if subject.model and wanted.model and not _same_model(subject.model, wanted.model):
        raise ConfigError(f"{path}: model: asked for {wanted.model}, found {subject.model}")
    if subject.gpu and wanted.gpu and subject.gpu != wanted.gpu:
        gpus = _shipped_gpus(wanted.gpu)
        if None not in gpus and not gpus & _shipped_gpus(subject.gpu):
            raise ConfigError(f"{path}: gpu: asked for {wanted.gpu}, found {subject.gpu}")
    each, found = wanted.gpus_per_replica, subject.gpus_per_replica
    if None not in (each, found) and found != each:
        raise ConfigError(f"{path}: gpus_per_replica: asked for {each}, found {found}")


def _same_model(one: str, other: str) -> bool:
    """Return whether two names, folders or hub ids are of one model, or of models of one shape."""
    shapes = _shape(one), _shape(other)
    names = [
        Path(given if shape is None else shape.name).name.lower()
        for given, shape in zip((one, other), shapes, strict=True)
    ]
    if names[0] == names[1]:
        return True
    first, second = shapes
    return first is not None and second is not None and first == replace(second, name=first.name)


def _shape(model: str) -> ModelShape | None:
    with suppress(ModelError, OSError):
        return read_model_shape(model)
    return None


def _refuse_like_gpu(path: Path, found: str, wanted: str) -> None:
    """Refuse the frontier of GPUs that are only like those of a fleet.

    NVML names are compared exactly: an `H100 PCIe` has other clocks, power limits and memory than
    an `H100 80GB HBM3`. A name of `configs/gpus`, such as that of a computed frontier, fits every
    GPU of its kind.

    Args:
        path: The file.
        found: The GPUs of the file, with commas between.
        wanted: The GPUs of the fleet, by their NVML names, with commas between.

    Raises:
        ConfigError: The fleet has a GPU that the file does not name.
    """
    names = set(found.split(", "))
    if all(map(_is_nvml_name, names)) and not set(wanted.split(", ")) <= names:
        raise ConfigError(
            f"{path}: gpu: asked for {wanted}, found {found}; measure one on these GPUs with "
            "`steppe bench sweep`, or give `steppe serve --force`"
        )


def _is_nvml_name(gpu: str) -> bool:
    """Return whether a GPU is named by its driver, not by a file of `configs/gpus` or one's own."""
    known = {path.stem for path in shipped_config("gpus").glob("*.yaml")}
    return gpu.lower() not in known and not Path(gpu).is_file()


def _shipped_gpus(gpus: str) -> set[str | None]:
    """Return the names in `configs/gpus` of some GPUs; None for those without one."""
    return {_shipped_gpu(gpu) for gpu in gpus.split(", ")}


def _shipped_gpu(gpu: str) -> str | None:
    with suppress(ConfigError, OSError):
        return spec_name(read_gpu_spec(gpu).name if Path(gpu).is_file() else gpu)
    return None

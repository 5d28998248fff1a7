"""Whether a frontier file is of the model and the GPUs that it is wanted for."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from steppe.config import EmulatedSection, ModelledSection, NvmlSection, RunConfig
from steppe.errors import ConfigError, ModelError
from steppe.frontier.file import FrontierSubject, read_frontier_and_subject
from steppe.frontier.pareto import Frontier
from steppe.roofline.architecture.shape import ModelShape
from steppe.roofline.files import read_gpu_spec, read_model_shape, spec_name


def configured_frontier(config: RunConfig, cards: Iterable[str] = ()) -> Frontier:
    """Read the frontier file of a configuration.

    Args:
        config: The configuration; it names a file.
        cards: What NVML calls the GPUs, where the fleet is up; else the configuration says it.

    Raises:
        ConfigError: The file is missing or malformed, asks for larger batches than the engines
            take, or says that it is of another model or GPU.
    """
    path = config.frontier.file
    assert path is not None, "the configuration names a frontier file"
    frontier, said = read_frontier_and_subject(path, config.engine.max_batch_limit)
    if said.model == config.model.served_name:  # `steppe bench --url` knows a model by this name
        said = replace(said, model=None)
    asked = subject_of(config)
    refuse_another(path, said, replace(asked, gpu=", ".join(sorted(cards)) or asked.gpu))
    return frontier


def subject_of(config: RunConfig) -> FrontierSubject:
    """Return what the frontier of a configuration is of."""
    each = config.fleet.gpus_per_replica
    match config.device:
        case EmulatedSection(profile=gpu) | ModelledSection(gpu=gpu):
            return FrontierSubject(config.model.name, gpu, each)
        case NvmlSection():
            return FrontierSubject(config.model.name, None, each)


def refuse_another(path: Path, said: FrontierSubject, asked: FrontierSubject) -> None:
    """Refuse a frontier that says it is of another model, of another GPU or of more or fewer.

    What a file does not say is not checked. A GPU file of one's own may have any name, so no
    frontier is refused for the GPU of one.

    Raises:
        ConfigError: It is of another; the message says what was asked and what was found.
    """
    if said.model and asked.model and not _same_model(said.model, asked.model):
        raise ConfigError(f"{path}: model: asked for {asked.model}, found {said.model}")
    if said.gpu and asked.gpu and said.gpu != asked.gpu:
        wanted = _shipped_gpus(asked.gpu)
        if None not in wanted and not wanted & _shipped_gpus(said.gpu):
            raise ConfigError(f"{path}: gpu: asked for {asked.gpu}, found {said.gpu}")
    each, found = asked.gpus_per_replica, said.gpus_per_replica
    if None not in (each, found) and found != each:
        raise ConfigError(f"{path}: gpus_per_replica: asked for {each}, found {found}")


def _same_model(one: str, other: str) -> bool:
    """Tell whether two names, folders or hub ids are of one model, or of two of one shape."""
    shapes = _shape(one), _shape(other)
    names = [
        Path(said if shape is None else shape.name).name.lower()
        for said, shape in zip((one, other), shapes, strict=True)
    ]
    if names[0] == names[1]:
        return True
    first, second = shapes
    return first is not None and second is not None and first == replace(second, name=first.name)


def _shape(model: str) -> ModelShape | None:
    with suppress(ModelError, OSError):
        return read_model_shape(model)
    return None


def _shipped_gpus(said: str) -> set[str | None]:
    """Return the names in `configs/gpus` of some GPUs; None stands for those without one."""
    return {_shipped_gpu(gpu) for gpu in said.split(", ")}


def _shipped_gpu(said: str) -> str | None:
    with suppress(ConfigError, OSError):
        return spec_name(read_gpu_spec(said).name if Path(said).is_file() else said)
    return None

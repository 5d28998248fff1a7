"""Frontier files: what a sweep writes and a run reads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError

from steppe.config.error_message import first_error
from steppe.config.section import NonNegative, Positive, Section
from steppe.config.yaml_file import read_mapping
from steppe.errors import ConfigError
from steppe.frontier.file_costs import CostsSection, LengthsSection, costs_values
from steppe.frontier.pareto import Frontier
from steppe.roofline.point import OperatingPoint

Limit = Annotated[int, Field(ge=1, le=10_000_000)]


class _PointSection(Section):
    """An operating point as a file has it."""

    clock_mhz: Annotated[int, Field(ge=0, le=10_000_000)]
    batch_limit: Limit
    output_tps: Positive
    draw_w: Positive
    tpot_s: NonNegative = 0.0


class _FrontierSection(Section):
    """A whole frontier file."""

    source: Literal["measured", "emulated", "modelled"]
    model: str | None = None
    gpu: str | None = None
    gpus_per_replica: Limit | None = None
    asleep_w: NonNegative
    idle_w: NonNegative
    points: Annotated[tuple[_PointSection, ...], Field(min_length=1, strict=False)]
    lengths: LengthsSection | None = None
    costs: CostsSection | None = None
    provenance: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FrontierSubject:
    """The model and GPUs of a frontier; None where its file does not state them.

    Attributes:
        model: Name, folder or hub id of the model.
        gpu: The GPU, by its NVML name or that of a file in `configs/gpus`.
        gpus_per_replica: Number of GPUs that share the model.
    """

    model: str | None = None
    gpu: str | None = None
    gpus_per_replica: int | None = None


def write_frontier(
    frontier: Frontier,
    path: Path,
    subject: FrontierSubject = FrontierSubject(),
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write a frontier as YAML.

    Args:
        frontier: The operating points.
        path: The file.
        subject: Model and GPUs, as far as they are known.
        provenance: How it was found, for people and for the cache; runs do not read it.
    """
    values: dict[str, Any] = {
        "source": frontier.source,
        **{key: name for key, name in asdict(subject).items() if name is not None},
        "asleep_w": frontier.asleep_w,
        "idle_w": frontier.idle_w,
        "points": [asdict(point) for point in frontier.candidates],
        **costs_values(frontier.costs, frontier.lengths),
    }
    if provenance is not None:
        values["provenance"] = dict(provenance)
    path.write_text(yaml.safe_dump(values, sort_keys=False))


def read_frontier(path: Path, most_batch: float = math.inf) -> Frontier:
    """Read a frontier file.

    Args:
        path: The file.
        most_batch: Largest batch limit that the engines take.

    Raises:
        ConfigError: The file is missing or malformed, or asks for larger batches.
    """
    frontier, _ = read_frontier_and_subject(path, most_batch)
    return frontier


def read_frontier_and_subject(
    path: Path, most_batch: float = math.inf
) -> tuple[Frontier, FrontierSubject]:
    """Read a frontier file, and its model and GPUs.

    Args:
        path: The file.
        most_batch: Largest batch limit that the engines take.

    Raises:
        ConfigError: The file is missing, malformed or lacks a key, has an unknown one, has two
            points of one setting or an invalid source, or asks for larger batches. The message
            is one line.
    """
    values = read_mapping(path)
    try:
        section = _FrontierSection.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{path}: {first_error(error, _FrontierSection)}") from error
    points = [OperatingPoint(**point.model_dump()) for point in section.points]
    _refuse_twice(path, points)
    frontier = Frontier.of(points, section.asleep_w, section.idle_w, section.source)
    costs = None if section.costs is None else section.costs.value()
    lengths = None if section.lengths is None else section.lengths.value()
    frontier = frontier.with_costs(costs, lengths)
    if section.asleep_w >= frontier.floor.draw_w:
        raise ConfigError(
            f"{path}: asleep_w: asked for less than the {frontier.floor.draw_w:g} W of the point "
            f"that draws least, found {section.asleep_w:g}"
        )
    if section.idle_w > frontier.full.draw_w:
        raise ConfigError(
            f"{path}: idle_w: asked for at most the {frontier.full.draw_w:g} W of the point that "
            f"draws most, found {section.idle_w:g}"
        )
    _refuse_larger(path, frontier, most_batch)
    return frontier, FrontierSubject(section.model, section.gpu, section.gpus_per_replica)


def _refuse_larger(path: Path, frontier: Frontier, most_batch: float) -> None:
    """Refuse batch limits that the engines do not take."""
    largest = max(point.batch_limit for point in frontier.candidates)
    if largest > most_batch:
        raise ConfigError(
            f"{path}: asked for a batch limit of {largest}, "
            f"found engine.max_batch_limit: {most_batch:g}"
        )


def _refuse_twice(path: Path, points: Sequence[OperatingPoint]) -> None:
    """Refuse two points of one setting, of which at most one can be right."""
    first: dict[tuple[int, int], int] = {}
    for place, point in enumerate(points):
        setting = point.clock_mhz, point.batch_limit
        if setting in first:
            raise ConfigError(
                f"{path}: points.{place}: asked for a setting once, found {point.clock_mhz} MHz "
                f"and batch limit {point.batch_limit} in points.{first[setting]} too"
            )
        first[setting] = place

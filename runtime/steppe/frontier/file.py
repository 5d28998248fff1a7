"""Frontier files: what a sweep writes and a run reads."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from steppe.errors import ConfigError
from steppe.frontier.pareto import Frontier
from steppe.frontier.point import OperatingPoint

_WHOLE = ("clock_mhz", "batch_limit")
_MAY_BE_0 = ("asleep_w", "idle_w", "tpot_s")


@dataclass(frozen=True, slots=True)
class Subject:
    """What a frontier is of; None where its file does not say.

    Attributes:
        model: Name, folder or hub id of the model.
        gpu: The GPU, as its vendor or a file of `configs/gpus` calls it.
    """

    model: str | None = None
    gpu: str | None = None


def write_frontier(frontier: Frontier, path: Path, subject: Subject = Subject()) -> None:
    """Write a frontier as YAML, with what it is of as far as that is known."""
    values = {
        "source": frontier.source,
        **{key: said for key, said in asdict(subject).items() if said is not None},
        "asleep_w": frontier.asleep_w,
        "idle_w": frontier.idle_w,
        "points": [asdict(point) for point in frontier.candidates],
    }
    path.write_text(yaml.safe_dump(values, sort_keys=False))


def read_frontier(path: Path, most_batch: float = math.inf) -> Frontier:
    """Read a frontier file.

    Args:
        path: The file.
        most_batch: Largest batch limit that the engines take.

    Raises:
        ConfigError: The file is missing, malformed or lacks a key, or asks for larger batches.
    """
    frontier = _read(path)
    largest = max(point.batch_limit for point in frontier.candidates)
    if largest > most_batch:
        raise ConfigError(
            f"{path}: asked for a batch limit of {largest}, "
            f"found engine.max_batch_limit: {most_batch:g}"
        )
    return frontier


def read_subject(path: Path) -> Subject:
    """Return what a frontier file that can be read is of."""
    values = yaml.safe_load(path.read_text())
    return Subject(*(str(values[key]) if key in values else None for key in ("model", "gpu")))


def _read(path: Path) -> Frontier:
    try:
        values = yaml.safe_load(path.read_text())
        if not isinstance(values, dict):
            raise ValueError(f"asked for a mapping, found {type(values).__name__}")
        points = [_point(OperatingPoint(**point)) for point in values["points"]]
        asleep_w, idle_w = (_number(name, values[name]) for name in ("asleep_w", "idle_w"))
        if not points:
            raise ValueError("points: empty")
        frontier = Frontier.of(points, asleep_w, idle_w, str(values["source"]))
        if asleep_w >= frontier.floor.draw_w:
            raise ValueError(
                f"asleep_w: asked for less than the {frontier.floor.draw_w:g} W of the point "
                f"that draws least, found {asleep_w:g}"
            )
        return frontier
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except KeyError as error:
        raise ConfigError(f"{path}: {error.args[0]}: missing") from error
    except (TypeError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: not a frontier: {' '.join(str(error).split())}") from error


def _point(point: OperatingPoint) -> OperatingPoint:
    """Return a point whose numbers can be."""
    for name, value in asdict(point).items():
        _number(name, value)
    return point


def _number(name: str, value: Any) -> float:
    """Return the number that a name stands for, if it can be."""
    kinds = (int,) if name in _WHOLE else (int, float)  # a bool is an int, but none of these
    fits = type(value) in kinds and 0 <= value < math.inf and (value > 0 or name in _MAY_BE_0)
    if not fits:
        kind = "whole number" if name in _WHOLE else "number"
        least = "of at least 0" if name in _MAY_BE_0 else "above 0"
        raise ValueError(f"{name}: asked for a {kind} {least}, found {value!r}")
    return float(value)

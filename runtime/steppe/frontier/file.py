"""Frontier files: what a sweep writes and a run reads."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import yaml

from steppe.errors import ConfigError
from steppe.frontier.pareto import Frontier
from steppe.frontier.point import OperatingPoint


def write_frontier(frontier: Frontier, path: Path) -> None:
    """Write a frontier as YAML."""
    values = {
        "source": frontier.source,
        "asleep_w": frontier.asleep_w,
        "idle_w": frontier.idle_w,
        "points": [asdict(point) for point in frontier.candidates],
    }
    path.write_text(yaml.safe_dump(values, sort_keys=False))


def read_frontier(path: Path) -> Frontier:
    """Read a frontier file.

    Raises:
        ConfigError: The file is missing, malformed or lacks a key.
    """
    try:
        values = yaml.safe_load(path.read_text())
        points = [OperatingPoint(**point) for point in values["points"]]
        asleep_w, idle_w = float(values["asleep_w"]), float(values["idle_w"])
        return Frontier.of(points, asleep_w, idle_w, str(values["source"]))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except KeyError as error:
        raise ConfigError(f"{path}: {error.args[0]}: missing") from error
    except (TypeError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: not a frontier: {' '.join(str(error).split())}") from error

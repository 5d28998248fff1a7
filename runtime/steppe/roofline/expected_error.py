"""How far the energy roofline may be from a measurement, by kind of model and batch limit.

`configs/roofline/expected_error.csv` holds the errors of models that were left out of the fit
(`python bench/frontier_error.py DATA --write` writes it): for each kind of model and each range
of batch limits, the error that 90 % of the measured runs stayed within. The measurements are
those of ML.ENERGY Benchmark v3: H100 and B200 at their highest clocks, without the runs in which
a busy host kept the GPU waiting. Other GPUs and lower clocks may be further off.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from steppe.config import shipped_config
from steppe.errors import ConfigError
from steppe.roofline.architecture.shape import ModelShape

HALF_BYTES = 2.0
"""Size of a weight in 16 bit, bytes."""


@dataclass(frozen=True, slots=True)
class ModelKind:
    """What decides how far the roofline may be off.

    Attributes:
        has_experts: Whether the model is a mixture of experts.
        is_quantised: Whether some of its weights have fewer than 16 bits.
        on_several_gpus: Whether one replica runs on several GPUs.
    """

    has_experts: bool
    is_quantised: bool
    on_several_gpus: bool

    @classmethod
    def of(cls, model: ModelShape, gpus: int) -> ModelKind:
        """Return the kind of a model on this number of GPUs."""
        precision, has_experts = model.precision, model.experts.layers > 0
        is_quantised = precision.dense_bytes < HALF_BYTES
        is_quantised |= has_experts and precision.expert_bytes < HALF_BYTES
        return cls(has_experts, is_quantised, gpus > 1)


@dataclass(frozen=True, slots=True)
class ExpectedError:
    """The error that 90 % of the measured runs of similar models stayed within.

    Attributes:
        kind: The kind of model.
        up_to_batch: Largest batch limit of the range; the last range has no end.
        joules_per_token: Relative error of the energy per output token.
        output_tps: Relative error of the output tokens per second.
        rows: Measured runs behind it.
        models: Models behind it.
        similar: Which runs these are, in words.
    """

    kind: ModelKind
    up_to_batch: int
    joules_per_token: float
    output_tps: float
    rows: int
    models: int
    similar: str

    @property
    def basis(self) -> str:
        """The measurements behind it, in words."""
        return (
            f"90th percentile of {self.rows} runs of {self.models} models ({self.similar}) "
            "left out of the fit, on H100 and B200 at their highest clocks"
        )


def expected_error(model: ModelShape, gpus: int, batch_limit: int) -> ExpectedError:
    """Return how far the roofline may be off for a model at a batch limit.

    Raises:
        ConfigError: The shipped table is missing or malformed.
    """
    kind = ModelKind.of(model, gpus)
    ranges = [found for found in read_expected_errors() if found.kind == kind]
    return next((found for found in ranges if batch_limit <= found.up_to_batch), ranges[-1])


@cache
def read_expected_errors(path: Path | None = None) -> tuple[ExpectedError, ...]:
    """Return the rows of the table, for each kind by rising batch limit.

    Args:
        path: The table; the shipped one by default.

    Raises:
        ConfigError: It is missing or malformed.
    """
    path = path or shipped_config("roofline") / "expected_error.csv"
    try:
        rows = list(csv.DictReader(path.read_text().splitlines()))
        return tuple(_expected_error(row) for row in rows)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: not a table of expected errors: {error}") from error


def _expected_error(row: dict[str, str]) -> ExpectedError:
    flags = [row[name] == "True" for name in ("experts", "quantised", "several_gpus")]
    return ExpectedError(
        kind=ModelKind(has_experts=flags[0], is_quantised=flags[1], on_several_gpus=flags[2]),
        up_to_batch=int(row["up_to_batch"]),
        joules_per_token=float(row["joules_per_token"]),
        output_tps=float(row["output_tps"]),
        rows=int(row["rows"]),
        models=int(row["models"]),
        similar=row["similar"],
    )

"""The base class of all sections of a run configuration, and shared number types."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

LARGEST = 1e12
"""Upper bound of watts, seconds, joules and tokens (a terawatt, thousands of years), so that sums
and products stay finite."""
Positive = Annotated[float, Field(gt=0, le=LARGEST)]
NonNegative = Annotated[float, Field(ge=0, le=LARGEST)]
Count = Annotated[int, Field(ge=1, le=int(LARGEST))]
Share = Annotated[float, Field(ge=0, le=1)]
FilePath = Annotated[Path, Field(strict=False)]
"""A path; YAML has it as text."""


class Section(BaseModel):
    """One section: frozen, refuses unknown keys, and converts no text or boolean to a number.

    The docstring under a field is its description in the configuration reference and in the
    JSON Schema.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        str_min_length=1,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

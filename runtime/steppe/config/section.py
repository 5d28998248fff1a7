"""What every part of a run configuration is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

LARGEST = 1e12
"""No watts, seconds, joules or tokens of a run are more: a terawatt, thousands of years. Sums and
products of such numbers stay finite."""
Positive = Annotated[float, Field(gt=0, le=LARGEST)]
NonNegative = Annotated[float, Field(ge=0, le=LARGEST)]
Count = Annotated[int, Field(ge=1, le=int(LARGEST))]
Share = Annotated[float, Field(ge=0, le=1)]
FilePath = Annotated[Path, Field(strict=False)]
"""A path, which YAML has as text."""


class Section(BaseModel):
    """A part of the file: frozen, no key that it does not know, no text or truth for a number."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        str_min_length=1,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

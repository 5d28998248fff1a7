"""What every part of a run configuration is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
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

"""The settings that all meters have, and how they are checked."""

from __future__ import annotations

from typing import Annotated, Any, Self, TypeVar

from pydantic import Field, ValidationError, model_validator

from steppe.config.error_message import first_error
from steppe.config.section import LARGEST, Positive, Section
from steppe.errors import ConfigError

Watts = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]


class MeterSettings(Section):
    """What may be set of every meter."""

    period_s: Annotated[float, Field(ge=0.1, le=LARGEST)] = 1.0
    """Time between two readings, s."""
    stale_s: Positive = 30.0
    """Age at which the last reading counts as stale, s."""
    watts_per_unit: Watts = 1.0
    """Unit of the meter, W; a negative one turns its direction."""
    least_w: Watts | None = None
    """A lower reading is refused, W."""
    most_w: Watts | None = None
    """A higher reading is refused, W."""
    step_w: Positive | None = None
    """A reading that is higher than the last one by more than this is used when the next one
    confirms it, W. A fall is used at once."""
    frozen_s: Positive | None = None
    """A reading that has been exactly the same for this long is refused, s."""

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.watts_per_unit == 0:
            raise ValueError("watts_per_unit: asked for a number other than 0, found 0")
        if self.least_w is not None and self.most_w is not None and self.least_w >= self.most_w:
            raise ValueError(f"most_w: asked for more than {self.least_w:g}, found {self.most_w:g}")
        return self


_Settings = TypeVar("_Settings", bound=MeterSettings)


def settings_of(section: type[_Settings], given: dict[str, Any]) -> _Settings:
    """Return the settings of a meter.

    Raises:
        ConfigError: One is unknown, missing or out of range.
    """
    try:
        return section(**given)
    except ValidationError as error:
        raise ConfigError(first_error(error, section)) from error

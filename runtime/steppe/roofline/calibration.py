"""All that measurements taught the energy roofline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from steppe.errors import ConfigError
from steppe.roofline.coefficients import Coefficients
from steppe.roofline.gpu_spec import ClockCurve, GpuSpec
from steppe.roofline.residual_model import Residual


@dataclass(frozen=True, slots=True)
class Calibration:
    """Fitted numbers, and what they miss.

    Attributes:
        coefficients: By name, as `GpuSpec.coefficients` calls them.
        curve: How time and draw follow the clock.
        residuals: What the formula missed of each measured run.
    """

    coefficients: Mapping[str, Coefficients]
    curve: ClockCurve
    residuals: tuple[Residual, ...]

    def of(self, gpu: GpuSpec) -> Coefficients:
        """Return the coefficients that hold for a GPU.

        Raises:
            ConfigError: There are none of that name.
        """
        try:
            return self.coefficients[gpu.coefficients]
        except KeyError as error:
            known = ", ".join(sorted(self.coefficients))
            raise ConfigError(
                f"{gpu.name}: coefficients: asked for {gpu.coefficients}, found {known}"
            ) from error

    def with_residuals(self, more: tuple[Residual, ...]) -> Calibration:
        """Return a calibration that also knows these."""
        return Calibration(self.coefficients, self.curve, self.residuals + more)

from __future__ import annotations

from steppe.roofline.calibration import Calibration
from steppe.roofline.hardware import ClockCurve
from steppe.roofline.residual_model import Residual


def test_a_calibration_that_learns_more_forgets_nothing() -> None:
    old, new = Residual((0.0,), 0.1, -0.2), Residual((1.0,), 0.3, 0.4)
    calibration = Calibration({}, ClockCurve(0.7, 0.5, 0.3), (old,))
    assert calibration.with_residuals((new,)).residuals == (old, new)

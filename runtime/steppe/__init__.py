"""Serve language models on the power there is."""

from steppe.errors import SteppeError

__all__ = ["SteppeError"]

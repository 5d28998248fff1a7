"""The kernels run under Triton's interpreter, unless there is a GPU."""

from __future__ import annotations

import importlib

import pytest
import torch

# Triton's switch acts where a kernel is defined, so it is set only while they are imported. The
# first launch would import gluon, which must agree with it.
with pytest.MonkeyPatch.context() as patch:
    if not torch.cuda.is_available():
        patch.setenv("TRITON_INTERPRET", "1")
    importlib.import_module("triton.experimental.gluon")
    for name in ("matmul", "paged_decode", "spin", "stream_copy"):
        importlib.import_module(f"steppe_kernels.{name}")


@pytest.fixture
def rng() -> torch.Generator:
    """Return a fresh generator, so that no test sees the inputs of another."""
    generator = torch.Generator()
    generator.seed()
    return generator

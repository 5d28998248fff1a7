"""Whether Triton's interpreter runs the kernels on CPU tensors, instead of a GPU.

Triton decides it where a kernel is defined, from `TRITON_INTERPRET=1` in the environment; so
does this module, once. It must therefore be set before the first import of triton.
"""

from __future__ import annotations

import os

import torch

INTERPRETING = os.environ.get("TRITON_INTERPRET", "0") == "1"


def device() -> torch.device:
    """Return where kernels run here: the CPU under the interpreter, else the current GPU."""
    return torch.device("cpu" if INTERPRETING else "cuda")


def must_raise(dtype: torch.dtype) -> bool:
    """Return whether operands of `tl.dot` must be raised to float32 first.

    The interpreter of Triton 3.9 multiplies bfloat16 by its bit patterns. On a GPU the matrix
    units want bfloat16, and nothing is raised.
    """
    return INTERPRETING and dtype == torch.bfloat16

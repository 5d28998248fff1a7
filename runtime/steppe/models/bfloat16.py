"""Weights in bfloat16 as a safetensors file, with numpy alone (which has no bfloat16)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.uint16]
"""bfloat16 numbers as their 16 bits."""


def to_bfloat16(values: NDArray[np.float32]) -> Bits:
    """Round float32 to the nearest bfloat16, ties to even, as IEEE 754 and torch do.

    A bfloat16 is the upper half of a float32: adding just under half of the lower half's
    range, and one more when the upper half is odd, carries exactly when it must round up.
    Numbers beyond the largest bfloat16 become infinite; NaN stays NaN.
    """
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    with np.errstate(over="ignore"):  # only a NaN can wrap round, and it is replaced below
        rounded = (bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)
    quiet_nan = (bits >> np.uint32(16)) | np.uint32(0x40)
    return np.where(np.isnan(values), quiet_nan, rounded).astype(np.uint16)


def write_safetensors(path: Path, tensors: Mapping[str, Bits]) -> None:
    """Write tensors in the safetensors format: header length, JSON header, then the data.

    Written here because `safetensors.numpy` refuses bfloat16 and the raw interface of
    safetensors changed with release 0.8. Format: the README of huggingface/safetensors.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, tensor in tensors.items():
        end = offset + tensor.nbytes
        shape = list(tensor.shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data starts at a multiple of eight
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for tensor in tensors.values():
            tensor.astype("<u2", copy=False).tofile(file)

"""From the values of a GPU file to the GPU."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from steppe.config.mistake import unknown_key
from steppe.roofline.gpu_spec import GpuSpec

_FOR_PEOPLE = ("energy_source", "by_clock", "provenance")
"""Further keys of a file that `steppe bench probe` wrote."""
_TEXTS = ("name", "coefficients")
_RATE, _KNOB, _DRAW, _ENERGY = (1e6, 1e21), (1e-3, 1e6), (0.0, 1e6), (0.0, 1.0)
_RANGES = {
    "memory_bytes": _RATE,
    "bandwidth_bps": _RATE,
    "half_flops": _RATE,
    "fp8_flops": _RATE,
    "link_bps": _RATE,
    "power_limit_w": _KNOB,
    "lowest_mhz": _KNOB,
    "highest_mhz": _KNOB,
    "step_mhz": _KNOB,
    "bare_w": _DRAW,
    "context_w": _DRAW,
    "static_w": _DRAW,
    "joules_per_byte": _ENERGY,
    "joules_per_flop": _ENERGY,
}
"""Least and largest value of a key, where a GPU that has another cannot be."""
_WHOLE = ("lowest_mhz", "highest_mhz")


def gpu_spec_of(values: Mapping[Any, Any]) -> GpuSpec:
    """Return a GPU from the keys and values of its file.

    Raises:
        ValueError: A key is missing or unknown, or a value cannot be; the message names the key.
    """
    known = {field.name: field for field in fields(GpuSpec)}
    for key in values:
        if key not in known and key not in _FOR_PEOPLE:
            raise ValueError(unknown_key([], str(key), known))
    for name, field in known.items():
        if field.default is MISSING and name not in values:
            raise ValueError(f"{name}: missing")
    spec = GpuSpec(**{name: _found(name, values[name]) for name in known if name in values})
    if spec.lowest_mhz > spec.highest_mhz:
        raise ValueError(
            f"lowest_mhz: asked for at most highest_mhz {spec.highest_mhz}, found {spec.lowest_mhz}"
        )
    return spec


def _found(name: str, entry: Any) -> Any:
    """Return a value, which may stand beside its source, if it can be."""
    if isinstance(entry, Mapping):
        if "value" not in entry:
            raise ValueError(f"{name}.value: missing")
        entry = entry["value"]
    if name in _TEXTS:
        if not isinstance(entry, str) or not entry:
            raise ValueError(f"{name}: asked for a text, found {entry!r}")
        return entry
    kinds = (int,) if name in _WHOLE else (int, float)
    if type(entry) not in kinds or not -math.inf < entry < math.inf:
        kind = "whole" if name in _WHOLE else "finite"
        raise ValueError(f"{name}: asked for a {kind} number, found {entry!r}")
    if name == "link_bps" and entry == 0:
        return 0.0
    least, most = _RANGES[name]
    if not least <= entry <= most:
        raise ValueError(f"{name}: asked for a number from {least:g} to {most:g}, found {entry!r}")
    return entry

"""What can wait? Jobs of many rows, their store, and how they run when power is there."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from steppe.batch.answers import RowAnswer
    from steppe.batch.rows.options import RowOptions
    from steppe.run.batch_rows import run

__all__ = ["RowAnswer", "RowOptions", "run"]

# Modules of the public names that are loaded at first use: `import steppe.batch` stays light.
_MODULES = {
    "RowAnswer": "steppe.batch.answers",
    "RowOptions": "steppe.batch.rows.options",
    "run": "steppe.run.batch_rows",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'steppe.batch' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)

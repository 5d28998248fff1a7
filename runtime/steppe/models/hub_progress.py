"""How far a download from Hugging Face is, as lines of text."""

from __future__ import annotations

import importlib
import io
import time
from collections.abc import Callable
from typing import Any

LEAST_PAUSE_S = 0.5
"""Least time between two lines, s."""
_GIGA = 1e9


def progress_bar(name: str, progress: Callable[[str], None]) -> type[Any]:
    """Return a class of progress bars for `snapshot_download` that shows lines instead of bars.

    Args:
        name: What is downloaded.
        progress: Gets a line with the bytes so far and, as far as they are known, of all files.

    Raises:
        ImportError: tqdm, which huggingface_hub needs as well, is missing.
    """
    base: Any = importlib.import_module("tqdm.auto").tqdm

    class Lines(base):  # type: ignore[misc]
        """One bar; those that count files and not bytes show nothing."""

        def __init__(self, *args: Any, **settings: Any) -> None:
            settings.pop("name", None)
            self._next_s = 0.0
            super().__init__(*args, **{**settings, "file": io.StringIO(), "disable": False})

        def update(self, n: float | None = 1) -> bool | None:
            shown: bool | None = super().update(n)
            now_s = time.monotonic()
            if self.unit == "B" and self.n and now_s >= self._next_s:
                self._next_s = now_s + LEAST_PAUSE_S
                progress(_line(name, self.n, self.total))
            return shown

    return Lines


def _line(name: str, done: float, total: float | None) -> str:
    whole = f" of {total / _GIGA:.2f}" if total and total >= done else ""
    return f"downloading {name}: {done / _GIGA:.2f}{whole} GB"

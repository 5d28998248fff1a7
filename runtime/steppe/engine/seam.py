"""How an engine's process finds its control block and its step hook.

The engine may live in a child process that a library spawns, so what it needs travels as
one environment variable, set just before the spawn. (An engine argument would do, but it
would change the key of the compile cache with every run.)
"""

from __future__ import annotations

import importlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from steppe.engine.control_block import ControlBlock
from steppe.errors import EngineError

VARIABLE = "STEPPE_ENGINE_SEAM"
LAPSED_POLL_S = 0.02
"""Time between two looks at whether limits that have lapsed hold again, s."""


class StepHook(Protocol):
    """Called at every step; the emulated GPU couples its load and its pace here."""

    def begin(self, prefill_tokens: int, decode_sequences: int, context_tokens: int) -> None:
        """A step with this work starts now; the context is summed over the sequences."""
        ...

    def end(self) -> None:
        """The step's result is ready; may wait until the device would have finished."""
        ...

    def idle(self) -> None:
        """Nothing is left to run."""
        ...


class NoHook:
    """The hook of a real GPU, which has its own load and pace."""

    def begin(self, prefill_tokens: int, decode_sequences: int, context_tokens: int) -> None:
        """Do nothing."""

    def end(self) -> None:
        """Do nothing."""

    def idle(self) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True)
class Seam:
    """Settings of an engine process beside its own arguments.

    Attributes:
        control_block: Path of the shared file.
        hook: `module:function` that makes the step hook; empty for none.
        hook_arguments: Keyword arguments of that function, plain JSON values.
        watch_parent: End the process soon after the one that started it.
    """

    control_block: str
    hook: str = ""
    hook_arguments: dict[str, Any] = field(default_factory=dict)
    watch_parent: bool = True

    def publish(self) -> None:
        """Pass this seam to the processes that this one starts from now on."""
        os.environ[VARIABLE] = json.dumps(asdict(self))

    @property
    def path(self) -> Path:
        """Path of the control block."""
        return Path(self.control_block)

    def open_block(self) -> ControlBlock:
        """Map the control block, and note in it that this process steps."""
        block = ControlBlock(self.path)
        block.note_engine(os.getpid())
        return block

    def make_hook(self) -> StepHook:
        """Return the step hook.

        Raises:
            EngineError: There is no such function.
        """
        if not self.hook:
            return NoHook()
        module, _, function = self.hook.partition(":")
        try:
            make = getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError, ValueError) as error:
            raise EngineError(f"asked for step hook {self.hook!r}, found none: {error}") from error
        hook: StepHook = make(**self.hook_arguments)
        return hook


def read_seam() -> Seam | None:
    """Return the seam that the parent process left; None when there is none."""
    text = os.environ.get(VARIABLE)
    return Seam(**json.loads(text)) if text else None

"""A transformers engine in a process of its own, for test_transformers_engine.

    python transformers_server.py SETTINGS SEAM      both as JSON

Prints its port, then takes the words `freeze` and `thaw` from its input and answers `done`; ends
with its input.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from steppe.engine.control_block import ControlBlock
from steppe.engine.seam import Seam
from steppe.engine.transformers_engine import start_transformers
from steppe.engine.transformers_settings import TransformersSettings


class StopsAt:
    """A step hook that fails at a step."""

    def __init__(self, step: int) -> None:
        self.left = step

    def begin(self, prefill_tokens: int, decode_sequences: int, context_tokens: int) -> None:
        self.left -= 1

    def end(self) -> None:
        if self.left <= 0:
            raise OSError("the emulated GPU is gone")

    def idle(self) -> None:
        pass


class Looks:
    """A step hook that notes the telemetry when a step begins."""

    def __init__(self, block: str, notes: str) -> None:
        self.block, self.notes = ControlBlock(Path(block)), Path(notes)

    def begin(self, prefill_tokens: int, decode_sequences: int, context_tokens: int) -> None:
        telemetry = self.block.read_telemetry()
        with self.notes.open("a") as file:
            file.write(f"{telemetry.steps} {telemetry.running}\n")

    def end(self) -> None:
        pass

    def idle(self) -> None:
        pass


def say(words: object) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


async def main() -> None:
    settings = TransformersSettings(**json.loads(sys.argv[1]))
    engine = await start_transformers(settings, Seam(**json.loads(sys.argv[2])), "127.0.0.1")
    say(engine.port)
    while line := await asyncio.to_thread(sys.stdin.readline):
        await {"freeze": engine.freeze, "thaw": engine.thaw}[line.strip()]()
        say("done")
    await engine.stop()


if __name__ == "__main__":
    asyncio.run(main())

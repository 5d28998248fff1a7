"""Show what a start does, and how long it will take by earlier starts on this machine."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table

from steppe.outputs import cache_folder
from steppe.report.quantities import span

BAR_WIDTH = 28
REFRESHES_PER_S = 8
NOTE_PAUSE_S = 5.0
"""Least time between two lines about how far a stage is, s."""
MOST_KINDS = 20
"""Kinds of start whose times are kept."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StartTimes:
    """How long the stages of earlier starts took, in a JSON file.

    Attributes:
        path: The file; need not exist.
    """

    path: Path

    def read(self, kind: str) -> dict[str, float]:
        """Return the seconds of each stage of the last start of this kind, in their order."""
        return self._all().get(kind, {})

    def write(self, kind: str, stages_s: Mapping[str, float]) -> None:
        """Keep the stages of a start; a file that cannot be written is left as it is."""
        draft = self.path.with_suffix(".draft")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            others = {name: times for name, times in self._all().items() if name != kind}
            newest = [*others.items(), (kind, dict(stages_s))][-MOST_KINDS:]
            draft.write_text(json.dumps(dict(newest), indent=1))
            draft.replace(self.path)
        except OSError as error:
            _log.info("%s: cannot be written: %s", self.path, error.strerror)

    def _all(self) -> dict[str, dict[str, float]]:
        try:
            found = json.loads(self.path.read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def start_times() -> StartTimes:
    """Return the times of this user's earlier starts."""
    return StartTimes(cache_folder() / "start_times.json")


@dataclass
class StartProgress:
    """The stages of a start, each begun by a line that names it.

    On a terminal it is a bar with the stage, the time so far and the time left; elsewhere each
    stage is one line.

    Attributes:
        console: Where to show it.
        kind: What is started; starts of one kind take about as long.
        times: Times of earlier starts.
        now_s: Returns the time, s.
    """

    console: Console
    kind: str
    times: StartTimes
    now_s: Callable[[], float] = time.monotonic
    _stages_s: dict[str, float] = field(default_factory=dict, init=False)
    _stage: str | None = field(default=None, init=False)
    _stage_began_s: float = field(default=0.0, init=False)
    _began_s: float = field(default=0.0, init=False)
    _detail: str = field(default="", init=False)
    _next_note_s: float = field(default=0.0, init=False)
    _known_s: dict[str, float] = field(default_factory=dict, init=False)
    _spinner: Spinner = field(default_factory=lambda: Spinner("dots"), init=False)

    @contextmanager
    def shown(self) -> Generator[None]:
        """Show the stages that begin inside the block; keep their times if it succeeds."""
        self._began_s = self.now_s()
        self._known_s = self.times.read(self.kind)
        if self.console.is_terminal:
            with Live(
                self, console=self.console, refresh_per_second=REFRESHES_PER_S, transient=True
            ):
                yield
        else:
            yield
        self._end_stage()
        self.times.write(self.kind, self._stages_s)
        self.console.print(f"[dim]started in {span(self.now_s() - self._began_s)}[/dim]")

    def begin(self, stage: str) -> None:
        """Begin a stage; ends the one before."""
        self._end_stage()
        self._stage, self._stage_began_s, self._detail = stage, self.now_s(), ""
        self._next_note_s = self.now_s() + NOTE_PAUSE_S
        if not self.console.is_terminal:
            left_s = self.left_s
            eta = "" if left_s is None else f" (about {span(left_s)} left)"
            self.console.print(f"{stage}{eta}", soft_wrap=True, highlight=False)

    def note(self, detail: str) -> None:
        """Show how far the stage is; not on a terminal, a line per `NOTE_PAUSE_S` at most."""
        if detail == self._detail:
            return
        self._detail = detail
        if detail and not self.console.is_terminal and self.now_s() >= self._next_note_s:
            self._next_note_s = self.now_s() + NOTE_PAUSE_S
            self.console.print(f"  {detail}", soft_wrap=True, markup=False, highlight=False)

    @property
    def left_s(self) -> float | None:
        """Time left by the last start of this kind, s; None if the stage is new in it."""
        if self._stage not in self._known_s:
            return None
        names = list(self._known_s)
        later_s = sum(self._known_s[name] for name in names[names.index(self._stage) + 1 :])
        in_stage_s = self.now_s() - self._stage_began_s
        return max(0.0, self._known_s[self._stage] - in_stage_s) + later_s

    def _end_stage(self) -> None:
        if self._stage is not None:
            self._stages_s[self._stage] = round(self.now_s() - self._stage_began_s, 2)
            self._stage = None

    def __rich__(self) -> Table:
        """Return one line: stage and how far it is, bar, time so far, time left."""
        elapsed_s, left_s = self.now_s() - self._began_s, self.left_s
        total_s = None if left_s is None else elapsed_s + left_s
        bar = ProgressBar(total_s, elapsed_s, width=BAR_WIDTH, pulse=total_s is None)
        left = "" if left_s is None else f", about {span(left_s)} left"
        row = Table.grid(padding=(0, 1))
        stage = self._stage or "starting"
        shown = f"{stage} ({self._detail})" if self._detail else stage
        row.add_row(self._spinner, shown, bar, f"{span(elapsed_s)}{left}")
        return row

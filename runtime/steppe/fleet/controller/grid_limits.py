"""The grid's part of the controller: the limits are kept here, and join the power budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from steppe.config import GridSection
from steppe.errors import UsageError
from steppe.grid.controller.site_grid import SiteGrid
from steppe.grid.limits.limits import Limits
from steppe.grid.limits.signal import LimitSignal
from steppe.grid.limits.steady_clock import since_boot_s
from steppe.grid.offers.sources import Source
from steppe.grid.service.links import LIMITS_FILE, links_of
from steppe.grid.service.seam import Change, FleetAwayError, GridView
from steppe.power.budget import Budget, PowerBudget
from steppe.report.records import GridTick
from steppe.services.folder_lock import FolderLock

LOCK_FILE = "limits.lock"
"""What the controller locks in the folder of the grid, beside the grid service."""
LOCK_WAIT_S = 30.0
"""Longest wait for the controller before this one, which is ending, s."""
JUDGE_S = 5.0
"""Time between two looks at whether the site can comply, s."""


class GridLimits:
    """What a controller holds of the grid; nothing in a run without one."""

    def __init__(
        self, section: GridSection | None, budget: PowerBudget, present_s: Callable[[], float]
    ) -> None:
        """Go on from the limits that were kept, and let them apply to the budget.

        Args:
            section: The grid of the run; None without one.
            budget: The power budget.
            present_s: Reads the clock of the run, s.

        Raises:
            UsageError: Another run uses the folder, or it cannot be written.
        """
        self._site: SiteGrid | None = None
        self._lock: FolderLock | None = None
        self._budget, self._present_s = budget, present_s
        self._judged_s: float | None = None
        self._has_begun = False
        if section is None:
            return
        if section.folder is None:
            raise UsageError("grid.folder: asked for a folder, or for a record, found neither")
        self._lock = FolderLock(section.folder, LOCK_WAIT_S, "grid.folder", LOCK_FILE)
        limits = Limits(section.folder / LIMITS_FILE, links_of(section))
        budget.join(LimitSignal(limits, present_s))
        # Numbers of ticks rise with the time since the machine started, also over a restart.
        self._site = SiteGrid(limits, section.baseline_s, after=int(1000 * since_boot_s()))

    def begin(self, energy_source: str, gpu_draw_w: float) -> None:
        """Begin the first window.

        Args:
            energy_source: Where the figures of the draw come from.
            gpu_draw_w: Draw of the GPUs now, W.
        """
        self._has_begun = True
        if self._site is not None:
            self._site.energy_source = energy_source
            self._site.begin(self._budget.site_draw_w(gpu_draw_w))

    def take(self, changes: Sequence[Change]) -> list[str]:
        """Make changes, see `SiteGrid.take`.

        Raises:
            FleetAwayError: The run has not begun: ask again later.
            UsageError: The run has no grid.
        """
        return self._begun().take(changes)

    def view(self, after: int) -> GridView:
        """Return what is known now, see `SiteGrid.view`.

        Raises:
            FleetAwayError: The run has not begun: ask again later.
            UsageError: The run has no grid.
        """
        return self._begun().view(after)

    def judge(self, sources: Callable[[], tuple[Source, ...]]) -> None:
        """Judge every few seconds whether the site can comply.

        Args:
            sources: Returns where its flexibility comes from.
        """
        now_s = self._present_s()
        if self._site is None or (self._judged_s is not None and now_s < self._judged_s + JUDGE_S):
            return
        self._judged_s = now_s
        self._site.judge(sources())

    def tick(self, budget: Budget, span_s: float) -> GridTick | None:
        """End a window, see `SiteGrid.tick`."""
        return None if self._site is None else self._site.tick(budget, span_s)

    def status(self) -> dict[str, Any] | None:
        """Return what the status call of the gateway says; None without a grid."""
        return None if self._site is None else self._site.status()

    def lost_links(self) -> dict[str, bool]:
        """Return whether each link is lost, by its name; empty without a grid."""
        return {} if self._site is None else self._site.lost_links()

    def release(self) -> None:
        """Give the folder back, as the end of the process does."""
        if self._lock is not None:
            self._lock.release()

    def _begun(self) -> SiteGrid:
        if self._site is None:
            raise UsageError("grid: asked for limits, found a run without the section grid")
        if not self._has_begun:
            raise FleetAwayError("grid: asked for limits, found a controller that has not begun")
        return self._site

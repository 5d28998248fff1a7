"""The draw of the site at its connection point, beside the draw that Steppe computes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from steppe.config.section import LARGEST
from steppe.config.site_meter import SiteMeterSection
from steppe.config.user_class import make_object
from steppe.errors import ConfigError
from steppe.power.signal import CheckedSignal, Fresh, Missing, Signal, Stale

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MeteredDraw:
    """What the meter of the site gives, beside what Steppe computes.

    Attributes:
        watts: Draw at the connection point, W; None while the meter gives none.
        age_s: Age of that, s; None if there is none yet.
        computed_w: Draw of the site as Steppe computes it, W.
        missing: Why there is none, in one line; empty if there is one.
    """

    watts: float | None
    age_s: float | None
    computed_w: float
    missing: str = ""

    @property
    def difference(self) -> float | None:
        """Computed draw less the metered one, share of the higher; None without both."""
        if self.watts is None or max(self.watts, self.computed_w) <= 0:
            return None
        return (self.computed_w - self.watts) / max(self.watts, self.computed_w)


class SiteMeter:
    """The meter at the connection point; it never blocks."""

    def __init__(
        self, section: SiteMeterSection, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Make the signal that the section names.

        Raises:
            ConfigError: The class cannot be made, or has no method `at`.
        """
        key = "grid.site_meter"
        signal = make_object(section.signal, section.settings, key)
        if not isinstance(signal, Signal):
            raise ConfigError(f"{key}: asked for a method `at` of {section.signal}, found none")
        self._signal, self._made = CheckedSignal(signal, section.signal), signal
        self._section, self._clock, self._began_s = section, clock, clock()
        self._differs_since_s: float | None = None
        self._warned = False

    def beside(self, computed_w: float) -> MeteredDraw:
        """Return the metered draw beside the computed one; log a difference that lasts, once.

        Args:
            computed_w: Draw of the site as Steppe computes it, W.
        """
        now_s = self._clock()
        self._signal.keep(now_s - self._began_s)
        match self._signal.at(now_s - self._began_s, LARGEST):
            case Fresh(watts, age_s):
                draw = MeteredDraw(watts, age_s, computed_w)
            case Stale(age_s):
                draw = MeteredDraw(
                    None, age_s, computed_w, f"its last reading is {age_s:.0f} s old"
                )
            case Missing(reason):
                draw = MeteredDraw(None, None, computed_w, reason)
        self._watch(draw, now_s)
        return draw

    def stop(self) -> None:
        """End the thread of a meter that has one."""
        stop = getattr(self._made, "stop", None)
        if callable(stop):
            stop()

    def _watch(self, draw: MeteredDraw, now_s: float) -> None:
        share = draw.difference
        if share is None or abs(share) <= self._section.difference:
            self._differs_since_s = None
            return
        if self._differs_since_s is None:
            self._differs_since_s = now_s
        if now_s - self._differs_since_s < self._section.lasts_s or self._warned:
            return
        self._warned = True
        _log.warning(
            "the meter of the site reads %.0f W, and the draw that Steppe computes is %.0f W, "
            "%+.1f %%: check site.pue, site.overhead_w and site.node_rest_w",
            draw.watts,
            draw.computed_w,
            100 * share,
        )

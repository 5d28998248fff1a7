"""One simulated run of several sites: fleets, beats, plans and requests in one virtual time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from steppe.report.records import RunTotals
from steppe.report.sites_records import SiteCall
from steppe.sim.events import EventQueue
from steppe.sim.run import Joined, RunWriter
from steppe.sim.sites.faults import Faults, SiteDown
from steppe.sim.sites.settings import SitesSettings
from steppe.sim.sites.site import SimulatedSite
from steppe.sim.sites.traffic import Traffic
from steppe.sites.beats.message import Beat
from steppe.sites.view import SiteView

PHASE_S = 0.5
"""Heartbeats come so long after the ticks of the controllers, s."""


class SitesRun:
    """All sites.

    Attributes:
        sites: The sites by name.
        queue: Virtual time.
    """

    def __init__(
        self,
        settings: SitesSettings,
        writers: Mapping[str, RunWriter],
        note: Callable[[SiteCall], None],
    ) -> None:
        """Expect the first events.

        Args:
            settings: All sites.
            writers: Takes the ticks of each site, and the requests that its fleet had.
            note: Takes each request of a client that has ended.
        """
        self.queue, self._settings = EventQueue(), settings
        self._faults = Faults(settings.faults)
        self._traffic = Traffic(self.queue, self._faults, settings.rtt_s, settings.max_wait_s, note)
        self.sites = self._traffic.sites
        for each in settings.sites:
            joined = Joined(
                self.queue,
                self._traffic.next_number,
                partial(self._traffic.offer, each.name),
                partial(self._traffic.end, each.name),
            )
            site = SimulatedSite(each, settings, writers[each.name], joined)
            site.fleet.row_ended = self._traffic.row_ended
            self.sites[each.name] = site
        self._frozen: dict[str, SiteView] = {}
        self._expect()

    def run(self, show: Callable[[float], None] = lambda _: None) -> dict[str, RunTotals]:
        """Run to the end, and return the totals of each site.

        Args:
            show: Takes the time in the run, s, now and then.
        """
        end_s, parts = self._settings.duration_s, 200
        for part in range(1, parts + 1):
            self.queue.run_until(end_s * part / parts)
            show(self.queue.now_s)
        for site in self.sites.values():
            site.run.close()
        self._traffic.close()
        return {name: site.run.totals() for name, site in self.sites.items()}

    def _expect(self) -> None:
        self.queue.at(PHASE_S, self._beat, 1)
        for down in self._faults.downs():
            self.queue.at(down.span.from_s, self._go_down, down)
            self.queue.at(down.span.to_s, self._come_up, down)
        for cut in self._faults.cuts():
            self.queue.at(cut.span.from_s, self._cut, cut.pair)

    def _beat(self, now_s: float, seq: int) -> None:
        """Let each site plan, and show itself to the others."""
        self.queue.at(now_s + self._settings.beat_s, self._beat, seq + 1)
        for site in self.sites.values():
            site.advance(self._settings.beat_s)
            view = None if site.is_down else site.view(seq, now_s)
            if view is None:
                continue
            site.router.advance(view, now_s)
            self._send_beats(now_s, site, self._shown(now_s, view))
            self._traffic.push_rows(site)

    def _shown(self, now_s: float, view: SiteView) -> SiteView:
        """Return what a site shows to others, which may be false or old."""
        if self._faults.freezes(view.site, now_s):
            view = replace(self._frozen.get(view.site, view), seq=view.seq)
        self._frozen[view.site] = view
        return self._faults.shown(view, now_s)

    def _send_beats(self, now_s: float, site: SimulatedSite, view: SiteView) -> None:
        for other, beat in site.router.beats(view, now_s).items():
            way = site.name, other
            if self._faults.beat_passes(*way, now_s):
                at_s = now_s + self._settings.rtt_s[way] / 2
                self.queue.at(at_s, self._hear, (other, beat))

    def _hear(self, now_s: float, subject: tuple[str, Beat]) -> None:
        name, beat = subject
        site = self.sites[name]
        if not site.is_down:
            site.router.hear(beat, now_s)

    def _go_down(self, now_s: float, down: SiteDown) -> None:
        self._traffic.lose_site(down.site)

    def _come_up(self, now_s: float, down: SiteDown) -> None:
        if not self._faults.is_down(down.site, now_s):
            self.sites[down.site].is_down = False
            self.sites[down.site].run.resume()

    def _cut(self, now_s: float, pair: tuple[str, str]) -> None:
        self._traffic.cut(*pair)

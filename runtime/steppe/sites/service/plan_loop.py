"""Plans in a thread when it is due, and gives the leases and grants that hold now."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace

from steppe.errors import SteppeError
from steppe.services.threads import in_thread
from steppe.sites.grants import grants_of
from steppe.sites.plan.inputs import PlanInputs
from steppe.sites.quotas import QuotaLease
from steppe.sites.service.planning import Planning
from steppe.sites.service.site import LocalSite
from steppe.sites.view import SiteView

_log = logging.getLogger(__name__)


class PlanLoop:
    """The plan of this site, in the service.

    Attributes:
        planning: When to plan, and what holds.
        failures: Plans that could not be made.
        seconds: How long the last plan took, s.
    """

    def __init__(self, site: LocalSite) -> None:
        """Plan for this site."""
        section = site.settings.section
        self._site, self._section = site, section
        self.planning = Planning(section.name, section.plan.period_s, section.plan.lease_s)
        self.failures, self.seconds = 0, 0.0
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to plan."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Plan no more; a plan that is being made ends first."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._task = None

    def leases(self) -> tuple[QuotaLease, ...]:
        """Return what this site may send now."""
        now_s, peers = self._site.clocks.monotonic_s(), self._site.exchange.peers
        live = [view.site for view in self._live()]
        last = {name: peers.last(name) for name in live}
        models = self._site.settings.models
        grants = {
            name: {model: tps for model, tps in beat.grants.items() if model in models}
            for name, beat in last.items()
            if beat is not None
        }
        return self.planning.leases(live, grants, now_s)

    def _live(self) -> list[SiteView]:
        site, now_s = self._site, self._site.clocks.monotonic_s()
        barred = site.barred()
        return [view for view in site.exchange.live(now_s) if view.site not in barred]

    async def _run(self) -> None:
        while True:
            here, live = self._site.own.view, self._live()
            self._site.grants.clear()
            if here is not None:
                self._site.grants.update(grants_of(here, live))
                await self._plan_if_due(here, live)
            await asyncio.sleep(self._section.period_s)

    async def _plan_if_due(self, here: SiteView, live: list[SiteView]) -> None:
        now_s, peers = self._site.clocks.monotonic_s(), self._site.exchange.peers
        stated = {peer.name: peer.rtt_s for peer in self._section.peers}
        trips = {view.site: peers.rtt_s(view.site) for view in live}
        inputs = PlanInputs(
            replace(here, received_s=now_s),
            tuple(live),
            {name: stated[name] if rtt_s is None else rtt_s for name, rtt_s in trips.items()},
            {name: model.ttft_s for name, model in self._site.settings.models.items()},
            self._section.plan.step_s,
        )
        if not self.planning.is_due(inputs, now_s):
            return
        last = self.planning.begin(inputs, now_s)
        began_s = time.perf_counter()
        try:
            plan = await in_thread(inputs.plan, last)
        except (SteppeError, ArithmeticError, LookupError, ValueError) as error:  # of claims
            self.failures += 1
            _log.warning("no plan of the sites; the last one holds for a while: %s", error)
            return
        self.seconds = time.perf_counter() - began_s
        self.planning.take(plan, now_s)

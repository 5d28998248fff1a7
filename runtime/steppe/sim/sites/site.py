"""One site of several in virtual time: its fleet, what it shows, and its router."""

from __future__ import annotations

import random

from steppe.control.admission import PRIORITIES
from steppe.load.arrivals import Arrival
from steppe.sim.batch_jobs import TENANT
from steppe.sim.fleet import SimulatedFleet
from steppe.sim.request import Request
from steppe.sim.run import FleetRun, Joined, RunWriter
from steppe.sim.sites.expected import ArrivalRates, FlowKind
from steppe.sim.sites.router import SiteRouter
from steppe.sim.sites.settings import SiteSettings, SitesSettings
from steppe.sim.sites.shows import Shows
from steppe.sites.view import Demand, RequestView, SiteView

BURST_S = 10.0
"""Rows that leases allow and that are not sent are kept for so long, s."""
JOB_S = 30.0
"""What is left of batch jobs counts as the demand of so long, s."""
MEMORY = 0.02
"""Weight of the last answer in the mean length of answers."""


class SimulatedSite:
    """A site.

    Attributes:
        settings: What it is.
        run: Its fleet and the events from outside it.
        router: Its choices.
        is_down: Whether it is gone.
    """

    def __init__(
        self,
        settings: SiteSettings,
        of_all: SitesSettings,
        writer: RunWriter,
        joined: Joined,
    ) -> None:
        """Begin without a heartbeat.

        Args:
            settings: What it is.
            of_all: All sites.
            writer: Takes its ticks and the requests that its fleet had.
            joined: What joins it to the others.
        """
        self.settings = settings
        self.run = FleetRun(settings.scenario, settings.control_s, writer, joined)
        assert isinstance(self.run.fleet, SimulatedFleet), "a site of several has one model"
        self.fleet: SimulatedFleet = self.run.fleet
        rng = random.Random(f"{of_all.seed} {settings.name}")
        self.router = SiteRouter(settings, of_all, rng)
        self.is_down = False
        self._shows, self._rates = Shows(settings, of_all.plan.step_s), ArrivalRates()
        self._answer_tokens, self._rows_tokens = settings.output_tokens, 0.0

    @property
    def name(self) -> str:
        """Its name."""
        return self.settings.name

    def asked_of(self, arrival: Arrival) -> RequestView:
        """Return what its gateway knows of a request, and count it as demand."""
        settings, terms = self.settings, self.settings.terms_of(arrival.tenant)
        priority = PRIORITIES[arrival.rank]
        is_row = arrival.tenant == TENANT
        tokens = max(1, round(self._answer_tokens))
        if not is_row:
            self._rates.add(FlowKind(priority, terms), tokens)
        conversation = f"{self.name}/{arrival.conversation}" if arrival.conversation else None
        return RequestView(
            model=settings.model,
            revision=None,
            priority=priority,
            regions=terms.regions,
            data_class=terms.data_class,
            prompt_tokens=arrival.prompt_tokens,
            output_tokens=tokens,
            conversation=conversation,
            ttft_s=settings.slo.ttft_s,
            tpot_s=settings.slo.tpot_s,
        )

    def note_answer(self, tokens: int) -> None:
        """Note the length of an answer."""
        self._answer_tokens += MEMORY * (tokens - self._answer_tokens)

    def note_end(self, request: Request) -> None:
        """Note the times of a request that its fleet had."""
        self._shows.note(request)

    def view(self, seq: int, now_s: float) -> SiteView | None:
        """Return what it shows of itself; None before the first tick of its controller."""
        observed = self.fleet.observation
        if observed is None:
            return None
        return self._shows.view(seq, now_s, observed, self.fleet.budget, self._demand())

    def advance(self, passed_s: float) -> None:
        """Let time pass, s."""
        self._rates.advance(passed_s)
        self._rows_tokens += self.router.deferrable_tps * passed_s
        self._rows_tokens = min(self._rows_tokens, self.router.deferrable_tps * BURST_S)

    def rows_to_send(self) -> int:
        """Return how many rows of batch jobs leases let it send to other sites now."""
        rows = int(self._rows_tokens / max(1.0, self._answer_tokens))
        waiting = sum(len(each.lengths) for each in self.run.jobs.progress.values())
        return min(rows, waiting)

    def note_row_sent(self) -> None:
        """Note that a row was sent to another site."""
        self._rows_tokens -= self._answer_tokens

    def _demand(self) -> tuple[Demand, ...]:
        """Return what its own clients ask for; batch jobs ask for all that they have left."""
        rates = self._rates.tps()
        backlog = sum(work.output_tokens for work in self.run.jobs.work(self.run.queue.now_s))
        if backlog:
            kind = FlowKind("deferrable", self.settings.terms_of(TENANT))
            rates[kind] = rates.get(kind, 0.0) + backlog / JOB_S
        return tuple(
            Demand(
                self.settings.model, kind.priority, kind.terms.regions, kind.terms.data_class, tps
            )
            for kind, tps in rates.items()
        )

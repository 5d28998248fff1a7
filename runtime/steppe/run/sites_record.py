"""The run of a simulation of several sites, and its record folder."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from steppe.config.several_sites import RoutingName
from steppe.errors import UsageError
from steppe.report.record_folder import (
    FIGURE_FILE,
    REQUESTS_FILE,
    SUMMARY_FILE,
    JsonLines,
    Recorder,
    refuse_full_folder,
    summary_text,
)
from steppe.report.records import RequestRecord, RunTotals, TickRecord
from steppe.report.several_sites_figure import SitesShown, several_sites_figure
from steppe.report.sites_energy import SiteEnergy, SiteEnergyTerms
from steppe.report.sites_records import SiteCall
from steppe.report.sites_summary import SitesSummary, SitesTotals
from steppe.run.several_sites import SitesSimulation, prepare_sites
from steppe.run.signals import exiting_on_signals
from steppe.run.warnings import say_on_stderr
from steppe.sim.request import ENERGY_SOURCE
from steppe.sim.run import RunWriter
from steppe.sim.sites.expected import own_w
from steppe.sim.sites.run import SitesRun
from steppe.sim.sites.settings import SECONDS_PER_HOUR, SiteSettings

Show = Callable[[float], None]
Note = Callable[[SiteCall], None]


class SiteWriter:
    """Takes the records of one site, and adds up its energy.

    Attributes:
        energy: The energy so far.
    """

    def __init__(self, settings: SiteSettings, duration_s: float, writer: RunWriter | None) -> None:
        """Begin without records; `writer` takes them, too."""
        self.energy = SiteEnergy(
            SiteEnergyTerms(
                partial(_own_w, settings),
                settings.day.hour_at,
                settings.grid.price_micro,
                settings.grid.gco2,
            ),
            duration_s,
        )
        self._writer = writer

    def tick(self, record: TickRecord) -> None:
        """Take a tick."""
        self.energy.add(record)
        if self._writer is not None:
            self._writer.tick(record)

    def request(self, record: RequestRecord) -> None:
        """Take a request that the fleet had."""
        if self._writer is not None:
            self._writer.request(record)


class RunningSites:
    """One run, with the sums over it.

    Attributes:
        totals: What sites and clients did so far.
        of_sites: The totals of the run of each site, once it has ended.
    """

    def __init__(
        self, simulation: SitesSimulation, writers: Mapping[str, RunWriter], note: Note
    ) -> None:
        """Make all parts.

        Args:
            simulation: What is simulated.
            writers: Takes the records of each site; those of a site without one are dropped.
            note: Takes each request of a client.
        """
        self._simulation, settings = simulation, simulation.settings
        each = {
            site.name: SiteWriter(site, settings.duration_s, writers.get(site.name))
            for site in settings.sites
        }
        self.totals = SitesTotals(
            {name: writer.energy for name, writer in each.items()},
            {site.name: site.slo for site in settings.sites},
        )
        self.of_sites: dict[str, RunTotals] = {}
        self._note, self._run = note, SitesRun(settings, each, self._add)

    def run(self, show: Show = lambda _: None) -> SitesSummary:
        """Run to the end; `show` takes the time in the run, s, now and then."""
        versions = {"steppe": importlib.metadata.version("steppe")}
        found = self._run.run(show)
        self.of_sites = {name: replace(t, versions=versions) for name, t in found.items()}
        settings, total = self._simulation.settings, self.totals.total()
        first = settings.sites[0]
        return SitesSummary(
            routing=self._simulation.config.routing,
            duration_s=settings.duration_s,
            requests=total["requests"],
            currency=first.grid.currency,
            energy_source=ENERGY_SOURCE,
            boundary="site",
            sites=self.totals.sites(),
            total=total,
            versions=versions,
        )

    def _add(self, call: SiteCall) -> None:
        self.totals.add(call)
        self._note(call)


def simulate_sites(
    path: Path | str,
    *,
    duration_s: float | None = None,
    routing: RoutingName | None = None,
    seed: int | None = None,
    note: Note = lambda _: None,
) -> SitesSummary:
    """Simulate several sites, and return what they achieved; every joule of it is modelled.

    The same file and seed give the same result.

    Args:
        path: The file, such as `configs/east_west.yaml`.
        duration_s: Length of the run, s; that of the first site by default.
        routing: How sites are chosen; `routing` of the file by default.
        seed: Seed of all chance; those of the file by default.
        note: Takes each request of a client.

    Raises:
        ConfigError: The file is not valid, or a site cannot be simulated.
    """
    simulation = prepare_sites(
        Path(path), lambda _: None, duration_s=duration_s, routing=routing, seed=seed
    )
    return RunningSites(simulation, {}, note).run()


def record_sites(simulation: SitesSimulation, folder: Path, show: Show) -> SitesSummary:
    """Run a simulation and write its record folder; leave none if the run breaks off.

    Each site has a folder of its own, as that of a run of one site. Beside them are the requests as
    the clients saw them, the summary and the figure of all sites.

    Args:
        simulation: The simulation.
        folder: A new or empty folder.
        show: Takes the time in the run, s, now and then.

    Raises:
        UsageError: The folder holds something, or cannot be written.
    """
    refuse_full_folder(folder)
    with _whole_or_none(folder), ExitStack() as files:
        recorders = {
            name: files.enter_context(Recorder(folder / name)) for name in simulation.sites
        }
        calls = _new_lines(folder / REQUESTS_FILE)
        running = RunningSites(simulation, recorders, calls.write)
        summary = running.run(show)
        for name, each in simulation.sites.items():
            each.write_frontiers(recorders[name].add_file)
            recorders[name].finish(running.of_sites[name], each.slo)
        calls.close()
        (folder / SUMMARY_FILE).write_text(summary_text(summary))
        several_sites_figure(_shown(simulation, running, summary), folder / FIGURE_FILE)
    return summary


def _shown(simulation: SitesSimulation, running: RunningSites, summary: SitesSummary) -> SitesShown:
    first, total = simulation.settings.sites[0], summary["total"]
    green, moved = total["green_share"] or 0.0, total["moved_share"] or 0.0
    note = (
        f"own wind and sun give {100 * green:.1f} % of the energy, idle power included; "
        f"{100 * moved:.1f} % of the requests are served elsewhere; energy modelled"
    )
    return SitesShown(
        title=f"{len(simulation.sites)} sites, routing {summary['routing']}",
        note=note,
        begin_hour=first.day.begin_hour,
        hours=first.day.trace_s(summary["duration_s"]) / SECONDS_PER_HOUR,
        sites={name: energy.series for name, energy in running.totals.energies.items()},
    )


def _new_lines(path: Path) -> JsonLines:
    try:
        return JsonLines(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot record here: {error.strerror}") from error


@contextmanager
def _whole_or_none(folder: Path) -> Generator[None]:
    """Delete a partial record, because the next run would refuse the folder."""
    existed = folder.exists()
    with exiting_on_signals(), ExitStack() as undo:
        undo.callback(_delete, folder, existed)
        try:
            yield
        except (KeyboardInterrupt, SystemExit):
            say_on_stderr(f"stopped; the half record in {folder} is deleted")
            raise
        undo.pop_all()


def _delete(folder: Path, existed: bool) -> None:
    for part in folder.iterdir():
        if part.is_dir():
            shutil.rmtree(part)
        else:
            part.unlink()
    if not existed:
        folder.rmdir()


def _own_w(settings: SiteSettings, now_s: float) -> float:
    return sum(own_w(settings.scenario.budget, now_s))

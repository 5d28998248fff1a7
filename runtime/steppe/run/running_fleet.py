"""The fleet of a run: started, or taken over, and ended with everything that it made."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from steppe.config import EmulatedSection, RunConfig
from steppe.emulator.environment import activate_section, remove_state
from steppe.fleet.cluster import LOCAL
from steppe.fleet.driver.driver import FleetDriver
from steppe.fleet.driver.new_actors import ActorLifetime
from steppe.fleet.stale_runs import gpus_file, remove_stale_runs, state_folder
from steppe.run.check_inputs import check_inputs
from steppe.run.cleanup import Cleanup, CleanupPipe, remove_files
from steppe.run.doctor.examine import refuse_unfit
from steppe.run.run_state import RunState
from steppe.run.service_folders import with_service_folders
from steppe.run.shared_run import SharedRun
from steppe.run.signals import exiting_on_signals, ignoring_signals
from steppe.run.start_progress import StartProgress, start_times

LEFTOVERS_S = 15.0
"""How long the end of a run waits for files that an agent of a lost cluster still uses, s."""


@dataclass(frozen=True, slots=True)
class DriverOfTwo:
    """What the driver of a run with a standby has from the process that started both.

    Attributes:
        shared: What the drivers share.
        pipe: Says what there is to clean up when no driver is left.
    """

    shared: SharedRun
    pipe: CleanupPipe

    @property
    def lifetime(self) -> ActorLifetime:
        """Name of the run; its actors outlive this driver."""
        return ActorLifetime(self.shared.run_id, outlives_driver=True)

    def end(self) -> None:
        """Note that the run has ended, and everything with it."""
        self.shared.remove()
        self.pipe.say(done="")


def become_active(run_id: str, pipe: int) -> tuple[DriverOfTwo | None, RunState | None]:
    """Wait until this process is the active driver of a run with a standby.

    Signals are for the active one. This returns once it has died.

    Args:
        run_id: Name of the run.
        pipe: File descriptor of the pipe to the process that cleans up.

    Returns:
        What the drivers share, None if the run has ended; and what the driver before knew, None
        for the first one.
    """
    cleanup = CleanupPipe(pipe)
    shared = SharedRun.find(run_id)
    if shared is None:
        return None, None
    with ignoring_signals():
        known = shared.become_active()
    if shared.has_ended:
        return None, None
    return DriverOfTwo(shared, cleanup), None if known is None else RunState.read(known)


@contextmanager
def running_fleet(
    config: RunConfig,
    console: Console,
    record: Path | None = None,
    refuse: Callable[[RunConfig], None] = refuse_unfit,
    of_two: DriverOfTwo | None = None,
) -> Generator[FleetDriver]:
    """Start a fleet, and stop it at the end of the block whatever happens.

    If this process is killed, another one cleans up, see `steppe.run.cleanup`.

    Args:
        config: The run.
        console: Shows the progress of the start.
        record: The folder of its record; None for none.
        refuse: Refuses hosts that are not fit for the run.
        of_two: What this process shares with a standby; None without one.

    Raises:
        UsageError: The configuration, or this machine, is not fit for the run.
        ReplicaError: A replica could not start.
    """
    config = with_service_folders(config, record)
    remove_stale_runs(state_folder())
    check_inputs(config)
    refuse(config)
    progress = StartProgress(console, _start_kind(config), start_times())
    process = os.getpid() if of_two is None else of_two.shared.process
    with (
        exiting_on_signals(),
        _cleanup(of_two) as cleanup,
        _ending(process, of_two) as driver_of,
    ):
        if record is not None:
            cleanup.say(record=str(record.resolve()))
        with progress.shown():
            _emulate(config, process)
            driver = driver_of[0] = FleetDriver(
                config,
                progress.begin,
                note=progress.note,
                on_session=lambda session: cleanup.say(session=session),
                on_open=partial(_say_page, config, console),
                lifetime=None if of_two is None else of_two.lifetime,
            )
            driver.start()
        yield driver


@contextmanager
def taken_over_fleet(earlier: RunState, of_two: DriverOfTwo) -> Generator[FleetDriver]:
    """Go on with the fleet of a driver that has died, and stop it at the end of the block.

    Args:
        earlier: What the other driver knew.
        of_two: What the drivers share.

    Raises:
        StartError: The cluster of the run does not answer.
    """
    with exiting_on_signals(), _ending(of_two.shared.process, of_two) as driver_of:
        driver = FleetDriver(earlier.config, print, lifetime=of_two.lifetime)
        driver.take_over(earlier.address, earlier.driver)
        driver_of[0] = driver
        yield driver


@contextmanager
def _cleanup(of_two: DriverOfTwo | None) -> Generator[Cleanup | CleanupPipe]:
    """Let another process clean up if this one, or both drivers, are killed."""
    if of_two is not None:
        yield of_two.pipe
        return
    with Cleanup() as cleanup:
        yield cleanup


@contextmanager
def _ending(process: int, of_two: DriverOfTwo | None) -> Generator[list[FleetDriver | None]]:
    """Stop the driver that the block puts into the list, and remove the files of the run.

    Args:
        process: The process whose id the files have in their names.
        of_two: What the drivers share; None without a standby.
    """
    driver_of: list[FleetDriver | None] = [None]
    try:
        yield driver_of
    finally:
        with ignoring_signals():
            if of_two is not None:
                of_two.shared.end()
            # A fleet that could not be taken over is left to the process that cleans up.
            if of_two is None or driver_of[0] is not None or not of_two.shared.has_begun:
                _stop(driver_of[0], process, of_two)


def _stop(driver: FleetDriver | None, process: int, of_two: DriverOfTwo | None) -> None:
    if driver is not None:
        driver.stop()
    remove_state(gpus_file(process))
    if of_two is not None:
        of_two.end()
    remove_files(process, LEFTOVERS_S, ended=process)


def _say_page(config: RunConfig, console: Console, url: str) -> None:
    """Say where the live page is, which shows the start too."""
    if config.gateway.page:
        console.print(f"live page: {url}", soft_wrap=True, highlight=False)


def _start_kind(config: RunConfig) -> str:
    """Return a key of the settings that decide how long a start takes."""
    replicas = f"{config.fleet.replicas} x {config.fleet.gpus_per_replica} GPUs"
    names = ", ".join(alone.model.name for alone in config.pools.values())
    return f"{names}, {config.engine.kind}, {replicas}, {config.device.kind}"


def _emulate(config: RunConfig, process: int) -> None:
    """Emulate the GPUs of a local cluster whose run ends with a process."""
    if isinstance(config.device, EmulatedSection) and config.ray.address == LOCAL:
        activate_section(config.device, gpus_file(process))

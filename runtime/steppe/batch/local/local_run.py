"""Runs the job of a folder from its input to its output files."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from steppe.batch.job import JobState
from steppe.batch.local.folder import JobFolder, spec_of
from steppe.batch.local.loading import Loader, Source, check_input
from steppe.batch.output.files import OutputFiles
from steppe.batch.runner.progress import RunProgress
from steppe.batch.runner.runner import RunEnd, Runner
from steppe.batch.runner.settings import RunnerSettings


class LocalRun:
    """One run of the job of a folder, which ends with it, or when it is stopped."""

    def __init__(
        self,
        folder: JobFolder,
        settings: RunnerSettings,
        on_progress: Callable[[RunProgress], None] = lambda progress: None,
        *,
        writes: bool = True,
        source: Source | None = None,
    ) -> None:
        """Prepare.

        Args:
            folder: The folder.
            settings: Where the rows go.
            on_progress: Gets the state about once a second, in the thread of `run`.
            source: Returns the rows; None for those of the job's input.
            writes: Whether there are output files; else the store alone has the answers.
        """
        self._folder, self._settings, self._on_progress = folder, settings, on_progress
        self._writes, self._source = writes, source
        self._runner: Runner | None = None
        self._is_stopped = False

    def stop(self) -> None:
        """End soon, so that the job can be resumed; safe from any thread and signal handler."""
        self._is_stopped = True
        if self._runner is not None:
            self._runner.stop()

    def run(self) -> RunEnd:
        """Run the job in an event loop of its own.

        Raises:
            JobBusyError: Another process runs it.
            InputChangedError: The input is not the one that the job was made of.
            SteppeError: As `Runner.run`.
        """
        folder, store = self._folder, self._folder.store
        with folder.locked():
            job = folder.job()
            if job.state.ended:
                return RunEnd(job.state, store.counts(job.id))
            is_loading = job.state is JobState.VALIDATING
            if not is_loading:
                check_input(job)
            output = self._output(job.id) if self._writes else None
            runner = Runner(
                store, job.id, self._settings, output=output, on_progress=self._on_progress
            )
            loader = Loader(store, job, self._source)
            self._runner = runner
            if self._is_stopped:
                runner.stop()
            if is_loading:
                loader.start(self._on_loaded)
            try:
                end = asyncio.run(runner.run())
            finally:
                if output is not None:
                    output.close()
                if is_loading:
                    loader.stop()
        return end

    def _on_loaded(self, is_complete: bool) -> None:
        assert self._runner is not None, "the run has begun"
        if is_complete:
            self._runner.notice()
        else:
            self._runner.stop()

    def _output(self, job_id: str) -> OutputFiles:
        spec = spec_of(self._folder.job())
        return OutputFiles(
            self._folder.store, job_id, spec.output, spec.errors, in_order=spec.in_order
        )

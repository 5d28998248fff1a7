"""`steppe.batch.run`: rows of a Python program through a gateway, or a fleet of their own."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from steppe.batch.answers import RowAnswer, answer_of
from steppe.batch.job import JobState, When
from steppe.batch.local.folder import JobFolder, JobSpec, create_folder, folder_of, open_folder
from steppe.batch.local.local_run import LocalRun
from steppe.batch.row import BadRow, Row
from steppe.batch.rows.build import row_of
from steppe.batch.rows.options import RowOptions
from steppe.batch.rows.read import open_rows
from steppe.batch.runner.progress import RunProgress
from steppe.batch.runner.settings import RunnerSettings
from steppe.errors import StartError, UsageError
from steppe.run.batch import at_gateway

Records = Iterable[Mapping[str, Any] | str] | Path
OnProgress = Callable[[RunProgress], None]

_POLL_S = 0.1
_END_S = 120.0
"""Longest time that a fleet has to end, s."""
_SERVING = "serving on "


def run(
    rows: Records,
    *,
    url: str | None = None,
    config: Path | str | None = None,
    key: str | None = None,
    job: Path | str | None = None,
    options: RowOptions | None = None,
    when: When | str = When.DEADLINE,
    deadline_s: float | None = None,
    in_order: bool = False,
    outstanding: int = 128,
    on_progress: OnProgress = lambda progress: None,
    **sampling: Any,
) -> Iterator[RowAnswer]:
    """Run rows on a fleet when power is there, and yield the answers as they come.

    With `job`, every answer is on disk when it is yielded, and a later call with the same rows goes
    on where this one was stopped or killed: it yields all answers, and computes those that are
    missing. Closing the iterator stops the job.

    Args:
        rows: Records (see `steppe batch run`), texts, or the path of a file of records.
        url: Address of a gateway.
        config: Configuration of a fleet that starts for these rows, in place of `url`.
        key: Key for the gateway.
        job: Name of the job: its folder is `NAME.job`. None keeps nothing.
        options: How records become requests.
        when: `now`, `deadline` or `surplus`.
        deadline_s: Time until the job should be done, s.
        in_order: Whether answers come in the order of the rows.
        outstanding: Rows at once at a gateway that does not say how many it takes.
        on_progress: Gets the state about once a second, in another thread.
        sampling: `model` and parameters of all requests, such as `max_tokens=64`.

    Yields:
        The answer of each row, or why it has none.

    Raises:
        UsageError: The gateway cannot be reached, or the rows of `job` were others.
        SteppeError: The job cannot go on; with `job` it can be resumed.
    """
    if (url is None) == (config is None):
        raise UsageError("steppe.batch.run: asked for one of url and config, found both or none")
    headers = () if key is None else (("Authorization", f"Bearer {key}"),)
    spec = _spec(rows, options or RowOptions(), sampling, in_order=in_order)
    spec = replace(spec, when=When(when), window_s=deadline_s)
    with ExitStack() as stack:
        url = url if url is not None else stack.enter_context(_fleet(Path(config or "")))
        settings = RunnerSettings(url, headers, most_outstanding=outstanding)
        place = Path(job) if job is not None else None
        if place is None:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "rows"
        folder = stack.enter_context(_folder(at_gateway(spec, settings), place))
        spec = replace(spec, options=_options_of(folder))
        running = _Running(folder, settings, lambda: _rows(rows, spec.options), on_progress)
        yield from running.answers(in_order=in_order)


def _spec(
    rows: Records, options: RowOptions, sampling: Mapping[str, Any], *, in_order: bool
) -> JobSpec:
    parameters = dict(sampling)
    model = str(parameters.pop("model", options.model))
    whole = replace(options, model=model, sampling={**options.sampling, **parameters})
    path = rows if isinstance(rows, Path) else Path()
    return JobSpec(path, Path(), Path(), whole, in_order)


def _rows(rows: Records, options: RowOptions) -> Iterable[Row | BadRow]:
    if isinstance(rows, Path):
        return open_rows(rows, options)
    records = ({"text": row} if isinstance(row, str) else row for row in rows)
    return (row_of(number, record, options) for number, record in enumerate(records))


def _options_of(folder: JobFolder) -> RowOptions:
    """Return how the job's records become requests: a usual model stays that of the first run."""
    return RowOptions(**folder.job().settings["rows"])


@contextmanager
def _folder(spec: JobSpec, place: Path) -> Generator[JobFolder]:
    """Make the folder of a job, or open it to go on."""
    path = folder_of(place)
    errors = place.with_name(place.name + ".errors")
    if not path.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        with create_folder(replace(spec, output=place, errors=errors)) as folder:
            yield folder
        return
    with open_folder(path) as folder:
        if (found := folder.job().settings) != spec.settings() and not _is_usual(found, spec):
            raise UsageError(f"{path}: asked to go on with other options, found {found['rows']}")
        with folder.locked():  # rows may have come; those that are there are compared
            states = [each for each in JobState if each is not JobState.VALIDATING]
            job_id = folder.job().id
            folder.store.change_state(job_id, JobState.VALIDATING, time.time(), states)
        yield folder


def _is_usual(found: Mapping[str, Any], spec: JobSpec) -> bool:
    """Return whether options differ only in the model that the gateway has first."""
    usual = found["rows"]["usual_model"]
    return bool(spec.with_usual_model(usual).settings() == found)


class _Running:
    """A job that runs in a thread while its answers are read."""

    def __init__(
        self,
        folder: JobFolder,
        settings: RunnerSettings,
        source: Callable[[], Iterable[Row | BadRow]],
        on_progress: OnProgress,
    ) -> None:
        self._folder = folder
        settings = replace(settings, timeline=folder.timeline)
        self._run = LocalRun(folder, settings, on_progress, writes=False, source=source)
        self._threads = ThreadPoolExecutor(1, "batch-job")

    def answers(self, *, in_order: bool) -> Iterator[RowAnswer]:
        """Run the job, and yield the answers as they come."""
        store, job_id, after = self._folder.store, self._folder.job().id, 0
        job = self._threads.submit(self._run.run)
        try:
            is_over = False
            while not is_over:
                is_over = bool(wait([job], 0 if job.done() else _POLL_S).done)
                for stored in store.results(job_id, in_order=in_order, after=after):
                    after = stored.result.number + 1 if in_order else stored.sequence
                    yield answer_of(stored.result)
        finally:
            self._run.stop()
            self._threads.shutdown()
        job.result()


@contextmanager
def _fleet(config: Path) -> Generator[str]:
    """Start `steppe serve` in a process of its own, and return the address of its gateway.

    Raises:
        StartError: It ended before it served.
    """
    command = [sys.executable, "-m", "steppe", "serve", str(config)]
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None, "its output is read here"
        said: list[str] = []
        try:
            for line in process.stdout:
                said.append(line)
                if line.startswith(_SERVING):
                    break
            else:
                error = StartError(f"{config}: asked for a fleet, found that it ended")
                error.add_note("".join(said[-20:]))
                raise error
            drain = threading.Thread(target=process.stdout.read, daemon=True)
            drain.start()
            yield line.removeprefix(_SERVING).split(";")[0].strip()
        finally:
            process.terminate()
            process.wait(_END_S)

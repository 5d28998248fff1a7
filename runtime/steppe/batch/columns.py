"""Rows that a data pipeline holds as columns: answered as a job, and given back as columns."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from steppe.batch.job import Job, JobState, When
from steppe.batch.row import BadRow, Row, RowResult
from steppe.batch.rows.build import row_of
from steppe.batch.rows.options import RowOptions
from steppe.batch.runner.settings import RunnerSettings, new_owner
from steppe.errors import JobBusyError

READ_COLUMNS = ("custom_id", "endpoint", "body")
"""Columns of rows that were read as requests."""
_BUSY_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True)
class Pipeline:
    """How the rows of a data pipeline are answered.

    Attributes:
        settings: The gateway, and how hard a runner tries.
        options: How a row becomes a request.
        place: Folder of the store, or its URL (PostgreSQL); empty: nothing is kept.
        when: When rows may run.
        output_column: The column with the text of an answer, or its embedding.
    """

    settings: RunnerSettings
    options: RowOptions = field(default_factory=RowOptions)
    place: str = ""
    when: When = When.NOW
    output_column: str = "generated_text"


def answers_of(columns: Mapping[str, Sequence[Any]], pipeline: Pipeline) -> dict[str, list[Any]]:
    """Return the columns of the answers to a batch, row by row; none for a batch without rows.

    The batch is one job of the store. If the same batch comes again, rows that are done are not
    sent again.

    Raises:
        UsageError: The store cannot be used.
        GatewayRefusedError: The gateway would refuse every row.
    """
    rows = _rows(columns, pipeline.options)
    if not rows:
        return {}
    answers = [_answer(result, pipeline.output_column) for result in _results(rows, pipeline)]
    return {name: [answer[name] for answer in answers] for name in answers[0]}


def _rows(columns: Mapping[str, Sequence[Any]], options: RowOptions) -> list[Row | BadRow]:
    names = list(columns)
    are_read = all(name in columns for name in READ_COLUMNS)
    rows: list[Row | BadRow] = []
    for number, values in enumerate(zip(*columns.values(), strict=True)):
        record = dict(zip(names, values, strict=True))
        if are_read and record.get("error"):
            rows.append(BadRow(number, record["custom_id"], record["error"]))
        else:
            rows.append(row_of(number, _line(record) if are_read else record, options))
    return rows


def _line(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row that was read as a line of OpenAI's format."""
    body = orjson.loads(record["body"])
    return {"custom_id": record["custom_id"], "url": record["endpoint"], "body": body}


def _results(rows: Sequence[Row | BadRow], pipeline: Pipeline) -> list[RowResult]:
    if pipeline.place:
        return _run(rows, pipeline, pipeline.place)
    with tempfile.TemporaryDirectory(prefix="steppe-rows-") as folder:
        return _run(rows, pipeline, folder)


def _run(rows: Sequence[Row | BadRow], pipeline: Pipeline, place: str) -> list[RowResult]:
    """Run a batch as a job, and return its results in the order of its rows."""
    from steppe.batch.runner.runner import Runner
    from steppe.batch.store.job_store import JobStore

    job = _job(rows, pipeline)
    store = JobStore(_store_place(place))
    try:
        if store.job(job.id) is None:
            store.add_job(job)
        store.add_rows(job.id, rows, time.time())
        store.change_state(job.id, JobState.IN_PROGRESS, time.time(), (JobState.VALIDATING,))
        while True:
            settings = replace(pipeline.settings, owner=new_owner())
            try:
                asyncio.run(Runner(store, job.id, settings).run())
                break
            except JobBusyError:  # the same batch runs elsewhere, or its runner died lately
                time.sleep(_BUSY_PAUSE_S)
        return [stored.result for stored in store.results(job.id, in_order=True)]
    finally:
        store.close()


def _store_place(place: str) -> str:
    if "://" in place:
        return place
    folder = Path(place)
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder / "jobs.sqlite")


def _job(rows: Sequence[Row | BadRow], pipeline: Pipeline) -> Job:
    """Return the job of a batch; its id belongs to the content of the batch."""
    digest = hashlib.sha256()
    for row in rows:
        text = row.key if isinstance(row, Row) else f"{row.custom_id}\0{row.reason}"
        digest.update(hashlib.sha256(text.encode()).digest())
    models = {_model(row) for row in rows if isinstance(row, Row)}
    return Job(
        id=f"batch_{digest.hexdigest()[:32]}",
        tenant="",
        model=models.pop() if len(models) == 1 else pipeline.options.model,
        endpoint=pipeline.options.endpoint,
        when=pipeline.when,
        created_epoch_s=time.time(),
    )


def _model(row: Row) -> str:
    return str(orjson.loads(row.body)["model"])


def _answer(result: RowResult, output_column: str) -> dict[str, Any]:
    failed = result.failed
    return {
        "custom_id": result.custom_id,
        output_column: None if failed else _text(orjson.loads(result.body)),
        "status": result.status,
        "error": (result.error or f"HTTP {result.status}") if failed else None,
        "error_code": result.error_code,
        "request_id": result.request_id,
        "prompt_tokens": result.prompt_tokens,
        "output_tokens": result.output_tokens,
        "energy_j": result.energy_j,
        "wasted_j": result.wasted_j,
        "energy_source": result.energy_source,
        "response": result.body.decode(errors="replace"),
    }


def _text(body: Mapping[str, Any]) -> Any:
    """Return the text of an answer, or its embedding."""
    if body.get("data"):
        return body["data"][0].get("embedding")
    choice = next(iter(body.get("choices") or [{}]))
    return choice.get("text") if "text" in choice else choice.get("message", {}).get("content")


def read_columns(rows: Iterable[Row | BadRow]) -> dict[str, list[Any]]:
    """Return rows that were read as columns; `error` is None for a good row."""
    listed = list(rows)
    good = [row if isinstance(row, Row) else None for row in listed]
    return {
        "custom_id": [row.custom_id for row in listed],
        "endpoint": [None if row is None else row.endpoint for row in good],
        "body": [None if row is None else row.body.decode() for row in good],
        "error": [row.reason if isinstance(row, BadRow) else None for row in listed],
    }

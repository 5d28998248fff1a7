"""Ray Data pipelines on a fleet: a source of rows, a stage that answers them, and a sink.

Its public name is `steppe.ray_data`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from steppe.batch.columns import Pipeline, answers_of, read_columns
from steppe.batch.job import When
from steppe.batch.output.lines import output_line
from steppe.batch.row import RowResult
from steppe.batch.rows.options import RowOptions
from steppe.batch.rows.read import open_rows
from steppe.batch.runner.settings import RunnerSettings
from steppe.errors import InstallError, UsageError

try:
    import ray.data
    from ray.data import Datasource, ReadTask
    from ray.data.block import Block, BlockAccessor, BlockMetadata
    from ray.data.datasource import Datasink
except ModuleNotFoundError as error:
    text = f"asked for steppe.ray_data, found no {error.name}: pip install 'steppe[ray-data]'"
    raise InstallError(text) from error

ROWS_PER_BLOCK = 1000
"""Rows of a block that the source makes."""


class Generate:
    """Answers the rows of a Ray Data batch by a gateway, all of a batch at once.

    An instance runs in tasks, the class in actors:

        rows.map_batches(Generate("http://127.0.0.1:8000", column="text"), batch_size=256)
        rows.map_batches(Generate, fn_constructor_args=(url,), concurrency=4, batch_size=256)

    A batch keeps its columns and gets `generated_text`, `error` of a row that failed (the others
    go on), `status`, `custom_id`, `request_id`, `prompt_tokens`, `output_tokens`, `energy_j`,
    `wasted_j`, `energy_source`, `error_code` and `response`, the answer as JSON.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str = "",
        outstanding: int = 128,
        job_folder: str = "",
        when: str = "now",
        output_column: str = "generated_text",
        **options: Any,
    ) -> None:
        """Prepare; nothing is sent before the first batch.

        Args:
            url: Address of the gateway.
            api_key: Key of a tenant.
            outstanding: Most rows of one batch at the gateway at once.
            job_folder: Folder that all workers share, or the URL of a PostgreSQL store: a batch
                that comes again, the same rows in the same order, is not computed again.
            when: `now`, `deadline` or `surplus`: when rows may run.
            output_column: Name of the column with the text.
            options: Fields of `RowOptions`: `model`, `column`, `template`, `sampling`, ...

        Raises:
            UsageError: An option is not known, or two exclude each other.
        """
        headers = (("authorization", f"Bearer {api_key}"),) if api_key else ()
        self._pipeline = Pipeline(
            settings=RunnerSettings(url, headers=headers, most_outstanding=outstanding),
            options=_options(options),
            place=job_folder,
            when=_when(when),
            output_column=output_column,
        )

    def __call__(self, batch: Any) -> Any:
        """Return a batch with the columns of its answers, in the format that it has.

        Args:
            batch: In any format of `map_batches`: NumPy, pandas or Arrow.
        """
        return _with_columns(batch, answers_of(_columns(batch), self._pipeline))


def read_rows(paths: str | Path | Sequence[str | Path], **options: Any) -> ray.data.Dataset:
    """Return rows of files that `steppe batch run` reads, as a dataset of requests.

    The columns are `custom_id`, `endpoint`, `body` (JSON) and `error`, None for a good row.

    Args:
        paths: One file or several; each is read by one task, in blocks.
        options: Fields of `RowOptions`: `model`, `column`, `template`, `sampling`, ...

    Raises:
        UsageError: A file is missing, or an option is not known.
    """
    files = [paths] if isinstance(paths, str | Path) else list(paths)
    whole = [Path(path).absolute() for path in files]
    for path in whole:
        if not path.exists():
            raise UsageError(f"{path}: asked for an input, found no such file")
    return ray.data.read_datasource(_RowSource(whole, _options(options)))


def write_results(rows: ray.data.Dataset, folder: str | Path) -> None:
    """Write answers as lines of OpenAI's batch output, one pair of files a task.

    `part-N.jsonl` has the answers, `errors-N.jsonl` the rows that failed.

    Args:
        rows: What `Generate` gave.
        folder: A folder that all workers share.
    """
    whole = Path(folder).absolute()
    whole.mkdir(parents=True, exist_ok=True)
    rows.write_datasink(_ResultSink(whole))


class _RowSource(Datasource):  # type: ignore[misc]  # Ray has no usable types
    """Files of rows; each is one read task."""

    def __init__(self, paths: Sequence[Path], options: RowOptions) -> None:
        self._paths, self._options = paths, options

    def estimate_inmemory_data_size(self) -> int | None:
        return sum(path.stat().st_size for path in self._paths if path.is_file())

    def get_read_tasks(self, _parallelism: int, *_args: Any, **_kwargs: Any) -> list[ReadTask]:
        return [self._task(path) for path in self._paths]

    def _task(self, path: Path) -> ReadTask:
        options = self._options
        metadata = BlockMetadata(
            num_rows=None, size_bytes=None, exec_stats=None, input_files=(str(path),)
        )
        return ReadTask(lambda: _blocks(path, options), metadata)


def _blocks(path: Path, options: RowOptions) -> Iterator[Any]:
    import pyarrow as pa

    schema = pa.schema([(name, pa.string()) for name in read_columns(())])
    rows = open_rows(path, options)
    while block := list(islice(rows, ROWS_PER_BLOCK)):
        yield pa.table(read_columns(block), schema=schema)


class _ResultSink(Datasink):  # type: ignore[misc]
    """Files of OpenAI's output lines."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, blocks: Iterable[Block], ctx: Any) -> None:
        """Write the blocks of one task; a task that runs again replaces its files."""
        lines: dict[str, list[bytes]] = {"part": [], "errors": []}
        for block in blocks:
            for row in BlockAccessor.for_block(block).iter_rows(public_row_format=True):
                lines["errors" if row.get("error") else "part"].append(
                    output_line(_result(row), "")
                )
        for name, of_kind in lines.items():
            if of_kind:
                path = self._folder / f"{name}-{ctx.task_idx:06}.jsonl"
                unfinished = path.with_suffix(".unfinished")
                unfinished.write_bytes(b"".join(of_kind))
                unfinished.replace(path)


def _result(row: Mapping[str, Any]) -> RowResult:
    """Return the result that the columns of a row show."""
    return RowResult(
        0,
        row["custom_id"],
        status=row["status"],
        request_id=row["request_id"],
        body=row["response"].encode(),
        error_code=row["error_code"],
        error=row["error"] or "",
        prompt_tokens=row["prompt_tokens"],
        output_tokens=row["output_tokens"],
        energy_j=row["energy_j"],
        wasted_j=row["wasted_j"],
        energy_source=row["energy_source"],
    )


def _columns(batch: Any) -> dict[str, list[Any]]:
    """Return the columns of a batch of any format as lists of plain values."""
    if hasattr(batch, "to_pydict"):
        return dict(batch.to_pydict())
    if hasattr(batch, "to_dict") and hasattr(batch, "columns"):
        return dict(batch.to_dict(orient="list"))
    return {name: _plain(values) for name, values in batch.items()}


def _with_columns(batch: Any, added: Mapping[str, list[Any]]) -> Any:
    """Return a batch with more columns; those of the same name are replaced."""
    if hasattr(batch, "to_pydict"):
        kept = batch.drop_columns([name for name in added if name in batch.column_names])
        for name, values in added.items():
            kept = kept.append_column(name, [values])
        return kept
    if hasattr(batch, "to_dict") and hasattr(batch, "columns"):
        return batch.assign(**added)
    return {**batch, **added}


def _plain(values: Any) -> list[Any]:
    listed = values.tolist() if hasattr(values, "tolist") else list(values)
    return [value.tolist() if hasattr(value, "tolist") else value for value in listed]


def _options(options: Mapping[str, Any]) -> RowOptions:
    known = RowOptions.__dataclass_fields__
    for name in options:
        if name not in known:
            raise UsageError(f"asked for option {name}, found only {', '.join(known)}")
    return RowOptions(**options)


def _when(text: str) -> When:
    if text not in list(When):
        raise UsageError(f"asked for when={text!r}, found only {', '.join(When)}")
    return When(text)

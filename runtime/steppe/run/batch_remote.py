"""Batch jobs at a gateway's Batch API: submit, status, cancel, fetch."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from steppe.batch.api_client import ApiClient
from steppe.batch.row import BadRow
from steppe.batch.rows.options import RowOptions
from steppe.batch.rows.read import open_rows
from steppe.disk import disk_errors
from steppe.errors import UsageError

Json = dict[str, Any]


def submit(
    client: ApiClient,
    path: Path,
    options: RowOptions,
    window: str,
    metadata: Mapping[str, str],
) -> Json:
    """Upload the rows of an input as OpenAI batch lines, and make a batch of them.

    Args:
        client: The gateway.
        path: The input.
        options: How its records become requests.
        window: Completion window, such as `24h`.
        metadata: Pairs of the client's own.

    Returns:
        The batch.

    Raises:
        UsageError: A row is no request, rows are of several endpoints, or the gateway refuses.
    """
    with tempfile.TemporaryDirectory(prefix="steppe-batch-") as place:
        lines = Path(place) / "batch.jsonl"
        endpoint = _write_lines(lines, path, options)
        uploaded = client.upload(lines, f"{path.name.split('.')[0]}.jsonl")
    return client.create_batch(uploaded["id"], endpoint, window, metadata)


def _write_lines(lines: Path, path: Path, options: RowOptions) -> str:
    """Write the rows as batch lines, and return their endpoint."""
    endpoints: set[str] = set()
    with disk_errors(lines), lines.open("wb") as file:
        for row in open_rows(path, options):
            if isinstance(row, BadRow):
                raise UsageError(f"{path}: asked for requests, found {row.reason}")
            endpoints.add(row.endpoint)
            line = {
                "custom_id": row.custom_id,
                "method": "POST",
                "url": row.endpoint,
                "body": orjson.Fragment(row.body),
            }
            file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
    if len(endpoints) != 1:
        found = ", ".join(sorted(endpoints)) or "no row"
        raise UsageError(f"{path}: asked for rows of one endpoint, found {found}")
    return endpoints.pop()


def fetch(client: ApiClient, batch: Json, output: Path, errors: Path) -> list[Path]:
    """Write output and error file of a batch that has ended; return those that it has.

    Raises:
        UsageError: It has not ended, or a file cannot be written.
    """
    if not {"completed", "expired", "cancelled"} & {batch["status"]}:
        found = f"found {batch['id']} {batch['status']}"
        raise UsageError(f"asked for the output of a batch that has ended, {found}")
    written = []
    for name, path in (("output_file_id", output), ("error_file_id", errors)):
        if batch.get(name):
            client.download(batch[name], path)
            written.append(path)
    return written

"""Reports as files."""

from __future__ import annotations

from pathlib import Path

import orjson

from steppe.batch.report.job_report import JobReport
from steppe.batch.report.page import html_page
from steppe.batch.report.shown import shown
from steppe.errors import UsageError


def write_report(report: JobReport, html: Path) -> tuple[Path, Path]:
    """Write a report as a page and, beside it, as JSON; return both paths.

    Args:
        report: The report.
        html: Path of the page; the JSON has the same name with `.json`.

    Raises:
        UsageError: A file cannot be written.
    """
    json = html.with_suffix(".json")
    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    try:
        html.write_text(html_page(report), encoding="utf-8")
        json.write_bytes(orjson.dumps(shown(report), option=options))
    except OSError as error:
        raise UsageError(f"asked for the report {html}, found {error.strerror}") from error
    return html, json

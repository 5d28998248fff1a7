"""The report of the job of a folder."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from steppe.batch.local.folder import open_folder
from steppe.batch.report.job_report import report_of
from steppe.batch.report.shown import shown
from steppe.batch.report.timeline import read_timeline
from steppe.batch.report.write import write_report

REPORT = "report.html"


def write_job_report(path: Path, output: Path | None) -> tuple[dict[str, Any], Path]:
    """Write the report of the job of a folder; return it as a document, and where it is.

    Args:
        path: The folder.
        output: File of the page, with the JSON beside it; None for one in the folder of the job.

    Raises:
        UsageError: There is no job, or the report cannot be written.
    """
    with open_folder(path) as folder:
        timeline = read_timeline(folder.timeline)
        report = report_of(folder.store, folder.job().id, timeline, time.time())
        html, _ = write_report(report, output or path / REPORT)
        return shown(report), html

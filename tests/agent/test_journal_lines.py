from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from steppe.agent.journal_lines import JournalFormatter, is_journal


@pytest.mark.parametrize(
    ("level", "prefix"),
    [(logging.INFO, "<6>"), (logging.WARNING, "<4>"), (logging.ERROR, "<3>")],
)
def test_each_line_begins_with_its_syslog_priority(level: int, prefix: str) -> None:
    record = logging.LogRecord("agent", level, "", 0, "lost %s\nof two", ("GPU-1",), None)
    assert JournalFormatter().format(record) == f"{prefix}lost GPU-1\n{prefix}of two"


def test_the_journal_is_known_by_the_variable_of_systemd(tmp_path: Path) -> None:
    with (tmp_path / "stream").open("w") as file:
        found = os.fstat(file.fileno())
        assert is_journal(f"{found.st_dev}:{found.st_ino}", file.fileno())
        assert not is_journal(f"{found.st_dev}:{found.st_ino + 1}", file.fileno())
        assert not is_journal(None, file.fileno())

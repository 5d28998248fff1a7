"""Log lines: for the journal under systemd, with a time for people elsewhere."""

from __future__ import annotations

import logging
import os
import sys

_STDERR = 2
_PLAIN = "%(asctime)s %(levelname)s %(message)s"
# sd-daemon(3): a line that begins with <N> has that syslog priority in the journal.
_PRIORITIES = {
    logging.DEBUG: 7,
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}


class JournalFormatter(logging.Formatter):
    """Puts the syslog priority before each line; the journal itself notes the time."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of a record."""
        prefix = f"<{_PRIORITIES.get(record.levelno, 6)}>"
        return "\n".join(prefix + line for line in super().format(record).splitlines())


def is_journal(stream: str | None, file: int) -> bool:
    """Return whether a file is connected to the journal.

    Args:
        stream: The variable JOURNAL_STREAM, which systemd sets: device and inode of the journal's
            stream; None if it is not set.
        file: Number of an open file.
    """
    if not stream:
        return False
    found = os.fstat(file)
    return stream == f"{found.st_dev}:{found.st_ino}"


def log_to_stderr(level: int = logging.INFO) -> None:
    """Send the log of this process to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    under_systemd = is_journal(os.environ.get("JOURNAL_STREAM"), _STDERR)
    handler.setFormatter(JournalFormatter() if under_systemd else logging.Formatter(_PLAIN))
    logging.basicConfig(level=level, handlers=[handler])

"""Xids are read from the kernel log, where it may be read."""

from __future__ import annotations

from pathlib import Path

from steppe.device.kernel_log import LoggedXid, read_logged_xids

LOG = """\
6,1,100,-;Linux version 6.8
4,901,5000,-;NVRM: Xid (PCI:0000:3B:00): 79, pid=1234, name=python3, GPU has fallen off the bus.
4,902,5001,-;NVRM: GPU at PCI:0000:5e:00: GPU-5eed0000
4,903,5002,-;NVRM: Xid (PCI:0000:5e:00): 31, pid=77, Ch 00000008
"""


def test_xids_are_found_with_their_gpu(tmp_path: Path) -> None:
    log = tmp_path / "kmsg"
    log.write_text(LOG)
    assert read_logged_xids(log) == (LoggedXid("0000:3b:00", 79), LoggedXid("0000:5e:00", 31))


def test_a_log_that_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    assert read_logged_xids(tmp_path / "none") is None
    assert read_logged_xids(tmp_path) is None

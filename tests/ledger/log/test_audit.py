"""An audit reads every entry and every tile, and names the one that was changed."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.ledger.log.test_log import KEY, ORIGIN, filled

from steppe.errors import UsageError
from steppe.ledger.log.audit import check_log
from steppe.ledger.log.checkpoint import Checkpoint
from steppe.ledger.log.log import LogReader
from steppe.ledger.tree import Head, ProofError

SIZE = 256 * 256 + 300


@pytest.fixture(scope="module")
def long_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("log")
    filled(folder, (SIZE,))
    return folder


@pytest.fixture
def short_log(tmp_path: Path) -> Path:
    filled(tmp_path, (600,))
    return tmp_path


def head_of_log(folder: Path) -> Checkpoint:
    return LogReader(folder, ORIGIN, [KEY.public]).checkpoint()


def change(path: Path, place: int) -> None:
    blob = bytearray(path.read_bytes())
    blob[place] ^= 1
    path.write_bytes(blob)


def test_a_long_log_holds_and_its_progress_is_said(long_log: Path) -> None:
    done = list[int]()
    check_log(long_log, head_of_log(long_log), done.append)
    assert (done[0], done[-1], len(done)) == (256, SIZE, 258)


@pytest.mark.parametrize("size", [1, 255, 256, 257, 512])
def test_a_log_of_any_size_holds(tmp_path: Path, size: int) -> None:
    filled(tmp_path, (size,))
    check_log(tmp_path, head_of_log(tmp_path), lambda done: None)


def test_what_a_crash_left_beyond_the_checkpoint_is_not_looked_at(tmp_path: Path) -> None:
    filled(tmp_path, (5,))
    before = (tmp_path / "checkpoint").read_bytes()
    filled(tmp_path, (400,))
    (tmp_path / "checkpoint").write_bytes(before)
    check_log(tmp_path, head_of_log(tmp_path), lambda done: None)


@pytest.mark.parametrize(
    ("file", "place", "message"),
    [
        ("tile/entries/000", 5, "entry 0 is not the one"),
        ("tile/entries/002.p/88", -2, "entry 599 is not the one"),
        ("tile/0/001", 32 * 7, "entry 263 is not the one"),
        ("tile/0/002.p/88", 0, "entry 512 is not the one"),
        ("tile/1/000.p/2", 33, "hash 1 in row 1 of tiles does not fit"),
    ],
)
def test_a_changed_byte_is_found(short_log: Path, file: str, place: int, message: str) -> None:
    change(short_log / file, place)
    with pytest.raises(ProofError, match=message):
        check_log(short_log, head_of_log(short_log), lambda done: None)


def test_a_changed_hash_high_in_the_tree_is_found(long_log: Path) -> None:
    change(long_log / "tile/2/000.p/1", 0)
    with pytest.raises(ProofError, match="hash 0 in row 2 of tiles"):
        check_log(long_log, head_of_log(long_log), lambda done: None)
    change(long_log / "tile/2/000.p/1", 0)


def test_entries_and_hashes_of_another_log_do_not_fit_the_checkpoint(short_log: Path) -> None:
    head = Checkpoint(ORIGIN, Head(600, bytes(32)))
    with pytest.raises(ProofError, match="its 600 entries are not those of the checkpoint"):
        check_log(short_log, head, lambda done: None)


def test_a_missing_tile_is_named(short_log: Path) -> None:
    (short_log / "tile/entries/001").unlink()
    with pytest.raises(UsageError, match="tile/entries/001: asked for"):
        check_log(short_log, head_of_log(short_log), lambda done: None)

"""The log on disk: what it proves, and what a crash or a damaged file does to it."""

from __future__ import annotations

import resource
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steppe.errors import DiskFullError, UsageError
from steppe.ledger.log.checkpoint import Checkpoint, Proof, open_checkpoint
from steppe.ledger.log.log import Log, LogReader
from steppe.ledger.signing import PrivateKey, SignatureError
from steppe.ledger.tree import ProofError, check_consistency, head_of, leaf_hash

ORIGIN = "example.org/steppe"
KEY = PrivateKey(ORIGIN, bytes(range(32)))


def entries_of(first: int, count: int) -> list[bytes]:
    return [b'{"entry":%d}' % number for number in range(first, first + count)]


def filled(folder: Path, sizes: Sequence[int]) -> Log:
    log = Log(folder, ORIGIN, [KEY])
    for size in sizes:
        log.add(entries_of(log.head.size, size))
    return log


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("sizes", [(1,), (255, 1, 1), (256,), (300, 300), (1, 600, 3)])
def test_every_entry_of_a_log_has_a_proof(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    log = filled(tmp_path, sizes)
    total = sum(sizes)
    assert log.head == head_of([leaf_hash(entry) for entry in entries_of(0, total)])
    reader = LogReader(tmp_path, ORIGIN, [KEY.public])
    for index in {0, total // 2, total - 1}:
        proof = Proof.read(reader.proof(index).text)
        entry = reader.check_entry(index)
        assert entry == entries_of(index, 1)[0]
        assert proof.check(entry, ORIGIN, [KEY.public]).head == log.head


@given(st.lists(st.integers(1, 400), min_size=1, max_size=4))
@settings(max_examples=15, deadline=None)
def test_a_log_that_is_opened_again_goes_on_as_before(sizes: list[int]) -> None:
    with tempfile.TemporaryDirectory() as name:
        heads = []
        for size in sizes:
            log = Log(Path(name), ORIGIN, [KEY])
            log.add(entries_of(log.head.size, size))
            heads.append(log.head)
        assert heads[-1] == head_of([leaf_hash(e) for e in entries_of(0, sum(sizes))])
        for old in heads:
            proof = log.consistency(old.size, heads[-1].size)
            check_consistency(old, heads[-1], proof)


def test_a_full_tile_of_tiles_has_one_of_the_next_level(tmp_path: Path) -> None:
    log = filled(tmp_path, (256 * 256 + 1,))
    assert (tmp_path / "tile/1/000").stat().st_size == 256 * 32
    assert (tmp_path / "tile/2/000.p/1").stat().st_size == 32
    assert not (tmp_path / "tile/1/000.p").exists()
    assert Log(tmp_path, ORIGIN, [KEY]).head == log.head


def test_only_the_widest_partial_tile_is_kept(tmp_path: Path) -> None:
    filled(tmp_path, (1, 1, 1))
    assert [path.name for path in (tmp_path / "tile/0/000.p").iterdir()] == ["3"]
    filled(tmp_path, (253,))
    assert not (tmp_path / "tile/0/000.p").exists()


def test_what_a_crash_left_beyond_the_checkpoint_is_written_again(tmp_path: Path) -> None:
    filled(tmp_path / "log", (300,))
    before = tmp_path / "before"
    shutil.copy(tmp_path / "log/checkpoint", before)
    log = filled(tmp_path / "log", (300,))
    shutil.copy(before, tmp_path / "log/checkpoint")  # the tiles are ahead of it
    again = Log(tmp_path / "log", ORIGIN, [KEY])
    assert again.head.size == 300
    again.add(entries_of(300, 300))
    assert again.head == log.head


def test_a_full_disk_leaves_the_log_as_it_was(tmp_path: Path) -> None:
    log = filled(tmp_path, (200,))
    head = log.head
    with largest_file(2_000), pytest.raises(DiskFullError):
        log.add([b"x" * 3_000])
    assert log.head == head
    assert Log(tmp_path, ORIGIN, [KEY]).head == head
    log.add([b"x" * 3_000])
    assert log.check_entry(200) == b"x" * 3_000


def test_a_changed_entry_is_found(tmp_path: Path) -> None:
    log = filled(tmp_path, (256,))
    path = tmp_path / "tile/entries/000"
    path.write_bytes(path.read_bytes().replace(b'"entry":7}', b'"entry":8}'))
    reader = LogReader(tmp_path, ORIGIN, [KEY.public])
    with pytest.raises(ProofError, match="entry 7 is not the one"):
        reader.check_entry(7)
    with pytest.raises(ProofError, match="does not lead to the root"):
        log.proof(7).check(reader.entry(7), ORIGIN, [KEY.public])


def test_a_changed_tile_of_hashes_is_found(tmp_path: Path) -> None:
    filled(tmp_path, (256, 200))
    for name in ("tile/0/000", "tile/0/001.p/200"):
        path = tmp_path / name
        path.write_bytes(bytes(32) + path.read_bytes()[32:])
    with pytest.raises(ProofError, match="entry 0 is not the one"):
        LogReader(tmp_path, ORIGIN, [KEY.public]).check_entry(0)
    with pytest.raises(ProofError, match="are not those of its checkpoint"):
        Log(tmp_path, ORIGIN, [KEY])


def test_a_missing_or_torn_tile_is_named(tmp_path: Path) -> None:
    filled(tmp_path, (256,))
    path = tmp_path / "tile/entries/000"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UsageError, match="entries/000: found a damaged tile"):
        LogReader(tmp_path, ORIGIN, [KEY.public]).entry(255)
    path.unlink()
    with pytest.raises(UsageError, match="asked for 512 bytes of a tile, found 0"):
        LogReader(tmp_path, ORIGIN, [KEY.public]).entry(255)


def test_a_log_is_not_opened_with_another_key_or_name(tmp_path: Path) -> None:
    filled(tmp_path, (1,))
    with pytest.raises(SignatureError, match="asked for one of"):
        Log(tmp_path, ORIGIN, [PrivateKey.new(ORIGIN)])
    with pytest.raises(ProofError, match="asked for the log other, found"):
        Log(tmp_path, "other", [KEY])


def test_keys_change_by_signing_with_both_for_a_while(tmp_path: Path) -> None:
    new = PrivateKey.new(ORIGIN)
    filled(tmp_path, (1,))
    Log(tmp_path, ORIGIN, [KEY, new]).add(entries_of(1, 1))
    log = Log(tmp_path, ORIGIN, [new])
    log.add(entries_of(2, 1))
    assert log.head.size == 3
    with pytest.raises(SignatureError):
        open_checkpoint(log.note(), ORIGIN, [KEY.public])


def test_an_entry_that_no_tile_can_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="asked for entries of 65535 bytes, found 65536"):
        Log(tmp_path, ORIGIN, [KEY]).add([bytes(1 << 16)])
    assert not list(tmp_path.iterdir())


def test_each_changed_byte_of_a_proof_is_found(tmp_path: Path) -> None:
    log = filled(tmp_path, (5,))
    entry, text = log.entry(3), log.proof(3).text.encode()
    for place in range(len(text)):
        for flip in (0x01, 0x20):
            changed = bytearray(text)
            changed[place] ^= flip
            with pytest.raises((ProofError, SignatureError, UnicodeDecodeError)):
                Proof.read(changed.decode()).check(entry, ORIGIN, [KEY.public])


def test_an_empty_log_has_no_proof(tmp_path: Path) -> None:
    log = Log(tmp_path, ORIGIN, [KEY])
    assert log.checkpoint() == Checkpoint(ORIGIN, log.head)
    with pytest.raises(ProofError, match="asked for leaf 0, found 0 leaves"):
        log.proof(0)


def test_paths_of_several_entries_are_those_of_their_proofs(tmp_path: Path) -> None:
    log = Log(tmp_path, "example.org/log", [PrivateKey.new("example.org/log")])
    log.add([f"entry {at}".encode() for at in range(700)])
    places = [0, 5, 255, 256, 511, 699]
    assert log.paths(places, 700) == [log.proof(place).path for place in places]

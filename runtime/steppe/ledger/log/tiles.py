"""The files of the log: hashes and entries in tiles of 256 (`c2sp.org/tlog-tiles`).

    tile/0/x001/234          the hashes of 256 leaves
    tile/0/x001/235.p/17     those of the first 17 leaves of the next tile
    tile/1/004               the roots of 256 complete tiles of level 0
    tile/entries/x001/234    the entries, each after its length in two bytes

A file is written under another name, brought to disk, and then renamed, so that it is whole or not
there. A partial tile is removed when a wider one is on disk.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Sequence
from pathlib import Path

from steppe.disk import disk_errors, sync_folder
from steppe.errors import UsageError
from steppe.ledger.tree import HASH_BYTES, node_hash

WIDTH, HEIGHT = 256, 8
"""Hashes of a tile, and levels of the tree in it."""
MOST_BYTES = (1 << 16) - 1
"""Longest entry, bytes."""
_KEPT = 64
_PARTIAL = re.compile(r"\d{3}\.p")


class Tiles:
    """The tiles of a log in a folder; one process writes, others may read."""

    def __init__(self, folder: Path) -> None:
        """Use a folder, which need not exist yet."""
        self._folder = folder / "tile"
        self._full: dict[tuple[str, int], bytes] = {}
        self._keeping = threading.Lock()

    def hash_at(self, level: int, index: int) -> bytes:
        """Return the root of the complete subtree at a level of the tree and an index there.

        Raises:
            UsageError: A tile is missing or damaged.
        """
        row, above = divmod(level, HEIGHT)
        first = index << above
        tile = self._read(str(row), first // WIDTH, HASH_BYTES * (first % WIDTH + (1 << above)))
        begin = first % WIDTH * HASH_BYTES
        return _root(tile[begin : begin + (HASH_BYTES << above)])

    def entry(self, index: int) -> bytes:
        """Return an entry.

        Raises:
            UsageError: Its tile is missing or damaged.
        """
        number, place = divmod(index, WIDTH)
        return self.entries(number, place + 1)[place]

    def entries(self, number: int, least: int) -> list[bytes]:
        """Return the entries of a tile, which are at least so many.

        Raises:
            UsageError: The tile is missing or damaged.
        """
        tile, place, entries = self._read("entries", number, 2 * least), 0, list[bytes]()
        while place < len(tile):
            end = place + 2 + int.from_bytes(tile[place : place + 2], "big")
            entries.append(tile[place + 2 : end])
            place = end
        if place != len(tile) or len(entries) < least:
            raise UsageError(f"{self._path('entries', number)}: found a damaged tile of entries")
        return entries

    def hashes(self, number: int, least: int) -> list[bytes]:
        """Return the hashes of the entries of a tile, which are at least so many.

        Raises:
            UsageError: The tile is missing or damaged.
        """
        return self._parts("0", number, least)

    def begin(self, row: str, number: int, width: int) -> bytes:
        """Return the first parts of a tile of hashes, or of `entries`, as a partial tile has them.

        Raises:
            UsageError: The tile is missing, damaged or narrower.
        """
        return b"".join(self._parts(row, number, width)[:width])

    def write(self, first: int, leaves: Sequence[bytes], entries: Sequence[bytes]) -> None:
        """Bring entries and their hashes to disk, with the tiles above them.

        Args:
            first: Index of the first of them: the size of the log before.
            leaves: The hashes of the entries.
            entries: The entries, of at most `MOST_BYTES` each.

        Raises:
            DiskFullError: No space is left.
            UsageError: A file cannot be written.
        """
        coded = [len(entry).to_bytes(2, "big") + entry for entry in entries]
        self._extend("entries", first, coded)
        row, hashes = 0, list(leaves)
        while hashes:
            tiles = self._extend(str(row), first, hashes)
            first, row = first // WIDTH, row + 1
            hashes = [_root(tile) for tile in tiles if len(tile) == WIDTH * HASH_BYTES]

    def _extend(self, row: str, first: int, parts: Sequence[bytes]) -> list[bytes]:
        """Write the tiles of a row that get new parts; return these tiles."""
        number, width = divmod(first, WIDTH)
        before = self._parts(row, number, width) if width else []
        parts, tiles = [*before, *parts], []
        for begin in range(0, len(parts), WIDTH):
            these = parts[begin : begin + WIDTH]
            tiles.append(b"".join(these))
            self._write(row, number + begin // WIDTH, len(these), tiles[-1])
        return tiles

    def _parts(self, row: str, number: int, width: int) -> list[bytes]:
        """Return the first parts of a tile."""
        if row == "entries":
            found = self.entries(number, width)[:width]
            return [len(entry).to_bytes(2, "big") + entry for entry in found]
        tile = self._read(row, number, HASH_BYTES * width)
        return [tile[i : i + HASH_BYTES] for i in range(0, HASH_BYTES * width, HASH_BYTES)]

    def _read(self, row: str, number: int, least: int) -> bytes:
        """Return a tile of at least so many bytes."""
        full = self._full.get((row, number))
        if full is not None:
            return full
        path = self._path(row, number)
        with disk_errors(path):
            if path.exists():
                tile = path.read_bytes()
                self._keep(row, number, tile)
            else:
                tile = self._read_partial(path)
        if len(tile) < least:
            raise UsageError(f"{path}: asked for {least} bytes of a tile, found {len(tile)}")
        return tile

    def _read_partial(self, path: Path) -> bytes:
        """Return the widest partial tile; nothing if there is none."""
        folder = path.with_name(path.name + ".p")
        while folder.is_dir():
            widths = [int(name) for name in os.listdir(folder) if name.isdecimal()]
            if not widths:
                break
            try:
                return (folder / str(max(widths))).read_bytes()
            except FileNotFoundError:  # a wider one has replaced it
                continue
        return path.read_bytes() if path.exists() else b""

    def _keep(self, row: str, number: int, tile: bytes) -> None:
        with self._keeping:  # threads may read beside the one that writes
            self._full[row, number] = tile
            if len(self._full) > _KEPT:
                del self._full[next(iter(self._full))]

    def _write(self, row: str, number: int, width: int, tile: bytes) -> None:
        path = self._path(row, number)
        partial = path.with_name(path.name + ".p")
        target = path if width == WIDTH else partial / str(width)
        draft = target.with_name(target.name + ".draft")
        with disk_errors(target):
            _make_folder(target.parent, self._folder.parent)
            with draft.open("wb") as file:
                file.write(tile)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(target)
            sync_folder(target.parent)
            _remove_narrower(partial, width)

    def _path(self, row: str, number: int) -> Path:
        """Return the path of a full tile: three digits a folder, all but the last after an x."""
        digits = [f"{number % 1000:03}"]
        while number := number // 1000:
            digits.insert(0, f"x{number % 1000:03}")
        return self._folder.joinpath(row, *digits)


def _root(hashes: bytes) -> bytes:
    """Return the root of a complete subtree from its hashes, one after another."""
    nodes = [hashes[i : i + HASH_BYTES] for i in range(0, len(hashes), HASH_BYTES)]
    while len(nodes) > 1:
        nodes = [node_hash(nodes[i], nodes[i + 1]) for i in range(0, len(nodes), 2)]
    return nodes[0]


def _make_folder(folder: Path, top: Path) -> None:
    """Make a folder, and bring the names of new ones to disk."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for place in missing:
        sync_folder(place.parent)


def _remove_narrower(partial: Path, width: int) -> None:
    """Remove the partial tiles that are narrower than a width."""
    if not partial.is_dir():
        return
    for file in partial.iterdir():
        if file.name.isdecimal() and int(file.name) < width:
            file.unlink(missing_ok=True)
    if width == WIDTH and not any(partial.iterdir()):
        partial.rmdir()

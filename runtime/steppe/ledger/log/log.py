"""The log: entries that are only ever added, one Merkle tree over them, one signed head.

The entries come from the ledger's store, where they are on disk already. Here they become files
that others can check. What a crash leaves half done is done again: the files beyond the last
checkpoint are written anew, with the same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from steppe.disk import disk_errors, sync_folder
from steppe.errors import UsageError
from steppe.ledger.log.checkpoint import Checkpoint, Proof, open_checkpoint, sign_checkpoint
from steppe.ledger.log.tiles import MOST_BYTES, WIDTH, Tiles
from steppe.ledger.signing import Note, PrivateKey, PublicKey, SignatureError
from steppe.ledger.tree import (
    CompactRange,
    Head,
    ProofError,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    root_of,
)

CHECKPOINT, COSIGNED = "checkpoint", "checkpoint.cosigned"
"""Names of the files of the last signed head, and of the last one that witnesses have signed."""


class LogReader:
    """Reads a log of a folder; other processes may add to it."""

    def __init__(self, folder: Path, origin: str, keys: Sequence[PublicKey]) -> None:
        """Open a log.

        Args:
            folder: Its folder.
            origin: Its name, the first line of its checkpoints.
            keys: Keys that may have signed it.
        """
        self.origin, self.folder, self._keys = origin, folder, tuple(keys)
        self._tiles = Tiles(folder)

    def note(self) -> str:
        """Return the last signed checkpoint, with the cosignatures that it has; empty without any.

        Raises:
            UsageError: It cannot be read.
        """
        note, cosigned = self._file(CHECKPOINT), self._file(COSIGNED)
        return cosigned if cosigned and _text_of(cosigned) == _text_of(note) else note

    def cosigned(self) -> str:
        """Return the last checkpoint that witnesses have signed; empty without any.

        Raises:
            UsageError: It cannot be read.
        """
        return self._file(COSIGNED)

    def checkpoint(self) -> Checkpoint:
        """Return the last checkpoint, with its signature checked.

        Raises:
            ProofError: It is that of another log, or none.
            SignatureError: No known key has signed it.
            UsageError: It cannot be read.
        """
        note = self.note()
        if not note:
            return Checkpoint(self.origin, CompactRange().head)
        return open_checkpoint(note, self.origin, self._keys)

    def entry(self, index: int) -> bytes:
        """Return an entry.

        Raises:
            UsageError: There is none at this place, or its file is damaged.
        """
        return self._tiles.entry(index)

    def entries(self, size: int) -> Iterator[bytes]:
        """Yield the first `size` entries.

        Raises:
            UsageError: A tile is missing or damaged.
        """
        for first in range(0, size, WIDTH):
            width = min(WIDTH, size - first)
            yield from self._tiles.entries(first // WIDTH, width)[:width]

    def tile(self, row: str, number: int, width: int) -> bytes:
        """Return the begin of a tile, as the file of a partial tile has it.

        Args:
            row: Its row, or `entries`.
            number: Its number in the row.
            width: Hashes or entries of it.

        Raises:
            UsageError: The tile is missing, damaged or narrower.
        """
        return self._tiles.begin(row, number, width)

    def note_with(self, index: int) -> str:
        """Return the last cosigned checkpoint, or the last one if this does not contain an entry.

        Raises:
            UsageError: It cannot be read.
        """
        return self._cosigned_of(index) or self.note()

    def proof(self, index: int, note: str | None = None) -> Proof:
        """Return the proof that the log contains an entry.

        Args:
            index: Place of the entry.
            note: The signed checkpoint; `note_with(index)` without it.

        Raises:
            ProofError: The checkpoint does not contain it.
            UsageError: A file is missing or damaged.
        """
        note = self.note_with(index) if note is None else note
        size = Checkpoint.read(Note.read(note).text).head.size if note else 0
        path = inclusion_proof(index, size, self._tiles.hash_at)
        return Proof(index, tuple(path), note)

    def paths(self, places: Sequence[int], size: int) -> list[tuple[bytes, ...]]:
        """Return the paths of the proofs of several entries; a hash that they share is read once.

        Args:
            places: Places of the entries.
            size: Size of the log in the checkpoint that the paths lead to.

        Raises:
            ProofError: The log does not contain one of them.
            UsageError: A file is missing or damaged.
        """
        hash_at = cache(self._tiles.hash_at)
        return [tuple(inclusion_proof(place, size, hash_at)) for place in places]

    def consistency(self, old: int, new: int) -> list[bytes]:
        """Return the proof that the log of `new` entries begins with that of `old` entries.

        Raises:
            ProofError: There are no such sizes.
            UsageError: A file is missing or damaged.
        """
        return consistency_proof(old, new, self._tiles.hash_at)

    def check_entry(self, index: int) -> bytes:
        """Return an entry after a check of its hash against the tiles.

        Raises:
            ProofError: The entry was changed after it was written.
            UsageError: A file is missing or damaged.
        """
        entry = self.entry(index)
        if leaf_hash(entry) != self._tiles.hash_at(0, index):
            raise ProofError(f"log: entry {index} is not the one whose hash is in the tree")
        return entry

    def _cosigned_of(self, index: int) -> str:
        """Return the last cosigned checkpoint if it contains an entry; else an empty text.

        One that none of the keys has signed is left out: the key was changed since.
        """
        note = self.cosigned()
        try:
            size = open_checkpoint(note, self.origin, self._keys).head.size if note else 0
        except (ProofError, SignatureError):
            return ""
        return note if index < size else ""

    def _file(self, name: str) -> str:
        path = self.folder / name
        with disk_errors(path):
            return path.read_text("utf-8", "replace") if path.exists() else ""


class Log(LogReader):
    """The one writer of a log."""

    def __init__(self, folder: Path, origin: str, keys: Sequence[PrivateKey]) -> None:
        """Open a log; it is made at the first entry.

        Args:
            folder: Its folder.
            origin: Its name.
            keys: Keys that sign each checkpoint: one, and the next one while keys change.

        Raises:
            ProofError: The tiles are not those of the checkpoint, or it is that of another log.
            SignatureError: None of the keys has signed the last checkpoint.
            UsageError: A file is missing or damaged.
        """
        super().__init__(folder, origin, [key.public for key in keys])
        assert keys, "a log is signed"
        self._private = tuple(keys)
        self._range = self._stored_range(self.checkpoint().head)

    @property
    def head(self) -> Head:
        """Size and root with all entries so far."""
        return self._range.head

    def add(self, entries: Sequence[bytes]) -> Note:
        """Bring entries to disk, then sign and publish the new head; return its note.

        Nothing is published before all of it is on disk. If this fails, the log is as before.

        Raises:
            DiskFullError: No space is left.
            UsageError: An entry is too long, or a file cannot be written.
        """
        too_long = max(map(len, entries), default=0)
        if too_long > MOST_BYTES:
            raise UsageError(f"log: asked for entries of {MOST_BYTES} bytes, found {too_long}")
        leaves = [leaf_hash(entry) for entry in entries]
        grown = self._range
        for leaf in leaves:
            grown = grown.append(leaf)
        self._tiles.write(self._range.size, leaves, entries)
        note = sign_checkpoint(self.origin, grown.head, self._private)
        publish_note(self.folder / CHECKPOINT, note)
        self._range = grown
        return note

    def _stored_range(self, head: Head) -> CompactRange:
        """Return the compact range of a head from the tiles, and compare the roots."""
        subtrees, first = list[bytes](), 0
        for level in reversed(range(head.size.bit_length())):
            if head.size >> level & 1:
                subtrees.append(self._tiles.hash_at(level, first >> level))
                first += 1 << level
        if root_of(head.size, self._tiles.hash_at) != head.root:
            raise ProofError(f"log: the tiles of {self.folder} are not those of its checkpoint")
        return CompactRange(head.size, tuple(subtrees))


def publish_note(path: Path, note: Note) -> None:
    """Bring a note to disk, so that readers find the old one or the new one.

    Raises:
        DiskFullError: No space is left.
        UsageError: It cannot be written.
    """
    draft = path.with_name(path.name + ".draft")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("w") as file:
            file.write(note.whole)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        sync_folder(path.parent)


def _text_of(note: str) -> str:
    return note.rpartition("\n\n")[0]

"""Is each entry of a log the one that its signed head contains?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from steppe.ledger.log.checkpoint import Checkpoint
from steppe.ledger.log.tiles import HEIGHT, WIDTH, Tiles
from steppe.ledger.tree import CompactRange, ProofError, head_of, leaf_hash


def check_log(folder: Path, checkpoint: Checkpoint, on_entries: Callable[[int], None]) -> None:
    """Check every entry against its hash, every tile against those above it, and the root.

    Args:
        folder: The folder of the log.
        checkpoint: Its head; the signature was checked.
        on_entries: Called after each tile with the number of entries checked so far.

    Raises:
        ProofError: Something does not fit; the line names it.
        UsageError: A file is missing or damaged.
    """
    tiles, size = Tiles(folder), checkpoint.head.size
    complete, rest = CompactRange(), CompactRange()
    rows: dict[int, list[bytes]] = defaultdict(list)
    for first in range(0, size, WIDTH):
        number, width = first // WIDTH, min(WIDTH, size - first)
        leaves = _checked_leaves(tiles, number, width)
        if width == WIDTH:
            root = head_of(leaves).root
            _check_above(tiles, rows, number, root)
            complete = complete.append(root)
        else:
            for leaf in leaves:
                rest = rest.append(leaf)
        on_entries(first + width)
    found = CompactRange(size, (*complete.subtrees, *rest.subtrees)).head
    if found != checkpoint.head:
        raise ProofError(f"log: its {size} entries are not those of the checkpoint")


def _checked_leaves(tiles: Tiles, number: int, width: int) -> list[bytes]:
    """Return the hashes of the entries of a tile, which are those of the tile of hashes."""
    entries, hashes = tiles.entries(number, width), tiles.hashes(number, width)
    leaves = [leaf_hash(entry) for entry in entries[:width]]
    for place, (leaf, hash_) in enumerate(zip(leaves, hashes, strict=True)):
        if leaf != hash_:
            index = number * WIDTH + place
            raise ProofError(f"log: entry {index} is not the one whose hash is in the tree")
    return leaves


def _check_above(tiles: Tiles, rows: dict[int, list[bytes]], number: int, root: bytes) -> None:
    """Compare the root of a complete tile with its place in the tile above, and so on up.

    Args:
        tiles: The tiles.
        rows: The hashes so far of the tile that is not complete yet, by its row; changed here.
        number: Number of the tile in row 0.
        root: Its root.
    """
    row = 1
    while True:
        if tiles.hash_at(HEIGHT * row, number) != root:
            raise ProofError(f"log: hash {number} in row {row} of tiles does not fit those below")
        rows[row].append(root)
        if len(rows[row]) < WIDTH:
            return
        root = head_of(rows.pop(row)).root
        number, row = number // WIDTH, row + 1

"""Exports entries of a log for tools of SCITT and COSE, for the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from steppe.disk import disk_errors
from steppe.ledger.scitt.statement import transparent
from steppe.ledger.signing import PrivateKey
from steppe.run.ledger import Trust, checked_entry, name_of


@dataclass(frozen=True, slots=True)
class Exported:
    """The files of an entry: its transparent statement, and the COSE receipt alone."""

    statement: Path
    receipt: Path


def export_scitt(folder: Path, indexes: Sequence[int], key: Path, to: Path) -> list[Exported]:
    """Write entries of a log as transparent statements, after a check of each.

    The public key is written beside them as `log.pem`.

    Args:
        folder: Folder of the log.
        indexes: Places of the entries, from 0.
        key: File of the private key of the log.
        to: Folder of the files; it is made.

    Raises:
        ProofError: The log does not contain what it should.
        SignatureError: The key has not signed its checkpoint.
        UsageError: There is no such log or entry, or a file cannot be read or written.
    """
    private = PrivateKey.read(key)
    trust = Trust(private.name, (private.public,))
    found = [(index, *checked_entry(folder, index, trust)) for index in indexes]
    files = []
    for index, entry, proof in found:
        made = transparent(entry, proof, private)
        name = name_of(entry, index)
        files.append(Exported(to / f"{name}.scitt", to / f"{name}.cose"))
        _write(files[-1].statement, made.statement)
        _write(files[-1].receipt, made.receipt)
    _write(to / "log.pem", private.public.pem.encode())
    return files


def _write(path: Path, content: bytes) -> None:
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

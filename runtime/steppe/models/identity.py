"""How the files of a model are identified: revision of the weights, hash of the tokenizer."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from steppe.errors import InstallError
from steppe.models.hub import cached_snapshot, hub_cache
from steppe.models.store import is_at_hand, is_model_folder, models_folder

TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tekken.json")
"""Files that hold a whole tokenizer, the first that is there."""
_REVISION = re.compile(r"[0-9a-f]{40}")
_DIGITS = 16


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """What is known of the files of a model.

    Attributes:
        revision: Revision of its repository; empty for a folder that is of none.
        tokenizer_sha: SHA-256 of its tokenizer, the first 16 hexadecimal digits; empty if unknown.
    """

    revision: str = ""
    tokenizer_sha: str = ""


def identity_of(name: str) -> ModelIdentity:
    """Return what the files of a model on this machine say; nothing if they are not here.

    Args:
        name: A known name, a folder, or a Hugging Face id.
    """
    folder = _folder(name)
    if folder is None:
        return ModelIdentity()
    revision = folder.name if _REVISION.fullmatch(folder.name) else ""
    files = (folder / file for file in TOKENIZERS)
    tokenizer = next((file for file in files if file.is_file()), None)
    try:
        found = b"" if tokenizer is None else tokenizer.read_bytes()
    except OSError:
        found = b""
    digest = hashlib.sha256(found).hexdigest()[:_DIGITS] if found else ""
    return ModelIdentity(revision, digest)


def _folder(name: str) -> Path | None:
    if is_at_hand(name):
        return models_folder() / name
    if is_model_folder(name):
        return Path(name).expanduser().resolve()
    try:
        return cached_snapshot(name, hub_cache())
    except InstallError:
        return None

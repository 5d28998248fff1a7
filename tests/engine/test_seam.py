from __future__ import annotations

from pathlib import Path

import pytest

from steppe.engine.seam import VARIABLE, NoHook, Seam, read_seam
from steppe.errors import EngineError


class Hook(NoHook):
    def __init__(self, gpu_indices: list[int]) -> None:
        self.gpu_indices = gpu_indices


def test_a_published_seam_is_read_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "")
    seam = Seam("/block", "module:function", {"gpus": [0, 1]}, watch_parent=False)
    seam.publish()
    assert read_seam() == seam
    assert seam.path == Path("/block")


def test_without_a_seam_there_is_no_control_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert read_seam() is None


def test_a_seam_without_a_hook_makes_an_empty_hook() -> None:
    assert isinstance(Seam("/block").make_hook(), NoHook)


def test_a_hook_is_made_with_its_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steppe.engine.seam.Hook", Hook, raising=False)
    hook = Seam("/block", "steppe.engine.seam:Hook", {"gpu_indices": [1]}).make_hook()
    assert isinstance(hook, Hook)
    assert hook.gpu_indices == [1]


@pytest.mark.parametrize("name", ["nowhere:make", "json:nothing", "json", "nowhere", ":make"])
def test_a_hook_that_is_not_there_is_an_error_that_names_it(name: str) -> None:
    with pytest.raises(EngineError, match=f"asked for step hook '{name}'"):
        Seam("/block", name).make_hook()

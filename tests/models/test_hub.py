"""What is known of a model on Hugging Face without a download."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors

from steppe.models.hub import HubAnswer, ask_hub, cached_snapshot, hub_cache, weights_bytes


def file(name: str, size: int | None) -> SimpleNamespace:
    return SimpleNamespace(rfilename=name, size=size)


class FakeApi:
    """The hub's client with one answer."""

    def __init__(self, answer: Any, gate: Exception | None = None) -> None:
        self.answer, self.gate = answer, gate

    def __call__(self) -> FakeApi:
        return self

    def model_info(self, name: str, **options: Any) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def auth_check(self, name: str) -> None:
        if self.gate is not None:
            raise self.gate


def info(*files: SimpleNamespace, gated: bool = False) -> SimpleNamespace:
    return SimpleNamespace(siblings=list(files), gated=gated)


def refusal(kind: type[Any]) -> Exception:
    error: Exception = OSError.__new__(kind)
    return error


@pytest.mark.parametrize(
    ("api", "answer"),
    [
        (
            FakeApi(info(file("model.safetensors", 90), file("config.json", 5), file("x.pt", 70))),
            HubAnswer(95),
        ),
        (FakeApi(info(file("model.safetensors", None))), HubAnswer(None)),
        (FakeApi(info(file("a.safetensors", 9), gated=True)), HubAnswer(9)),
        (
            FakeApi(info(gated=True), refusal(errors.GatedRepoError)),
            HubAnswer(refused="its licence has to be accepted first"),
        ),
        (
            FakeApi(refusal(errors.RepositoryNotFoundError)),
            HubAnswer(refused="there is no such model, or this user may not see it"),
        ),
        (FakeApi(RuntimeError("no route\nat all")), HubAnswer(unreachable="no route")),
    ],
)
def test_the_hub_says_size_and_permission(
    monkeypatch: pytest.MonkeyPatch, api: FakeApi, answer: HubAnswer
) -> None:
    monkeypatch.setattr(huggingface_hub, "HfApi", api)
    assert ask_hub("one/model") == answer


def test_a_hub_that_hangs_is_not_waited_for() -> None:
    released = threading.Event()

    def hang(name: str, timeout_s: float) -> HubAnswer:
        released.wait()
        return HubAnswer()

    assert ask_hub("one/model", 0.01, hang) == HubAnswer(unreachable="no answer within 0.01 s")
    released.set()


def test_a_download_counts_once_all_its_parts_are_there(tmp_path: Path) -> None:
    folder = tmp_path / "models--one--model" / "snapshots" / "abc"
    folder.mkdir(parents=True)
    assert cached_snapshot("one/model", tmp_path) is None
    (folder / "config.json").write_text("{}")
    parts = {"a": "model-1.safetensors", "b": "model-2.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": parts}))
    (folder / "model-1.safetensors").write_bytes(bytes(10))
    assert cached_snapshot("one/model", tmp_path) is None
    (folder / "model-2.safetensors").write_bytes(bytes(20))
    assert cached_snapshot("one/model", tmp_path) == folder
    assert weights_bytes(folder) == 30
    assert cached_snapshot("another/model", tmp_path) is None


def test_the_cache_of_the_client_is_used() -> None:
    assert hub_cache().name == "hub"

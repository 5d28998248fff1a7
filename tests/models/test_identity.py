from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from steppe.models import identity
from steppe.models.identity import ModelIdentity, identity_of
from steppe.models.tiny_model import write_tiny_model


def test_a_folder_is_known_by_its_tokenizer(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "tiny", seed=0)
    sha = hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest()[:16]
    assert identity_of(str(folder)) == ModelIdentity("", sha)


def test_a_model_of_the_hub_is_known_by_its_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "models--lab--small" / "snapshots" / ("0a" * 20)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    monkeypatch.setattr(identity, "hub_cache", lambda: tmp_path)
    assert identity_of("lab/small") == ModelIdentity("0a" * 20, "")


def test_of_a_model_that_is_not_here_nothing_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "hub_cache", lambda: tmp_path)
    assert identity_of("lab/none") == ModelIdentity()

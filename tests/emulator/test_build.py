"""Compiling the emulated library."""

from __future__ import annotations

from pathlib import Path

import pytest

from steppe.emulator.build import build_library
from steppe.errors import InstallError


def test_the_library_is_compiled_once_into_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    library = build_library(("-O0", "-Werror"))
    assert library.name == "libnvidia-ml.so.1"
    assert library.parent.parent == tmp_path / "steppe" / "emulator"
    assert [path.name for path in library.parent.iterdir()] == [library.name]
    monkeypatch.setenv("CC", "no-such-compiler")
    assert build_library(("-O0", "-Werror")) == library


def test_without_a_compiler_the_error_says_what_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(InstallError, match=r"looked for cc, gcc, clang, found none") as caught:
        build_library()
    assert "\n" not in str(caught.value)


def test_the_compiler_that_was_asked_for_is_the_one_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CC", "no-such-compiler -m64")
    with pytest.raises(InstallError, match="CC=no-such-compiler"):
        build_library()


def test_a_compiler_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(InstallError, match=r"could not compile .*no-such-option"):
        build_library(("-fno-such-option-at-all",))
    left = list((tmp_path / "steppe" / "emulator").rglob("*.so.1"))
    assert left == []


def test_a_cache_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(file))
    with pytest.raises(InstallError, match="cannot write the emulated GPU library"):
        build_library()

"""The library under AddressSanitizer and UndefinedBehaviorSanitizer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from steppe.emulator.build import build_library

FLAGS = (
    "-fsanitize=address,undefined,float-cast-overflow,float-divide-by-zero",
    *("-fno-sanitize-recover=all", "-g", "-Werror"),
)
EXERCISE = Path(__file__).parent / "exercise.py"


def runtime(name: str) -> str:
    """Return the path of a sanitizer runtime of gcc; its bare name when there is none."""
    asked = ["gcc", f"-print-file-name={name}"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


def test_the_library_is_clean_under_sanitizers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "gcc")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    runtimes = [runtime("libasan.so"), runtime("libubsan.so")]
    if not all(os.path.isabs(path) for path in runtimes):
        pytest.skip("gcc has no sanitizer runtimes here")
    library = build_library(FLAGS)
    variables = {
        **os.environ,
        "LD_PRELOAD": " ".join(runtimes),
        "ASAN_OPTIONS": "detect_leaks=0",
        "STEPPE_EMULATED_PRIVILEGE": "1",
    }
    child = subprocess.run(
        [sys.executable, str(EXERCISE), str(library), str(tmp_path / "gpus")],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.stderr == ""
    assert child.stdout.strip() == "all calls made"
    assert child.returncode == 0

"""The tutorial for customers runs with the verifier, `cryptography` and nothing else."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.docs.blocks import COMMANDS, all_blocks
from tests.fixtures.ledger import KEY, fill_ledger

from steppe.cli import main

PAGE = "docs/tutorials/verify_your_bill.md"
BLOCKS = [block for block in all_blocks() if block.page == PAGE and block.marker == "a bill"]
PACKAGES = ("cryptography", "cffi", "_cffi_backend", "pycparser")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a customer has: a bill, the operator's key, and a Python with one package."""
    folder = tmp_path_factory.mktemp("customer")
    fill_ledger(folder / "operator", hours=3)
    arguments = ["--tenant", "lab", "--month", "2026-11", "--to", str(folder / "bill")]
    made = CliRunner().invoke(main, ["ledger", "statement", str(folder / "operator"), *arguments])
    assert made.exit_code == 0, made.output
    (folder / "operator.pub").write_text(KEY.public.text + "\n")
    (folder / "packages").mkdir()
    for name in PACKAGES:
        if (spec := importlib.util.find_spec(name)) is not None and spec.origin is not None:
            origin = Path(spec.origin)
            place = origin.parent if origin.name == "__init__.py" else origin
            (folder / "packages" / place.name).symlink_to(place)
    (folder / "bin").mkdir()
    python = folder / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    python.chmod(0o755)
    return folder


def run(folder: Path, *program: str) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    path = {"PATH": f"{folder / 'bin'}:/usr/bin:/bin", "PYTHONPATH": str(folder / "packages")}
    return subprocess.run(
        program,
        cwd=folder,
        env={**kept, **path},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_customer_has_no_steppe(folder: Path) -> None:
    found = run(folder, "python", "-c", "import cryptography, steppe")
    assert "No module named 'steppe'" in found.stderr


def test_the_page_runs_in_its_order(folder: Path) -> None:
    assert len(BLOCKS) >= 5
    output = ""
    for block in BLOCKS:
        shell = ("bash", "-euo", "pipefail", "-c", block.text)
        program = shell if block.language == COMMANDS else ("python", "-c", block.text)
        found = run(folder, *program)
        assert found.returncode == 0, f"{PAGE}:{block.line}:\n{found.stdout}{found.stderr}"
        output += found.stdout + found.stderr
    for said in (
        "the log contains the receipt; its price is that of the logged tariff",
        "proof: the log does not contain this entry",
        "7 receipts, ",
        " CNY: the table adds up",
        "6 books hold",
    ):
        assert said in output, output

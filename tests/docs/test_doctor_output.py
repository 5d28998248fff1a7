"""The output of `steppe doctor` on the page of five steps is that of eight emulated H100."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from typing import Any

import pytest
from tests.docs.blocks import ROOT, all_blocks

from steppe.config import shipped_config
from steppe.run.doctor.report import EMULATED

PAGE, COMMAND = "docs/five_steps.md", "steppe doctor mine.yaml"
ROW = re.compile(r"^(?:\w+)?\s+(ok|unknown|warning|fatal)\s\s+(\w[\w ]*?)\s{2,}(\S.*)$")
GPU = re.compile(r"^(\d+)\s+(GPU-\w+)\s+(\d+ GB)\s+(\d+ MHz)\s+(\d+ W)\s+\d+ W\s+every")
OF_THIS_HOST = ("download", "disk", "weights", "port", "open files", "shared memory")
"""Checks whose result is that of the machine and its network."""


def shown() -> str:
    (text,) = [
        block.text
        for block in all_blocks()
        if block.page == PAGE and block.text.startswith(COMMAND) and block.language == "text"
    ]
    return text


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    command = [sys.executable, "-m", "steppe.cli", "doctor", str(shipped_config("eight_gpus.yaml"))]
    result = subprocess.run(
        [*command, "--emulated", "h100", "--json"], capture_output=True, text=True, check=False
    )
    assert result.stdout, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("cc") is None, reason="the emulator needs a C compiler")
def test_the_page_shows_what_the_doctor_says_of_eight_emulated_h100(
    document: dict[str, Any],
) -> None:
    lines = shown().splitlines()
    rows = [found.groups() for line in lines if (found := ROW.match(line))]
    said = [(row["level"], row["check"]) for row in document["findings"]]
    of_gpus = {(level, check) for level, check in said if check not in OF_THIS_HOST}
    assert {(level, check) for level, check, _ in rows if check not in OF_THIS_HOST} == of_gpus
    for check in ("GPUs", "memory errors", "replicas", "supply"):
        (found,) = [row["found"] for row in document["findings"] if row["check"] == check]
        (text,) = [text for _, name, text in rows if name == check]
        assert found.startswith(text), "the first line of the cell"
    gpus = [found.groups() for line in lines if (found := GPU.match(line))]
    assert [(int(row[0]), row[1], row[4]) for row in gpus] == [
        (gpu["index"], gpu["uuid"][:12], f"{gpu['enforced_w']:.0f} W")
        for gpu in document["nodes"][0]["gpus"]
    ]


def test_the_page_calls_its_output_emulated() -> None:
    assert shown().splitlines()[1] == EMULATED
    assert "Outputs on this page come from **emulated** GPUs" in (ROOT / PAGE).read_text()

"""`LiveScheduler` against vLLM's own scheduler in random scenarios, steps in flight together.

See `scheduler_properties.py` for what holds, and `scheduler_mutants.py` for the bugs put in by
hand that these properties catch.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def check(*arguments: str) -> Any:
    """Return what `scheduler_properties.py` found."""
    pytest.importorskip("vllm.version")
    command = [sys.executable, "-m", "tests.engine.scheduler_properties", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])["found"]


@pytest.mark.timeout(300)
def test_no_limit_changes_a_token_or_loses_a_request_or_a_block() -> None:
    assert check("--scenarios", "100") == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_limit_changes_a_token_in_two_thousand_five_hundred_scenarios() -> None:
    assert check("--first", "1000", "--scenarios", "2500") == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_each_bug_put_in_by_hand_is_caught() -> None:
    found = check("--mutants", "--scenarios", "400")
    assert len(found) >= 24
    assert [name for name, failure in found.items() if failure is None] == []


def test_the_documentation_lists_each_bug_put_in_by_hand() -> None:
    source = Path(__file__).with_name("scheduler_mutants.py").read_text()
    bugs = re.findall(r"^class (\w+)\(LiveScheduler\)", source, re.MULTILINE)
    listed = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "vllm.md").read_text(), re.MULTILINE)
    assert listed == bugs

"""The commands of README and docs that need a fleet, all on one fleet of a tiny model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml
from tests.docs.blocks import Block, all_blocks
from tests.docs.running import environment, run_block, working_folder
from tests.fixtures.serving import free_port

from steppe.models.tiny_model import write_tiny_model

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(1500)]

DOCUMENTED = "127.0.0.1:8000"
SHORTER = {
    "--rate 0.5 --duration 10": "--rate 2 --duration 3",
    "--rate 2 --duration 10": "--rate 2 --duration 3",
    "--traffic-change 5:": "--traffic-change 1:",
}
"""What loads are given here in place of what the pages say."""
SERVE = ("serve", "configs/demo.yaml", "--record", "runs/one")
BLOCKS = [block for block in all_blocks() if block.marker == "fleet"]


def serves(block: Block) -> bool:
    return block.steppe_commands[:1] == (SERVE,)


def once_each(blocks: list[Block]) -> list[Block]:
    """Return the blocks without those that have the words of an earlier one, on another page."""
    words = {tuple(block.text.replace("\\\n", " ").split()): block for block in reversed(blocks)}
    return list(reversed(words.values()))


@dataclass(frozen=True, slots=True)
class Fleet:
    """A `steppe serve` of the demo's configuration, as README has it."""

    process: subprocess.Popen[bytes]
    folder: Path
    address: str

    def is_ready(self) -> bool:
        assert self.process.poll() is None, (self.folder / "serve.log").read_text()
        with suppress(OSError), urllib.request.urlopen(f"http://{self.address}/health/ready"):
            return True
        return False

    def run(self, block: Block) -> None:
        text = block.text.replace(DOCUMENTED, self.address)
        for documented, shorter in SHORTER.items():
            text = text.replace(documented, shorter)
        run_block(replace(block, text=text), self.folder, within_s=600)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """The demo's fleet with one replica of a tiny model of the same name, on a free port.

    It measures nothing: on two cores, that would slow the commands down.
    """
    folder, port = working_folder(tmp_path), free_port()
    file = folder / "configs" / "demo.yaml"
    config = yaml.safe_load(file.read_text())
    tiny = write_tiny_model(tmp_path / "tiny", seed=0)
    config["model"] |= {"name": str(tiny), "served_name": "smollm2-135m"}
    config["gateway"] |= {"port": port}
    config["fleet"] |= {"replicas": 1}
    config["device"] |= {"count": 1}
    config["frontier"] |= {"refine": False}
    file.write_text(yaml.safe_dump(config))
    with (folder / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            ["steppe", *SERVE],
            cwd=folder,
            env=environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    yield Fleet(process, folder, f"127.0.0.1:{port}")
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(120)


def assert_books_hold(fleet: Fleet) -> None:
    """Audit the ledger of the run that has ended, with the sums of its record."""
    audited = subprocess.run(
        ["steppe", "ledger", "audit", "runs/one"],
        cwd=fleet.folder,
        env=environment(fleet.folder),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert audited.returncode == 0, audited.stdout + audited.stderr
    assert "record: the sums of 1 run are those of the ledger" in audited.stdout


def test_the_commands_that_need_a_fleet_run(fleet: Fleet) -> None:
    assert any(serves(block) for block in BLOCKS)
    give_up_s = time.monotonic() + 900
    while not fleet.is_ready():
        assert time.monotonic() < give_up_s, "the fleet is not ready"
        time.sleep(0.5)
    for block in once_each([block for block in BLOCKS if not serves(block)]):
        fleet.run(block)
    fleet.process.send_signal(signal.SIGINT)
    assert fleet.process.wait(180) == 0, (fleet.folder / "serve.log").read_text()
    assert_books_hold(fleet)
    summary = json.loads((fleet.folder / "runs" / "one" / "summary.json").read_text())
    assert summary["requests"]["completed"] > 20
    assert summary["requests"]["failed"] == 0

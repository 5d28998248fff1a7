"""Three sites on one machine, as `steppe demo-sites` runs them; their engines have no model."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from tests.fixtures.serving import RAY_HELPERS, START_S, processes, wait_until

from steppe.config import shipped_config
from steppe.config.yaml_file import read_mapping
from steppe.fleet.stale_runs import state_folder

pytestmark = [pytest.mark.alone, pytest.mark.cluster, pytest.mark.timeout(1500)]

SITES = ("hohhot", "guizhou", "shanghai")


@pytest.fixture(scope="module")
def east_west(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped sites, all of them with engines that have no model."""
    shipped = shipped_config("east_west")
    folder = Path(shutil.copytree(shipped, tmp_path_factory.mktemp("sites") / "east_west"))
    for name in SITES:
        values = dict(read_mapping(folder / f"{name}.yaml"))
        values["engine"] = {"kind": "synthetic", "max_batch_limit": 16, "max_tokens_per_step": 128}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(values))
    return folder


@dataclass
class Demo:
    """A `steppe demo-sites` in a session of its own.

    Its sites are in sessions of theirs, and all of them have the mark in their environment.
    """

    process: subprocess.Popen[bytes]
    mark: str
    folder: Path
    log: Path

    @classmethod
    def start(cls, config: Path, folder: Path, day_s: float) -> Demo:
        log, mark = folder.parent / f"{folder.name}.log", f"STEPPE_TEST={uuid.uuid4().hex}"
        command = [sys.executable, "-m", "steppe", "demo-sites", "--config", str(config)]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, "--record", str(folder), "--duration", str(day_s)],
                env=os.environ | dict([mark.split("=")]),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return cls(process, mark, folder, log)

    def alive(self) -> dict[int, str]:
        """Return the processes that are left, without two helpers of Ray that end later."""
        found = processes(self.process.pid, self.mark)
        return {pid: name for pid, name in found.items() if not name.startswith(RAY_HELPERS)}

    def sites(self) -> dict[str, int]:
        """Return the process of each site."""
        return {
            name: pid
            for name in SITES
            for pid, command in self.alive().items()
            if f"serve {self.folder}/sites/{name}/run.yaml" in command
        }

    def wait_for_words(self, words: str) -> None:
        def has_printed() -> bool:
            text = self.log.read_text()
            assert self.process.poll() is None or words in text, text
            return words in text

        wait_until(has_printed, f"{words!r} in {self.log}", START_S)

    def files(self) -> list[str]:
        """Return the files in memory of its sites."""
        names = [path.name for path in state_folder().glob("steppe-*")]
        return [name for name in names if any(str(pid) in name for pid in self.known)]

    known: tuple[int, ...] = ()

    def clean(self) -> None:
        """Leave no process."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(START_S)
        for pid in self.alive():
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def start_demo(east_west: Path, tmp_path: Path) -> Iterator[list[Demo]]:
    """A list for demos; what is in it ends with the test."""
    demos: list[Demo] = []
    yield demos
    for demo in demos:
        demo.clean()


def test_load_moves_with_wind_and_sun_and_the_books_of_all_sites_agree(
    east_west: Path, tmp_path: Path, start_demo: list[Demo]
) -> None:
    demo = Demo.start(east_west, tmp_path / "run", day_s=40.0)
    start_demo.append(demo)
    code = demo.process.wait(START_S)
    text = demo.log.read_text()
    assert code == 0, text
    found = json.loads((demo.folder / "demo.json").read_text())
    near, moving = found["results"]["nearest"], found["results"]["anywhere"]
    assert near["moved"] == 0
    assert moving["moved"] > 0
    assert moving["on_surplus"] > near["on_surplus"]
    assert near["completed"] == near["sent"] == moving["completed"] == moving["sent"]
    assert found["books"]["pairs"], "what moved is settled"
    assert all(pair["agrees"] and not pair["open_receipts"] for pair in found["books"]["pairs"])
    moved = sum(pair["receipts"] for pair in found["books"]["pairs"])
    assert moved >= moving["moved"]
    assert (demo.folder / "figure.png").is_file()
    wait_until(lambda: not demo.alive(), "no process is left")


def test_a_demo_that_is_killed_leaves_no_process_and_no_file(
    east_west: Path, tmp_path: Path, start_demo: list[Demo]
) -> None:
    demo = Demo.start(east_west, tmp_path / "run", day_s=60.0)
    start_demo.append(demo)
    demo.wait_for_words("serving: ")
    sites = demo.sites()
    assert set(sites) == set(SITES)
    demo.known = tuple(sites.values())
    assert demo.files()
    os.kill(demo.process.pid, signal.SIGKILL)
    assert demo.process.wait(START_S) != 0
    wait_until(lambda: not demo.alive(), "no process is left")
    wait_until(lambda: not demo.files(), "no file in memory is left")

"""The wheel works with the oldest and with the newest packages that it allows."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from release.commands import outcome
from release.distributions import Distributions, unpack
from release.environments import CleanEnvironment, clean_environment, newest_python, resolved
from release.finding import Finding, ReleaseError

EXTRAS = ("fleet", "grid", "modbus", "otel", "postgres")
"""All extras but the engines, which pin their one release of vLLM, and the kernels for GPUs."""
ENGINES = ("torch", "transformers", "triton", "vllm")
ABSENT = (*ENGINES, "joserfc", "opentelemetry", "paho", "psycopg", "pymodbus", "ray", "s2python")
"""Libraries of the extras: modules that need them do not load without."""
TESTS = (
    "tests/config",
    "tests/power",
    "tests/tenants",
    "tests/page",
    "tests/grid/meters",
    "tests/grid/dsx",
)
"""Tests that use most of the libraries and take a minute or so."""
TOOLS_OF_TESTS = (
    "pytest", "pytest-asyncio", "pytest-timeout", "hypothesis", "httpx", "jsonschema",
)  # fmt: skip
LEFT_OUT = "not slow and not cluster and not gpu and not alone"
SIMULATED_S = "10"


@dataclass(frozen=True, slots=True)
class Pins:
    """One set of packages that is tried.

    Attributes:
        name: `lowest` or `newest`.
        resolution: What uv calls it.
        python: The interpreter.
        extras: Extras that are installed as well.
    """

    name: str
    resolution: str
    python: str
    extras: tuple[str, ...]

    @property
    def title(self) -> str:
        """What a message calls it."""
        return f"{self.name}, {'all but engines' if self.extras else 'no extra'}"


def check(built: Distributions, scratch: Path) -> Finding:
    """Try the wheel in four clean environments: lowest and newest, without and with extras.

    Raises:
        ReleaseError: There is no uv, or packages cannot be had.
    """
    newest = newest_python(built.root)
    tries = [
        Pins(name, resolution, python, extras)
        for name, resolution, python in (
            ("lowest", "lowest-direct", sys.executable),
            ("newest", "highest", newest),
        )
        for extras in ((), EXTRAS)
    ]
    figures: list[str] = []
    faults: list[str] = []
    for pins in tries:
        try:
            figure, found = try_pins(pins, built, scratch)
        except ReleaseError as error:
            figure, found = "no answer", [str(error)]
        figures.append(f"{pins.title}: {figure}")
        faults += [f"{pins.title}: {fault}" for fault in found]
    return Finding("; ".join(figures), tuple(faults))


def try_pins(pins: Pins, built: Distributions, scratch: Path) -> tuple[str, list[str]]:
    """Install the wheel beside some packages and use it; return a figure, and what is wrong.

    Raises:
        ReleaseError: It cannot be installed, or a command fails.
    """
    place = clean_environment(scratch, f"{pins.name}{len(pins.extras)}", pins.python)
    requirements = place.home / "requirements.txt"
    requirements.write_text(resolved(built.root, pins.python, pins.resolution, pins.extras))
    place.install("-r", requirements, built.wheel)
    version = place.run("python", "-c", "import platform; print(platform.python_version())").strip()
    packages = place.packages
    imports = json.loads(_imports(place, ENGINES if pins.extras else ABSENT))
    faults = [*imports["faults"], *command_faults(place, built)]
    if not imports["place"].startswith(str(place.folder)):
        faults.append(f"asked for steppe in {place.folder}, found it in {imports['place']}")
    figure = f"Python {version}, {packages} packages, {imports['imported']} modules"
    if pins.extras:
        place.install("-c", requirements, *TOOLS_OF_TESTS)
        passed, failed = run_tests(place, unpack(built.sdist, place.home / "sources"))
        figure += f", {passed}"
        faults += failed
    return figure, faults


def command_faults(place: CleanEnvironment, built: Distributions) -> Iterator[str]:
    """Yield what is wrong with the commands that need no extra."""
    asked = f"steppe {built.wheel.name.split('-')[1]}"
    found = place.run("steppe", "--version").splitlines()[0]
    if found != asked:
        yield f"asked for {asked}, found {found}"
    place.run("steppe", "config", "copy", "windy_day.yaml", "run.yaml")
    record = ("--record", "run", "--duration", SIMULATED_S, "--json")
    summary = json.loads(place.run("steppe", "simulate", "run.yaml", *record))
    if summary["energy_source"] != "modelled" or summary["output_tokens"] <= 0:
        yield f"simulate: asked for tokens on modelled joules, found {summary['output_tokens']}"
    if not (place.home / "run" / "figure.png").is_file():
        yield "simulate: asked for figure.png, found none"


def run_tests(place: CleanEnvironment, sources: Path) -> tuple[str, list[str]]:
    """Run quick tests of the sdist against the wheel; return their count, and those that fail.

    Warnings of old packages about themselves are no faults.
    """
    options = ("-q", "-p", "no:cacheprovider", "-W", "default", "-m", LEFT_OUT, "-rfE")
    command = [str(place.python), "-m", "pytest", *options, *TESTS]
    done = outcome(command, sources, {**place.variables, "PYTHONDONTWRITEBYTECODE": "1"}, 1200.0)
    lines = done.stdout.splitlines() or done.stderr.splitlines() or ["no output"]
    failed = [line for line in lines if line.startswith(("FAILED ", "ERROR "))]
    if done.returncode != 0 and not failed:
        failed = [f"pytest ended with {done.returncode}: {lines[-1]}"]
    return lines[-1].partition(" in ")[0].strip("= "), failed


def _imports(place: CleanEnvironment, absent: Sequence[str]) -> str:
    script = Path(__file__).with_name("import_all.py")
    return place.run("python", "-I", script, *absent).splitlines()[-1]

"""The demo runs on a clean machine, from the wheel alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from release.distributions import Distributions
from release.environments import TORCH_CPU_INDEX, CleanEnvironment, clean_environment
from release.finding import Finding, ReleaseError

DURATION_S = 60
LIMIT_S = 900.0
"""Longest time for the demo, s: it gets its model, converts it, and starts two engines."""


def check(built: Distributions, scratch: Path) -> Finding:
    """Install `steppe[cpu]` into a clean environment, and run `steppe demo` in an empty folder.

    Raises:
        ReleaseError: It cannot be installed, or the demo fails.
    """
    place = clean_environment(scratch, "demo", with_pip=True)
    install(place, built)
    place.run("steppe", "demo", "--duration", str(DURATION_S), "--record", "run", limit_s=LIMIT_S)
    summary = json.loads((place.home / "run" / "summary.json").read_text())
    tokens = f"{summary['output_tokens']} tokens on {summary['energy_j']:.0f} emulated J"
    checked = f"{place.packages} packages from the wheel; {summary['duration_s']:.0f} s, {tokens}"
    return Finding(checked, tuple(summary_faults(summary)))


def summary_faults(summary: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the summary of a demo should not say."""
    if summary["output_tokens"] <= 0:
        yield f"asked for tokens, found {summary['output_tokens']}"
    if failed := summary["requests"]["failed"]:
        yield f"asked for no failed request, found {failed}"
    if summary["energy_source"] != "emulated":
        yield f"asked for emulated joules, found {summary['energy_source']}"
    if len(summary["ledger"]) != 1:
        yield f"asked for the books of one run, found {len(summary['ledger'])}"


def install(place: CleanEnvironment, built: Distributions) -> None:
    """Install the wheel with the extra `cpu`, as install/install.sh does.

    Raises:
        ReleaseError: Its packages cannot be had.
    """
    overrides = built.root / "install" / "overrides.txt"
    words = ("--override", overrides, f"steppe[cpu] @ {built.wheel.as_uri()}")
    try:
        place.install(*words)
    except ReleaseError:
        place.install(*words, index=TORCH_CPU_INDEX)

"""The targets of the Makefile do what README and CONTRIBUTING say of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINES = (ROOT / "Makefile").read_text().splitlines()
TARGETS = {
    found[1]: found[2].split("##")[0].split()
    for line in LINES
    if (found := re.fullmatch(r"([a-z-]+):(?!=)(.*)", line))
}
"""The prerequisites of each target."""


def test_the_benchmarks_of_make_bench_need_nothing_and_write_nothing() -> None:
    (names,) = (line.split()[2:] for line in LINES if line.startswith("BENCHES :="))
    sources = [(ROOT / "bench" / f"{name}.py").read_text() for name in names]
    assert names
    assert all('if __name__ == "__main__":' in source for source in sources)
    assert not any("sys.argv" in source or "DEFAULT_DATA" in source for source in sources)
    assert not any("OUT = " in source for source in sources)


def test_every_target_is_phony() -> None:
    (phony,) = (line.split()[1:] for line in LINES if line.startswith(".PHONY:"))
    assert set(phony) == set(TARGETS)


@pytest.mark.parametrize("target", ["check", "test"])
def test_checks_and_tests_build_the_documentation(target: str) -> None:
    assert "static" in TARGETS[target]
    (command,) = (LINES[i + 1] for i, line in enumerate(LINES) if line.startswith("static:"))
    assert command.endswith(" style docs")


def test_the_demo_installs_no_tool_for_developers() -> None:
    assert TARGETS["demo"] == ["install"]
    (command,) = (LINES[i + 1] for i, line in enumerate(LINES) if line.startswith("install:"))
    assert command.strip() == "@install/install.sh $(EXTRAS)"


def test_documentation_is_built_with_warnings_as_errors() -> None:
    (command,) = (line for line in LINES if "sphinx-build" in line)
    assert " -W " in command


def test_failed_tests_run_once_more_and_fail_the_target_if_they_fail_again() -> None:
    (again,) = (line for line in LINES if "--lf " in line)
    assert "--lfnf none" in again  # without a known failure no test runs, which is an error
    assert again.rstrip().endswith("}")
    assert sum("$(call run_tests," in line for line in LINES) == 3

"""A wheel that does not work beside some packages is found."""

from __future__ import annotations

from pathlib import Path

import pytest
from release import demo, pins
from release.distributions import Distributions
from release.environments import CleanEnvironment
from release.finding import ReleaseError

BUILT = Distributions(Path(), Path("steppe-1.2.3.tar.gz"), Path("steppe-1.2.3-py3-none-any.whl"))
SUMMARY = '{"energy_source": "modelled", "output_tokens": 5}'


@pytest.fixture
def place(tmp_path: Path) -> CleanEnvironment:
    """An environment whose `steppe` is right: of this version, with a summary and a figure."""
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "home").mkdir()
    found = CleanEnvironment(tmp_path / "venv", tmp_path / "home")
    commands(found, version="1.2.3", summary=SUMMARY, figure="run/figure.png")
    return found


def commands(place: CleanEnvironment, *, version: str, summary: str, figure: str) -> None:
    program = place.folder / "bin" / "steppe"
    program.write_text(
        "#!/bin/sh\n"
        f'case "$1" in --version) echo "steppe {version}";;\n'
        f"simulate) mkdir -p run; : > {figure}; echo '{summary}';; esac\n"
    )
    program.chmod(0o755)


def test_commands_that_work_have_no_fault(place: CleanEnvironment) -> None:
    assert list(pins.command_faults(place, BUILT)) == []


def test_another_version_is_found(place: CleanEnvironment) -> None:
    commands(place, version="1.2.2", summary=SUMMARY, figure="run/figure.png")
    (found,) = pins.command_faults(place, BUILT)
    assert found == "asked for steppe 1.2.3, found steppe 1.2.2"


def test_a_simulation_without_tokens_or_figure_is_found(place: CleanEnvironment) -> None:
    commands(place, version="1.2.3", summary=SUMMARY.replace("5", "0"), figure="run/other.png")
    assert list(pins.command_faults(place, BUILT)) == [
        "simulate: asked for tokens on modelled joules, found 0",
        "simulate: asked for figure.png, found none",
    ]


def test_a_command_that_does_not_start_is_one_line(place: CleanEnvironment) -> None:
    program = place.folder / "bin" / "steppe"
    program.write_text("#!/bin/sh\necho 'ImportError: no NoArgsIsHelpError' >&2\nexit 1\n")
    with pytest.raises(ReleaseError, match=r"^steppe --version failed: ImportError: no NoArgs"):
        list(pins.command_faults(place, BUILT))


def test_tests_that_fail_are_named(place: CleanEnvironment) -> None:
    python = place.folder / "bin" / "python"
    python.write_text("#!/bin/sh\necho 'FAILED tests/a.py::b'\necho '1 failed in 3.0s'\nexit 1\n")
    python.chmod(0o755)
    assert pins.run_tests(place, Path("/")) == ("1 failed", ["FAILED tests/a.py::b"])


def test_tests_that_do_not_start_are_a_fault(place: CleanEnvironment) -> None:
    python = place.folder / "bin" / "python"
    python.write_text("#!/bin/sh\necho 'no module pytest' >&2\nexit 4\n")
    python.chmod(0o755)
    _, failed = pins.run_tests(place, Path("/"))
    assert failed == ["pytest ended with 4: no module pytest"]


def test_a_demo_with_failed_requests_and_no_books_is_found() -> None:
    requests = {"failed": 2, "completed": 1}
    summary = {"requests": requests, "output_tokens": 0, "energy_source": "nvml", "ledger": []}
    assert list(demo.summary_faults(summary)) == [
        "asked for tokens, found 0",
        "asked for no failed request, found 2",
        "asked for emulated joules, found nvml",
        "asked for the books of one run, found 0",
    ]

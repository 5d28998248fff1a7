"""A clean environment asks the indexes of pip, and knows nothing of this tree."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from release import import_all
from release.commands import reason
from release.environment import document_faults
from release.environments import CleanEnvironment, pip_sources

SCRIPT = Path(import_all.__file__)
UV = """
  × No solution found when resolving dependencies:
  ╰─▶ Because there is no version of torch==2.13.0+cpu and
      steppe depends on it, your requirements are unsatisfiable.
"""
CHAINED = """
try:
    import no_such_library
except ImportError as error:
    raise OSError("no library") from error
"""


def test_uv_asks_where_pip_looks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_FIND_LINKS", "/srv/a /srv/b")
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.example/simple")
    options = " ".join(pip_sources())
    assert "--find-links /srv/a --find-links /srv/b" in options
    assert "--default-index https://index.example/simple" in options


def test_a_variable_is_stronger_than_a_file_of_pip(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "pip.conf").write_text("[global]\nfind-links = /srv/file\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.setenv("PIP_FIND_LINKS", "/srv/variable")
    assert "/srv/variable" in pip_sources()
    assert "/srv/file" not in pip_sources()


def test_programs_of_a_clean_environment_do_not_see_this_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/srv/tree")
    monkeypatch.setenv("STEPPE_CACHE", "/srv/cache")
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.example/simple")
    variables = CleanEnvironment(tmp_path / "venv", tmp_path / "home").variables
    assert not {"PYTHONPATH", "STEPPE_CACHE"} & set(variables)
    assert variables["HOME"] == str(tmp_path / "home")
    assert variables["PIP_INDEX_URL"] == "https://index.example/simple"


def test_the_conclusion_of_uv_is_one_line() -> None:
    assert reason("", UV) == (
        "╰─▶ Because there is no version of torch==2.13.0+cpu and "
        "steppe depends on it, your requirements are unsatisfiable."
    )
    assert reason("one\n", "two\n\n") == "two"
    assert reason("", "") == "no output"


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """Two packages: one module loads, one lacks a library, one is broken."""
    for name in ("steppe", "steppe_kernels"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
    modules = {
        "fine": "",
        "__main__": "raise SystemExit(1)",
        "lacking": "import no_such_library.part",
        "behind": CHAINED,
        "broken": "raise AttributeError('no RequestKey')",
    }
    for name, text in modules.items():
        (tmp_path / "steppe" / f"{name}.py").write_text(text)
    return tmp_path


@pytest.mark.parametrize(("absent", "broken"), [(["no_such_library"], 1), ([], 3)])
def test_a_module_that_does_not_load_is_named_unless_it_lacks_what_is_absent(
    packages: Path, absent: list[str], broken: int
) -> None:
    code = f"import sys; sys.path.insert(0, {str(packages)!r}); import runpy; "
    code += f"sys.argv[1:] = {absent!r}; runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False
    )
    report = json.loads(done.stdout)
    assert len(report["faults"]) == broken
    assert "steppe.broken: AttributeError: no RequestKey" in report["faults"]
    assert (report["imported"], report["without"]) == (1, 3 - broken)
    assert report["place"] == str(packages / "steppe")


def document(**own: str) -> dict[str, object]:
    components = [{"name": "numpy", "version": "2.0"}, {"name": "pandas", "version": "2.2"}]
    component = {"name": "steppe", "version": "1.2.3", **own}
    return {"specVersion": "1.6", "metadata": {"component": component}, "components": components}


def test_a_list_of_all_that_is_installed_is_fine() -> None:
    assert list(document_faults(document(), 2, "1.2.3")) == []


@pytest.mark.parametrize(
    ("found", "packages", "fault"),
    [
        (document(version="1.2.2"), 2, "asked for steppe 1.2.3, found steppe 1.2.2"),
        (document(), 3, "asked for 3 packages, found 2"),
        ({**document(), "specVersion": "1.5"}, 2, "asked for CycloneDX 1.6, found 1.5"),
        (
            {**document(), "components": [{"name": "numpy"}]},
            1,
            "asked for a version of numpy, found none",
        ),
    ],
)
def test_a_wrong_list_is_found(found: dict[str, object], packages: int, fault: str) -> None:
    assert list(document_faults(found, packages, "1.2.3")) == [fault]

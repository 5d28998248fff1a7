"""What is missing in an archive, and what does not belong into it, is found."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from release.contents import (
    IN_SDIST,
    NOT_IN_WHEEL,
    NOWHERE,
    against_tree,
    equal_files,
    machine_words,
    missing,
    private_words,
    too_large,
    unwanted,
    vendored,
)

VENDOR = "steppe/page/vendor/"
PLOT = hashlib.sha256(b"plot").hexdigest()
SHIPPED = {
    f"{VENDOR}SHA256SUMS": f"{PLOT}  uPlot.min.js\n{PLOT}  uPlot.LICENSE\n".encode(),
    f"{VENDOR}uPlot.min.js": b"plot",
    f"{VENDOR}uPlot.LICENSE": b"plot",
}


def test_a_pattern_without_a_file_is_named() -> None:
    held = {"steppe/py.typed": b"", "steppe/emulator/a.c": b""}
    wanted = ("steppe/py.typed", "steppe/emulator/*.c", "steppe/page/templates/*.html")
    assert list(missing("wheel", held, wanted)) == [
        "wheel: asked for steppe/page/templates/*.html, found none"
    ]


def test_an_sdist_of_the_package_alone_is_not_enough() -> None:
    found = list(missing("sdist", {"pyproject.toml": b"", "PKG-INFO": b""}, IN_SDIST))
    assert "sdist: asked for tests/conftest.py, found none" in found
    assert len(found) == len(IN_SDIST) - 2


@pytest.mark.parametrize(
    "name",
    [
        "tests/test_a.py", "steppe/test_a.py", "steppe/grid/tests/a.py", "bench/a.py", "docs/a.md",
        "steppe/__pycache__/a.cpython-311.pyc", "steppe/a.so", "steppe/a.py.orig", "steppe/key.pem",
    ],
)  # fmt: skip
def test_a_file_that_does_not_belong_into_a_wheel_is_named(name: str) -> None:
    (found,) = unwanted("wheel", {name: b"", "steppe/a.py": b""}, (*NOT_IN_WHEEL, *NOWHERE))
    assert found.endswith(f", found {name}")


def test_a_file_of_the_tree_that_is_not_in_the_wheel_is_named(tree: Path) -> None:
    held = {"steppe/deploy/chart/steppe/Chart.yaml": b"", "steppe-1.2.3.dist-info/RECORD": b""}
    assert list(against_tree(tree, held)) == [
        "wheel: asked for steppe/__init__.py of the tree, found none"
    ]


def test_a_file_of_the_wheel_that_git_does_not_track_is_named(tree: Path) -> None:
    held = {"steppe/deploy/chart/steppe/Chart.yaml": b"", "steppe/__init__.py": b"", "a.py": b""}
    assert list(against_tree(tree, held)) == [
        "wheel: asked for files that git tracks only, found a.py"
    ]


def test_equal_files_are_named_but_for_the_copies_of_the_chart() -> None:
    held = {
        "steppe/one.yaml": b"1",
        "steppe/two.yaml": b"1",
        "steppe/deploy/prometheus/rules.yml": b"2",
        "steppe/deploy/chart/steppe/files/rules.yml": b"2",
        "steppe/a/__init__.py": b"3",
        "steppe/b/__init__.py": b"3",
        "steppe/py.typed": b"",
        "steppe_kernels/py.typed": b"",
    }
    assert list(equal_files(held)) == [
        "wheel: asked for each file once, found steppe/one.yaml and steppe/two.yaml equal"
    ]


def test_files_of_others_with_licence_and_checksum_are_fine() -> None:
    assert list(vendored(SHIPPED)) == []


def test_a_changed_file_of_others_is_named() -> None:
    (found,) = vendored({**SHIPPED, f"{VENDOR}uPlot.min.js": b"changed"})
    assert found.startswith(f"wheel: asked for uPlot.min.js with SHA-256 {PLOT}, found ")


def test_a_file_of_others_without_a_licence_is_named() -> None:
    held = {name: content for name, content in SHIPPED.items() if "LICENSE" not in name}
    assert list(vendored(held)) == [
        "wheel: asked for the licence uPlot.LICENSE of uPlot.min.js, found none"
    ]


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("path = '/home/" + "maria/steppe'", "/home/" + "maria"),
        ("see /root" + "/.cache", "/root"),
        ("/Users" + "/lin/x", "/Users" + "/lin"),
        ("index = https://packages.internal.example/simple", "packages.internal.example"),
    ],
)
def test_a_name_of_a_machine_is_found_with_its_line(line: str, word: str) -> None:
    held = {"steppe/a.py": f"first\n{line}\n".encode()}
    assert list(machine_words("wheel", held, frozenset({"packages.internal.example"}))) == [
        f"wheel: asked for no machine's names, found {word} at steppe/a.py:2"
    ]


@pytest.mark.parametrize(
    "line", ["HOME=/home/steppe", "{{root}}/a", "https://pypi.org/simple", "~/.cache", "a/home/b"]
)
def test_what_is_the_same_on_each_machine_is_no_name_of_one(line: str) -> None:
    assert list(machine_words("wheel", {"a": line.encode()}, frozenset())) == []


def test_bytes_are_not_read_as_text() -> None:
    content = b"\x89PNG\0" + b"/root" + b"/x"
    assert list(machine_words("wheel", {"a.png": content}, frozenset())) == []


def test_the_folder_of_the_tree_and_the_index_of_pip_are_names_of_a_machine(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://packages.internal.example/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://pypi.org/simple")
    monkeypatch.setenv("PIP_FIND_LINKS", "/srv/wheels")
    words = private_words(tree)
    assert {str(tree), "packages.internal.example", "/srv/wheels"} <= words
    assert "pypi.org" not in words


def test_a_file_that_is_too_large_is_named(tmp_path: Path) -> None:
    path = tmp_path / "steppe.whl"
    path.write_bytes(b"12345")
    assert list(too_large(path, 5)) == []
    assert list(too_large(path, 4)) == ["steppe.whl: asked for 4 bytes at most, found 5"]

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from steppe.errors import UsageError
from steppe.outputs import NewFile, OutPath, refuse_unwritable, write_whole


def give(kind: OutPath, path: str) -> Result:
    @click.command()
    @click.option("--out", type=kind)
    def command(out: Path) -> None:
        click.echo(repr(out))

    return CliRunner().invoke(command, ["--out", path])


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("taken", "found one that exists"),
        (".", "found one that exists"),
        ("no/such", "found no folder"),
        ("taken/below", "found no folder"),
        ("new/", "new/: asked for a new file, found the name of a folder"),
        ("n" * 300, "File name too long"),
        ("/proc/mine", "/proc: cannot write here"),
    ],
)
def test_a_file_that_cannot_be_created_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("taken").write_text("mine")
    found = give(NewFile(), path).exception
    assert isinstance(found, UsageError)
    assert said in str(found)
    assert [file.name for file in tmp_path.iterdir()] == ["taken"]
    assert Path("taken").read_text() == "mine"


def test_an_empty_path_is_not_the_working_directory() -> None:
    result = give(NewFile(), "")
    assert result.exit_code == 2
    assert "found an empty one" in result.output


def test_a_new_file_and_a_device_are_accepted(tmp_path: Path) -> None:
    for path in (tmp_path / "new", Path("/dev/null")):
        assert give(NewFile(), str(path)).output == f"{path!r}\n"
        write_whole(path, [b"a", b"b"])
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("new", b"ab")]


def test_checking_a_folder_leaves_nothing(tmp_path: Path) -> None:
    refuse_unwritable(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match="/proc/a/b: cannot write here"):
        refuse_unwritable(Path("/proc/a/b"))


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    def lines() -> Iterator[bytes]:
        yield b"half"
        raise OSError(28, "No space left on device")

    with pytest.raises(UsageError, match="out: cannot write: No space left"):
        write_whole(tmp_path / "out", lines())
    assert list(tmp_path.iterdir()) == []

"""`steppe report`."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner
from tests.fixtures.made_record import write_record

from steppe.cli import main


def test_a_record_becomes_a_folder_with_a_page(tmp_path: Path) -> None:
    record = write_record(tmp_path / "monday")
    run = CliRunner().invoke(main, ["report", str(record), "--out", str(tmp_path / "page")])
    assert run.exit_code == 0, run.output
    assert run.output == f"wrote {tmp_path / 'page' / 'index.html'}\n"
    assert "monday" in (tmp_path / "page" / "index.html").read_text()


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    def error_of(*arguments: str) -> str:
        run = CliRunner().invoke(main, ["report", *arguments])
        assert run.exit_code == 2
        return run.output

    folder = str(tmp_path)
    assert "asked for --open or --out FOLDER, found neither" in error_of(folder)
    assert "asked for one record or two, found 3" in error_of(folder, folder, folder, "--open")
    assert "found no record.jsonl" in error_of(folder, "--out", str(tmp_path / "page"))

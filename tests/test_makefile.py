"""What `make` is told is there."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_what_make_bench_runs_are_benchmarks_that_write_nothing_here() -> None:
    lines = (ROOT / "Makefile").read_text().splitlines()
    (names,) = (line.split()[2:] for line in lines if line.startswith("BENCHES :="))
    sources = [(ROOT / "bench" / f"{name}.py").read_text() for name in names]
    assert names
    assert all('if __name__ == "__main__":' in source for source in sources)
    assert not any("sys.argv" in source or "DEFAULT_DATA" in source for source in sources)
    assert not any("OUT = " in source for source in sources)

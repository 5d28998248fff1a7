"""`steppe bench`: tokens per joule, measured as a referee would."""

from __future__ import annotations

import click

from steppe.cli import LazyGroup

METHOD = """Measure tokens per joule.

\b
The method, in seven rules:
1. State the boundary. Joules are those of the GPU boards, by their own
   counters, never by adding up power readings. Idle watts are part of them.
2. Measure the floor first: watts bare, with an engine loaded, and asleep.
3. Saturate. More requests are outstanding than the batch limit; a point
   counts only if the batch was full, or some waited, at every reading.
4. Be in a steady state. Each point runs until its batch has turned over and
   its temperature has settled; then windows of 10 s follow back to back.
5. Change one knob at a time: batch limit, clock limit, lengths. Prefill and
   decode are also measured apart, because they cost differently.
6. Show the error. 95 % intervals by bootstrap over the windows, plus the
   bound of the meter's own error. `compare` shows whether two results differ.
7. Refuse bad points: throttled, shared GPU, stale meter, clock not held.

\b
From zero to an answer:
  steppe bench sweep CONFIG --out A     which operating point is best?
  steppe bench serve --url URL          what does this load cost there?
  steppe bench compare A B              is B really better than A?
  steppe bench probe                    what do a byte and a FLOP cost here?

A sweep writes frontier.yaml (for `serve` and `simulate`), results.jsonl,
results.parquet and report.html. None of it is an MLPerf Power result.
"""

PLACES = {
    "sweep": (
        "steppe.cli.bench_sweep:sweep_command",
        "Measure the frontier of replicas or of a server.",
    ),
    "serve": (
        "steppe.cli.bench_serve:serve_command",
        "Measure latency and joules of a load on a server.",
    ),
    "compare": (
        "steppe.cli.bench_compare:compare_command",
        "Say whether two results differ.",
    ),
    "probe": (
        "steppe.cli.bench_probe:probe_command",
        "Measure what a byte and a FLOP cost on a GPU.",
    ),
}


@click.group(
    "bench",
    cls=LazyGroup,
    places=PLACES,
    help=METHOD,
    epilog="Example: steppe bench sweep configs/demo.yaml --out runs/sweep",
)
def bench_group() -> None:
    """Measure tokens per joule; the help text is `METHOD`."""

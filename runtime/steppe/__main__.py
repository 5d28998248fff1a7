"""`python -m steppe`: the same as the command `steppe`."""

from __future__ import annotations

from steppe.cli import main

main(prog_name="steppe")

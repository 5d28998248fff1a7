"""`steppe load`: replay a request trace against an endpoint."""

from __future__ import annotations

from steppe.load.command import load_command

__all__ = ["load_command"]

"""The reference of the named traffics."""

from __future__ import annotations

from generators.markdown import NOTICE, page, table
from steppe.load.traffic_shape import TrafficShape
from steppe.load.traffics import TRAFFICS

INTRODUCTION = """
What users ask for under `load.traffic` and `--traffic`; [traffics](../traffics.md) shows how to use
them. Lengths are the means of a request, in tokens, before they are cut to what the model takes.
They spread around the mean as lognormal distributions do. A prefix hit is a part of the prompt that
the prefix cache holds: it takes room in the KV cache, and is not computed.
"""


def traffics_page() -> str:
    """Return the page."""
    rows = [(f"`{name}`", *_lengths(shape), shape.description) for name, shape in TRAFFICS.items()]
    headings = ("traffic", "prompt", "prefix hits", "output", "what it is, and its source")
    return page(NOTICE, "# Traffics by name", INTRODUCTION, table(headings, rows))


def _lengths(shape: TrafficShape) -> tuple[str, str, str]:
    """Return the mean prompt, the share of it in the prefix cache, and the mean output."""
    mean = shape.mean_request()
    prompt_tokens = mean.prompt_tokens + mean.cached_tokens
    hits = mean.cached_tokens / prompt_tokens
    return _rounded(prompt_tokens), f"{hits:.0%}" if hits else "none", _rounded(mean.output_tokens)


def _rounded(tokens: float) -> str:
    """Return a mean as precisely as the draws give it."""
    return f"{round(tokens, -1):,.0f}" if tokens >= 100 else f"{tokens:.0f}"

"""How an engine learns that a request is a row of a batch, which comes after all others."""

from __future__ import annotations

PRIORITY_HEADER = "X-Vllm-Priority"
"""Header by which vLLM takes the priority of a request; it goes before the `priority` of a body."""
ROW_PRIORITY, FIRM_PRIORITY = 1000, 0
"""Priority of a row, and of any other request; vLLM serves lower numbers first."""

"""What an earlier engine computed of a request, so that another one can go on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PROMPT, OUTPUT = "steppe_prompt", "steppe_output"
"""Names in a body's `vllm_xargs`: token ids of the prompt, and of the output so far."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """What an earlier engine computed of a request.

    Attributes:
        prompt: Token ids of its prompt.
        output: Token ids of its output.
    """

    prompt: list[int]
    output: list[int]

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> Earlier | None:
        """Read the two lists; None without both.

        Raises:
            ValueError: One of them is missing or has something else than token ids.
        """
        if PROMPT not in fields and OUTPUT not in fields:
            return None
        prompt, output = fields.get(PROMPT), fields.get(OUTPUT)
        for name, ids in ((PROMPT, prompt), (OUTPUT, output)):
            if not isinstance(ids, list) or any(type(one) is not int for one in ids):
                raise ValueError(f"asked for {name} as token ids, found {ids!r:.40}")
        assert prompt is not None, "it is a list"
        assert output is not None, "it is a list"
        return cls(prompt, output)

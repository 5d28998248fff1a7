"""The host that engines share, as far as it slows a step."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Host:
    """What else keeps the host of an engine busy.

    A step waits for the CPU where other engines keep it busy, and what keeps it busy most is
    streaming long answers through a reasoning parser: for each token vLLM puts together, and lets
    the parser read, the text and the token ids of the whole answer so far
    (`vllm/entrypoints/openai/serving_chat.py`: `current_token_ids = previous_token_ids + ...`).
    Without a parser it does not, nor for harmony (gpt-oss), which is parsed token by token
    (`and not self.use_harmony`). That this is the cause is inferred, not measured: ML.ENERGY's runs
    on B200 are slow where such neighbours are many.

    Attributes:
        neighbours: Other engines on the host, which serve the same sort of answers.
        parsed_tokens: Mean answer that a parser reads anew for each of its tokens, tokens; 0
            without such a parser.
    """

    neighbours: int
    parsed_tokens: float

    @property
    def crowding(self) -> float:
        """Tokens of an answer that the neighbours' parsers read anew, over all neighbours."""
        return self.neighbours * self.parsed_tokens


ALONE = Host(0, 0.0)
"""One engine that has the host for itself."""

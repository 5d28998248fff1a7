"""Text from a growing list of token ids, whole characters at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_INCOMPLETE = "\ufffd"


@dataclass(slots=True)
class Detokenizer:
    """Turns a growing list of token ids into text, whole characters at a time.

    Attributes:
        tokenizer: Has `decode`.
        settled: Tokens whose text was returned.
    """

    tokenizer: Any
    settled: int = 0
    _context: int = 0

    def more(self, tokens: list[int], *, is_last: bool) -> str:
        """Return the text of new tokens; empty while a character is incomplete."""
        # The tokens of the text before stay in front: some tokenizers strip a leading space.
        before = self._decode(tokens[self._context : self.settled])
        text = self._decode(tokens[self._context :])
        if text.endswith(_INCOMPLETE) and not is_last:
            return ""
        self._context, self.settled = self.settled, len(tokens)
        return text[len(before) :]

    def _decode(self, tokens: list[int]) -> str:
        text: str = self.tokenizer.decode(tokens, skip_special_tokens=True)
        return text

from __future__ import annotations

from steppe.engine.detokenizer import Detokenizer


class Letters:
    """A tokenizer whose token n is the nth byte of a text."""

    def __init__(self, text: str) -> None:
        self.data = text.encode()

    def decode(self, tokens: list[int], skip_special_tokens: bool) -> str:
        assert skip_special_tokens
        return bytes(self.data[n] for n in tokens).decode(errors="replace")


def test_text_comes_in_whole_characters_without_loss() -> None:
    text = "Wind über die Steppe: 草原 🌾!"
    detokenizer, tokens, parts = Detokenizer(Letters(text)), list(range(len(text.encode()))), []
    for end in range(1, len(tokens) + 1):
        parts.append(detokenizer.more(tokens[:end], is_last=end == len(tokens)))
    assert "".join(parts) == text
    assert "�" not in "".join(parts)
    assert parts[0] == "W"


def test_a_text_that_ends_inside_a_character_still_ends() -> None:
    detokenizer = Detokenizer(Letters("草"))
    assert detokenizer.more([0, 1], is_last=False) == ""
    assert detokenizer.more([0, 1], is_last=True) == "�"

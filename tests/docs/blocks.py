"""The fenced blocks of README and docs, with the marker in front of each.

A block without a marker is run as it is. A comment in front of it says otherwise:
`<!-- docs-test: slow -->` (takes long), `<!-- docs-test: emulated GPU -->`,
`<!-- docs-test: fleet -->` (needs a fleet that serves on port 8000), or
`<!-- docs-test: by hand, needs REASON -->` (cannot run in a test).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
MARKER = re.compile(r"<!-- docs-test: (.+?) -->")
FENCE = re.compile(r"(`{3,})(\S*).*")
HERE_DOCUMENT = re.compile(r"<<'(\w+)'\n.*?^\1$", re.DOTALL | re.MULTILINE)
QUOTED = re.compile(r"'[^']*'")
SUBSTITUTION = re.compile(r"\$\([^)]*\)")
COMMANDS = "bash"
EMULATED = "emulated GPU"


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block.

    Attributes:
        page: Path of its page, relative to the repository.
        line: Line of its fence, counted from 1.
        language: What stands behind the fence.
        text: What stands in the block.
        marker: What the comment in front of it says; empty without one.
    """

    page: str
    line: int
    language: str
    text: str
    marker: str

    @property
    def steppe_commands(self) -> tuple[tuple[str, ...], ...]:
        """The arguments of every `steppe` command in the block."""
        if self.language != COMMANDS:
            return ()
        whole = HERE_DOCUMENT.sub("", self.text).replace("\\\n", " ")
        whole = QUOTED.sub(lambda found: found[0].replace("\n", " "), whole)
        return tuple(command for line in whole.splitlines() for command in steppe_commands(line))


def pages() -> tuple[Path, ...]:
    """Return README and every page of the documentation."""
    docs = (path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts)
    return (ROOT / "README.md", *sorted(docs))


def all_blocks() -> tuple[Block, ...]:
    """Return the blocks of every page."""
    return tuple(block for path in pages() for block in blocks_of(path))


def blocks_of(path: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page."""
    page, marker, lines = str(path.relative_to(ROOT)), "", path.read_text().splitlines()
    numbered = iter(enumerate(lines, start=1))
    for number, line in numbered:
        if found := MARKER.fullmatch(line.strip()):
            marker = found[1]
        elif fence := FENCE.fullmatch(line):
            closing, inside = fence[1], list[str]()
            for _, text in numbered:
                if text == closing:
                    break
                inside.append(text)
            yield Block(page, number, fence[2], "\n".join(inside) + "\n", marker)
            marker = ""
        elif line.strip():
            marker = ""


def steppe_commands(line: str) -> Iterator[tuple[str, ...]]:
    """Yield the arguments of each `steppe` command in a line of shell; `1` for a `$(...)`."""
    lexer = shlex.shlex(SUBSTITUTION.sub("1", line), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = "#"
    arguments: list[str] | None = None
    for word in lexer:
        if word in ("|", "&&", ";", ">", ">>", "&", "||", "(", ")"):
            if arguments is not None:
                yield tuple(arguments)
            arguments = None
        elif arguments is not None:
            arguments.append(word)
        elif word == "steppe" or word.endswith("bin/steppe"):
            arguments = []
    if arguments is not None:
        yield tuple(arguments)

"""Write the generated reference pages: `python docs/generate.py`.

`tests/docs` fails while a page on disk differs from what this writes.
"""

from __future__ import annotations

from pathlib import Path

from generators.cli import cli_page
from generators.configuration import configuration_page
from generators.metrics import metrics_page
from generators.traffics import traffics_page

REFERENCE = Path(__file__).parent / "reference"


def generated_pages() -> dict[Path, str]:
    """Return the text of every generated page, by its path."""
    return {
        REFERENCE / "configuration.md": configuration_page(),
        REFERENCE / "cli.md": cli_page(),
        REFERENCE / "metrics.md": metrics_page(),
        REFERENCE / "traffics.md": traffics_page(),
    }


def main() -> None:
    """Write the pages."""
    for path, text in generated_pages().items():
        path.write_text(text)


if __name__ == "__main__":
    main()

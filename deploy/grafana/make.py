"""Write the dashboards: `python -m deploy.grafana.make`, in the root of the repository."""

from __future__ import annotations

import json
from pathlib import Path

from deploy.grafana import energy_books, fleet, grid, sites, tenants
from deploy.grafana.panels import Json

FOLDER = Path(__file__).parent


def dashboards() -> dict[str, Json]:
    """Return all dashboards, by the names of their files."""
    return {
        "fleet.json": fleet.board(),
        "tenants.json": tenants.board(),
        "energy-books.json": energy_books.board(),
        "grid.json": grid.board(),
        "sites.json": sites.board(),
    }


def text_of(board: Json) -> str:
    """Return the content of the file of a dashboard."""
    return json.dumps(board, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the files."""
    for name, board in dashboards().items():
        (FOLDER / name).write_text(text_of(board))


if __name__ == "__main__":
    main()

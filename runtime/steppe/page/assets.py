"""The files of the page, its own and the vendored ones, each with its type and its version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from types import MappingProxyType

_FOLDERS = ("static", "vendor")
_TYPES = {
    "css": "text/css",
    "js": "text/javascript",
    "svg": "image/svg+xml",
}
SCRIPTS = (
    "uPlot.iife.min.js",
    "theme.js",
    "charts.js",
    "tables.js",
    "map.js",
    "access.js",
    "stream.js",
    "admin.js",
    "page.js",
)
"""The scripts of the live page, in the order in which they run."""
RECORD_SCRIPTS = (
    "uPlot.iife.min.js",
    "theme.js",
    "charts.js",
    "record.js",
)
"""Those of a record's page, in whose folder the data are one more."""
STYLES = ("uPlot.min.css", "page.css")
ICON = "favicon.svg"


@dataclass(frozen=True, slots=True)
class Asset:
    """A file of the page.

    Attributes:
        body: Its bytes.
        content_type: Its MIME type.
    """

    body: bytes
    content_type: str

    @property
    def version(self) -> str:
        """A short name of its content."""
        return sha256(self.body).hexdigest()[:12]


@cache
def assets() -> Mapping[str, Asset]:
    """Return the files by their names."""
    found = {}
    for folder in _FOLDERS:
        for path in files("steppe.page").joinpath(folder).iterdir():
            content_type = _TYPES.get(path.name.rpartition(".")[2])
            if content_type is not None:
                found[path.name] = Asset(path.read_bytes(), content_type)
    return MappingProxyType(found)

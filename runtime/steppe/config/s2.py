"""An energy manager to which the site is connected by S2."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, model_validator

from steppe.config.section import FilePath, NonNegative, Positive, Section


def _websocket(url: str) -> str:
    if not re.fullmatch(r"wss?://\S+", url):
        raise ValueError("asked for a URL that begins with ws:// or wss://")
    return url


def _currency(code: str) -> str:
    if not re.fullmatch(r"[A-Z]{3}", code):
        raise ValueError("asked for a code of ISO 4217 such as EUR")
    return code


class S2Section(Section):
    """An energy manager (CEM) of S2, EN 50491-12-2: the site is a resource manager of it."""

    url: Annotated[str, AfterValidator(_websocket)]
    """Its websocket, such as `wss://cem.example.org/s2`; `wss` unless on this host."""
    token_file: FilePath | None = None
    """A file with the token that is sent as `Authorization: Bearer`, relative to this file."""
    default_w: NonNegative
    """What holds where no instruction does, and while the link is lost, W at the site."""
    most_w: Positive
    """Most that the site ever draws, W: the highest limit that may be asked."""
    lost_s: Positive = 60.0
    """The link is lost after this long without a message, s. The energy manager answers the draw
    that it is sent once a second."""
    hold_s: Positive = 900.0
    """Length of a call that the stated limits can be held for, s."""
    notice_s: NonNegative = 10.0
    """Notice of a call for which the stated limits hold, s."""
    currency: Annotated[str, AfterValidator(_currency)] | None = None
    """Currency of the worth of tokens and energy. Absent: operation modes have no costs."""

    @model_validator(mode="after")
    def _figures_fit(self) -> S2Section:
        if self.default_w > self.most_w:
            raise ValueError(f"default_w: asked for at most most_w, found {self.default_w:g}")
        return self

    def resolved(self, folder: Path) -> S2Section:
        """Return the section with its paths relative to a folder."""
        if self.token_file is None:
            return self
        return self.model_copy(update={"token_file": folder / self.token_file})

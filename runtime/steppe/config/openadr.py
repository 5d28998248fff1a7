"""An OpenADR 3.1 server that the site listens to."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from steppe.config.ledger import Url
from steppe.config.section import FilePath, NonNegative, Positive, Section, Share


def _network(text: str) -> str:
    ipaddress.ip_network(text)
    return text


class WebhookSection(Section):
    """A door at which the OpenADR server reports changes at once."""

    url: Url
    """URL at which the server reaches it, without the path; `{port}` stands for the port. HTTPS
    unless it is on this host: put a proxy in front."""
    host: str = "127.0.0.1"
    """Address that it listens on."""
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Port that it listens on; 0 for a free one."""
    allowed: Annotated[
        tuple[Annotated[str, AfterValidator(_network)], ...], Field(strict=False)
    ] = ()
    """Networks from which notifications may come, such as `192.0.2.0/24`; none: from any."""


class NotifierSection(Section):
    """The MQTT notifier of the OpenADR server: its messages make the site ask at once."""

    ca_file: FilePath | None = None
    """Certificates that are trusted for its broker, PEM, relative to this file; those of the system
    if absent."""


class OpenAdrSection(Section):
    """An OpenADR 3.1 server (VTN): the site is a VEN of it."""

    url: Url
    """Its base URL, such as `https://vtn.example.org/openadr3/3.1.0`. HTTPS unless on this host."""
    client_id: str
    """The site's identity there."""
    secret_file: FilePath
    """A file with its secret in one line, relative to this file; readable by its owner only."""
    token_url: Url | None = None
    """Where tokens are had. Absent: what the server says at `/auth/server`."""
    name: str | None = None
    """Name of the VEN, the same after each start. Absent: `grid.site`."""
    programs: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Names of the programs whose events are followed; none: all that the site may see."""
    resources: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Resources of the site that are enrolled."""
    default_w: NonNegative
    """Import that holds where the server sets no limit, and while the link is lost, W at the site.
    State what the site is entitled to without any message."""
    most_w: Positive
    """A value above this is refused as an error of units, W."""
    lost_s: Positive = 300.0
    """The link is lost after this long without an answer, s."""
    poll_s: Positive = 30.0
    """Time between two polls, s."""
    simple_shares: Annotated[tuple[Share, Share, Share], Field(strict=False)] = (0.9, 0.75, 0.5)
    """Share of the baseline that may be drawn at level 1, 2 and 3 of SIMPLE."""
    emergency_share: Share = 0.5
    """Share of the baseline that may be drawn in an ALERT_GRID_EMERGENCY."""
    webhook: WebhookSection | None = None
    """Where the server may report changes at once; absent, there is no such door."""
    mqtt: NotifierSection | None = None
    """Whether the server's MQTT notifier is used (extra `grid`); `{}` for its defaults. Absent: it
    is not."""

    @model_validator(mode="after")
    def _figures_fit(self) -> OpenAdrSection:
        if self.default_w > self.most_w:
            raise ValueError(f"default_w: asked for at most most_w, found {self.default_w:g}")
        if self.poll_s >= self.lost_s:
            raise ValueError(f"poll_s: asked for less than lost_s, found {self.poll_s:g}")
        return self

    def resolved(self, folder: Path) -> OpenAdrSection:
        """Return the section with its paths relative to a folder."""
        update: dict[str, object] = {"secret_file": folder / self.secret_file}
        if self.mqtt is not None and self.mqtt.ca_file is not None:
            update["mqtt"] = NotifierSection(ca_file=folder / self.mqtt.ca_file)
        return self.model_copy(update=update)

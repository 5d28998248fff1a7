"""A DSX Flex broker that the site listens to."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from steppe.config.section import FilePath, NonNegative, Positive, Section


def _identifier(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", text):
        raise ValueError("asked for at most 64 of A-Z a-z 0-9 ._-")
    return text


Identifier = Annotated[str, AfterValidator(_identifier)]
"""Part of a DSX source."""


class BrokerSection(Section):
    """An MQTT broker."""

    host: str
    """Its host."""
    port: Annotated[int, Field(ge=1, le=65535)] = 8883
    """Its port."""
    username: str | None = None
    """Name of the site there; `oauthtoken` where the password is a token."""
    password_file: FilePath | None = None
    """A file with the password or token in one line, relative to this file."""
    ca_file: FilePath | None = None
    """Certificates that are trusted, PEM; required for a broker on another host."""
    certificate_file: FilePath | None = None
    """The certificate of the site, for mutual TLS, PEM."""
    key_file: FilePath | None = None
    """The private key of that certificate, PEM."""

    def resolved(self, folder: Path) -> BrokerSection:
        """Return the section with its paths relative to a folder."""
        return self.model_copy(update=_whole(self, folder))


class IsvSection(Section):
    """A participant whose load targets are taken."""

    id: Identifier
    """Its identifier (`//grid/v1/isv/ID`)."""
    kid: str
    """Name of its key in the header of its messages."""
    public_key_file: FilePath
    """Its public key, PEM, relative to this file."""
    algorithm: Literal["ES256", "RS256"] = "ES256"
    """The only algorithm that the key is used with."""
    bound: bool = False
    """Whether its messages must repeat their attributes in the signed header (`ce`). Without it,
    the operator of the broker can replay a target."""


class InfraSection(IsvSection):
    """An agent of the infrastructure that says what it did about breaches of the site."""

    id: Identifier
    """Its identifier (`//grid/v1/infra/ID`)."""


class FeedSection(Section):
    """A supply line of the site."""

    tag: str
    """Its name in messages."""
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the site's draw that it carries; those of all feeds add up to 1."""
    minimum_w: NonNegative = 0.0
    """Least that it can be brought to, W."""
    maximum_w: Positive
    """Most that it carries, W."""
    default_w: NonNegative
    """Most that it may draw where no target holds, and while the link is lost, W."""

    @model_validator(mode="after")
    def _figures_fit(self) -> FeedSection:
        if not self.minimum_w <= self.default_w <= self.maximum_w:
            found = f"{self.minimum_w:g}, {self.default_w:g} and {self.maximum_w:g}"
            raise ValueError(f"asked for minimum_w <= default_w <= maximum_w, found {found}")
        return self


class DsxSection(Section):
    """DSX Flex: signed load targets over MQTT, and the status of the site."""

    agent: Identifier
    """Identifier of the site (`//grid/v1/dsx-flex-agent/AGENT`)."""
    broker: BrokerSection
    """The broker."""
    kid: str
    """Name of the site's key in the header of its messages."""
    private_key_file: FilePath
    """The site's private key, PEM, relative to this file; readable by its owner only."""
    algorithm: Literal["ES256", "RS256"] = "ES256"
    """Algorithm of the site's key."""
    isvs: Annotated[tuple[IsvSection, ...], Field(strict=False, min_length=1)]
    """Those whose load targets are taken."""
    infra: Annotated[tuple[InfraSection, ...], Field(strict=False)] = ()
    """Agents of the infrastructure that say what they did about breaches; none: not heard."""
    feeds: Annotated[tuple[FeedSection, ...], Field(strict=False, min_length=1)]
    """The feeds of the site."""
    window_s: Positive = 300.0
    """How far the time of a message may be from ours, s."""
    lost_s: Positive = 300.0
    """The link is lost after this long without a connection, s; a target below the default is held
    for so long."""
    ramp_s: NonNegative = 40.0
    """How long the draw may be above a limit that fell before it is a breach, s."""
    settle_s: NonNegative = 60.0
    """How long a ramp up takes, s."""
    status_s: Positive = 60.0
    """Time between two status messages as a sign of life, s."""

    @model_validator(mode="after")
    def _feeds_fit(self) -> DsxSection:
        tags = [feed.tag for feed in self.feeds]
        if len(set(tags)) != len(tags):
            raise ValueError(f"feeds: asked for different tags, found {', '.join(tags)}")
        shares = sum(feed.share for feed in self.feeds)
        if abs(shares - 1.0) > 1e-6:
            raise ValueError(f"feeds: asked for shares that add up to 1, found {shares:g}")
        return self

    def resolved(self, folder: Path) -> DsxSection:
        """Return the section with its paths relative to a folder."""
        update = {
            **_whole(self, folder),
            "broker": self.broker.resolved(folder),
            "isvs": tuple(isv.model_copy(update=_whole(isv, folder)) for isv in self.isvs),
            "infra": tuple(each.model_copy(update=_whole(each, folder)) for each in self.infra),
        }
        return self.model_copy(update=update)


def _whole(section: Section, folder: Path) -> dict[str, Any]:
    """Return the files of a section, relative to a folder."""
    found = {name: getattr(section, name) for name in type(section).model_fields}
    return {
        name: folder / path
        for name, path in found.items()
        if name.endswith("_file") and path is not None
    }

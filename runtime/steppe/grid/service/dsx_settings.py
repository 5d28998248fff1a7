"""How the DSX link is set up: the section of the configuration, with keys and secrets read."""

from __future__ import annotations

from dataclasses import dataclass

from steppe.config import BrokerSection, DsxSection, IsvSection
from steppe.errors import UsageError
from steppe.grid.dsx.agent import AgentTerms
from steppe.grid.dsx.jws import KeyRing, Signer, TrustedKey
from steppe.grid.dsx.schedule import Feed
from steppe.grid.dsx.topics import source_of
from steppe.grid.links.mqtt import Broker, BrokerTls
from steppe.grid.service.secret_files import read_secret, read_text


@dataclass(frozen=True, slots=True)
class DsxSettings:
    """A site at a broker.

    Attributes:
        terms: How the agent treats its messages.
        feeds: The feeds of the site.
        shares: Share of the site's draw that each feed carries, by its tag.
        keys: The keys that are trusted.
        signer: The key of the site.
        broker: The broker.
        status_s: Time between two status messages as a sign of life, s.
    """

    terms: AgentTerms
    feeds: tuple[Feed, ...]
    shares: dict[str, float]
    keys: KeyRing
    signer: Signer
    broker: Broker
    status_s: float

    @property
    def default_w(self) -> float:
        """What the site may draw where no target holds, W."""
        return sum(feed.default_w for feed in self.feeds)


def dsx_settings(section: DsxSection) -> DsxSettings:
    """Return the settings of a section.

    Raises:
        UsageError: A key or secret cannot be read or is too weak.
    """
    keys = [
        _trusted(f"grid.dsx.isvs.{number}", isv, source_of("isv", isv.id))
        for number, isv in enumerate(section.isvs)
    ] + [
        _trusted(f"grid.dsx.infra.{number}", each, source_of("infra", each.id))
        for number, each in enumerate(section.infra)
    ]
    private = read_text("grid.dsx.private_key_file", section.private_key_file)
    source = source_of("dsx-flex-agent", section.agent)
    return DsxSettings(
        terms=AgentTerms(
            section.agent,
            tuple(isv.id for isv in section.isvs),
            section.window_s,
            section.lost_s,
            section.ramp_s,
            section.settle_s,
            infras=tuple(each.id for each in section.infra),
        ),
        feeds=tuple(
            Feed(feed.tag, feed.minimum_w, feed.maximum_w, feed.default_w) for feed in section.feeds
        ),
        shares={feed.tag: feed.share for feed in section.feeds},
        keys=KeyRing(keys),
        signer=Signer(section.kid, source, section.algorithm, private),
        broker=_broker(section.broker, section.agent),
        status_s=section.status_s,
    )


def _trusted(what: str, section: IsvSection, source: str) -> TrustedKey:
    pem = read_text(f"{what}.public_key_file", section.public_key_file)
    return TrustedKey(section.kid, source, section.algorithm, pem, section.bound)


def _broker(section: BrokerSection, agent: str) -> Broker:
    password = None
    if section.password_file is not None:
        password = read_secret("grid.dsx.broker.password_file", section.password_file)
    if section.ca_file is None and section.certificate_file is not None:
        asked = "asked for ca_file beside certificate_file"
        raise UsageError(f"grid.dsx.broker: {asked}, found none")
    tls = None
    if section.ca_file is not None:
        tls = BrokerTls(section.ca_file, section.certificate_file, section.key_file)
    return Broker(
        section.host,
        section.port,
        f"steppe-{agent}",
        username=section.username,
        password=password,
        tls=tls,
    )

"""The agent of a site: what it takes from the grid, and what it says to it.

It has no link and no clock of its own. Whoever owns the link calls `received`, `connected` and
`lost`, calls `step` in each control period, and publishes what `step` and `status` return.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from steppe.errors import UsageError
from steppe.grid.dsx.breach import Breach, BreachTerms, Over, ShedHint, step
from steppe.grid.dsx.enforcement import Enforcement, parse_enforcement
from steppe.grid.dsx.envelope import Envelope, MessageError, parse_envelope
from steppe.grid.dsx.jws import KeyRing, Signer
from steppe.grid.dsx.load_target import LoadTarget, parse_load_targets
from steppe.grid.dsx.replay import ReplayGuard
from steppe.grid.dsx.schedule import Feed, FeedLimit, FeedSchedule
from steppe.grid.dsx.seal import seal
from steppe.grid.dsx.status import FeedReport, Ramp, Trigger, status_content
from steppe.grid.dsx.topics import (
    ENFORCEMENT,
    LOAD_TARGET,
    POWER_BREACH,
    POWER_STATE,
    Publication,
    enforcement_topic,
    load_target_topic,
    power_breach_topic,
    power_state_topic,
    source_of,
)

_MOST_REMEMBERED = 1000


@dataclass(frozen=True, slots=True)
class AgentTerms:
    """How an agent treats its messages.

    Attributes:
        id: Its identifier at the grid.
        isvs: Identifiers of those whose load targets it takes.
        window_s: How far the time of a message may be from ours, s.
        lost_s: How long a target below the default is held after the link was lost, s.
        ramp_s: How long the draw may be above a limit that fell before it is a breach, s.
        settle_s: How long a ramp up takes, s: no measurement says when it has ended.
        breach: When a breach begins.
        infras: Identifiers of those of the infrastructure that say what they did about breaches.
    """

    id: str
    isvs: tuple[str, ...]
    window_s: float = 300.0
    lost_s: float = 300.0
    ramp_s: float = 40.0
    settle_s: float = 60.0
    breach: BreachTerms = field(default_factory=BreachTerms)
    infras: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Accepted:
    """Load targets that were taken.

    Attributes:
        correlation_id: The command.
        targets: The targets.
    """

    correlation_id: str
    targets: tuple[LoadTarget, ...]


@dataclass(frozen=True, slots=True)
class Repeated:
    """A message that was delivered before: nothing changes.

    Attributes:
        id: The message.
    """

    id: str


@dataclass(frozen=True, slots=True)
class Enforced:
    """The infrastructure has acted on a breach of the site; no limit changes.

    Attributes:
        enforcement: What it did.
    """

    enforcement: Enforcement


@dataclass(frozen=True, slots=True)
class Refused:
    """A message that was not taken.

    Attributes:
        reason: Why, in one line.
    """

    reason: str


class FlexAgent:
    """The agent of one site. Calls come from one thread."""

    def __init__(
        self,
        terms: AgentTerms,
        feeds: Iterable[Feed],
        keys: KeyRing,
        signer: Signer,
        started_s: float,
    ) -> None:
        """Begin with the default of each feed.

        Args:
            terms: How it treats its messages.
            feeds: The feeds of the site.
            keys: The keys of those whose messages it takes.
            signer: Its own key.
            started_s: Start of this process, s since the Unix epoch.

        Raises:
            UsageError: The key is of another source, or there are no feeds or two of one tag.
        """
        every = tuple(feeds)
        self._schedules = {each.tag: FeedSchedule(each) for each in every}
        if not every or len(every) != len(self._schedules):
            raise UsageError(f"feeds: asked for one or more of different tags, found {len(every)}")
        if signer.source != (source := source_of("dsx-flex-agent", terms.id)):
            raise UsageError(f"signer: asked for a key of {source}, found {signer.source}")
        self._terms = terms
        self._keys = keys
        self._signer = signer
        self._topics = {
            load_target_topic(each): (source_of("isv", each), LOAD_TARGET) for each in terms.isvs
        } | {
            enforcement_topic(each): (source_of("infra", each), ENFORCEMENT)
            for each in terms.infras
        }
        self._replays = ReplayGuard(terms.window_s, started_s)
        self._ramps = {each.tag: Ramp(each.default_w) for each in every}
        self._breaches: dict[str, Breach | None] = {}
        self._alerted: dict[str, str] = {}
        self._last: Envelope | None = None
        self._is_connected = False

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics that it listens to."""
        return tuple(self._topics)

    @property
    def schedules(self) -> Mapping[str, FeedSchedule]:
        """The targets of each feed."""
        return self._schedules

    def received(
        self, topic: str, payload: bytes, now_s: float
    ) -> Accepted | Enforced | Repeated | Refused:
        """Take a message; one that was delivered before changes nothing."""
        try:
            envelope = parse_envelope(payload)
            self._check_topic(topic, envelope)
            content = self._keys.verify(envelope)
            if self._replays.check(envelope, now_s) == "seen":
                return Repeated(envelope.id)
            if envelope.type == ENFORCEMENT:
                return Enforced(self._enforced(parse_enforcement(content)))
            targets = parse_load_targets(content)
            correlation_id = envelope.correlation_id or envelope.id
            self._schedules = self._with(targets, correlation_id, now_s)
        except MessageError as error:
            return Refused(str(error))
        self._last = envelope
        return Accepted(correlation_id, targets)

    def connected(self, now_s: float) -> None:
        """Note that the link is there again: targets hold on only if they are repeated."""
        if self._is_connected:  # the loss of the connection before was not noted
            self.lost(now_s)
        self._is_connected = True

    def lost(self, now_s: float) -> None:
        """Note that the link was lost."""
        self._is_connected = False
        until_s = now_s + self._terms.lost_s
        self._schedules = {tag: each.unconfirmed(until_s) for tag, each in self._schedules.items()}

    def limits(self, now_s: float) -> dict[str, FeedLimit]:
        """Return the limit of each feed now."""
        return {tag: each.limit(now_s) for tag, each in self._schedules.items()}

    def status(
        self,
        loads_w: Mapping[str, float],
        now_s: float,
        trigger: Literal["target_set", "periodic"],
    ) -> Publication:
        """Return a status of all feeds, to answer a target that was set or as a sign of life.

        Args:
            loads_w: What each feed draws, W.
            now_s: Time, s since the Unix epoch.
            trigger: Why it is sent.
        """
        return self._status(loads_w, now_s, dict.fromkeys(self._schedules, trigger))

    def step(
        self,
        loads_w: Mapping[str, float],
        now_s: float,
        hints: Mapping[str, Sequence[ShedHint]] | None = None,
    ) -> list[Publication]:
        """Return the messages that are due: a status where a ramp begins or ends, breach alerts.

        Args:
            loads_w: What each feed draws, W.
            now_s: Time, s since the Unix epoch.
            hints: What could be shed at each feed.
        """
        due = []
        triggers: dict[str, Trigger] = dict.fromkeys(self._schedules, "periodic")
        changes = 0
        for tag, limit in self.limits(now_s).items():
            ramp = self._ramps[tag].step(limit, loads_w[tag], now_s, self._terms.settle_s)
            self._ramps[tag], changed = ramp
            if changed is not None:
                triggers[tag] = changed
                changes += 1
            alert = self._alert(tag, limit, loads_w[tag], now_s, (hints or {}).get(tag, ()))
            due += [] if alert is None else [alert]
        return [self._status(loads_w, now_s, triggers), *due] if changes else due

    def _status(
        self, loads_w: Mapping[str, float], now_s: float, triggers: Mapping[str, Trigger]
    ) -> Publication:
        reports = {
            tag: FeedReport(loads_w[tag], self._ramps[tag], trigger)
            for tag, trigger in triggers.items()
        }
        last = self._last
        envelope = seal(
            self._signer,
            POWER_STATE,
            status_content(self._schedules, reports, now_s),
            now_s,
            correlation_id=(last.correlation_id or last.id) if last else None,
            parent=last.traceparent if last else None,
        )
        return Publication(power_state_topic(self._terms.id), envelope.to_bytes(), 1)

    def _alert(
        self, tag: str, limit: FeedLimit, load_w: float, now_s: float, hints: Sequence[ShedHint]
    ) -> Publication | None:
        ramp, held = self._ramps[tag], limit.held
        if ramp.direction == "down" and now_s - (ramp.since_s or 0.0) < self._terms.ramp_s:
            return None
        over = None if held is None else Over(tag, load_w, limit.watts, held.correlation_id)
        before = self._breaches.get(tag)
        self._breaches[tag], content = step(before, over, now_s, self._terms.breach, hints)
        if content is None:
            return None
        self._remember(content["breach"]["breach_id"], tag)
        command = content["target"]["correlation_id"]
        envelope = seal(self._signer, POWER_BREACH, content, now_s, correlation_id=command)
        return Publication(power_breach_topic(self._terms.id), envelope.to_bytes(), 2)

    def _check_topic(self, topic: str, envelope: Envelope) -> None:
        if topic not in self._topics:
            raise MessageError(f"topic: asked for one of {', '.join(self._topics)}, found {topic}")
        source, kind = self._topics[topic]
        if envelope.source != source:
            raise MessageError(f"source: asked for {source} on {topic}, found {envelope.source}")
        if envelope.type != kind:
            raise MessageError(f"type: asked for {kind}, found {envelope.type}")

    def _remember(self, breach_id: str, tag: str) -> None:
        self._alerted[breach_id] = tag
        if len(self._alerted) > _MOST_REMEMBERED:
            del self._alerted[next(iter(self._alerted))]

    def _enforced(self, found: Enforcement) -> Enforcement:
        if self._alerted.get(found.breach_id) != found.feed:
            asked = f"a breach of feed {found.feed} of this site"
            raise MessageError(f"breach_id: asked for {asked}, found {found.breach_id}")
        return found

    def _with(
        self, targets: Sequence[LoadTarget], correlation_id: str, now_s: float
    ) -> dict[str, FeedSchedule]:
        """Return the schedules with all targets of a message."""
        schedules = dict(self._schedules)
        for target in targets:
            for tag in target.feeds or tuple(schedules):
                if tag not in schedules:
                    asked = f"one of {', '.join(schedules)}"
                    raise MessageError(f"feed_tags: asked for {asked}, found {tag[:40]!r}")
                schedules[tag] = schedules[tag].with_target(target, correlation_id, now_s)
        return schedules

"""The resource manager of a site, without its link: what it answers, and which limits follow.

Whoever owns the link calls `opened` for each new connection, `received` for each message, and
`due` once a second, and sends what they return, in that order.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import NAMESPACE_URL, uuid5

from steppe.errors import DiskFullError, UsageError
from steppe.grid.limits.limit import Limit
from steppe.grid.s2.control import QUANTITY, ControlType, Envelopes, Modes, SiteNow
from steppe.grid.s2.instructions import Instructed, Instruction, of_limit
from steppe.grid.s2.kept import KeptInstructions
from steppe.grid.s2.messages import VERSIONS, BadMessageError, message, parse, reception, when

_CHANGED_S = 10.0
_MEASURED_S = 1.0
_REACHED_SHARE = 0.02
_MOST_IDS = 5000
_LIMITS = frozenset({Envelopes.limit, Modes.limit})

_log = logging.getLogger(__name__)


class LimitsAwayError(UsageError):
    """What holds the limits does not answer; the same message may be sent again."""


class RefusedLimitError(UsageError):
    """A limit is refused, or cannot be kept; the line says why."""


class Holds(Protocol):
    """What holds the limits of the site."""

    async def put(self, limit: Limit) -> None:
        """Let a limit hold.

        Raises:
            LimitsAwayError: What holds the limits does not answer.
            UsageError: It is refused, such as by `RefusedLimitError`.
        """
        ...

    async def lift(self, name: str, issued_s: float) -> None:
        """Lift a limit; its default holds. Raises as `put` does."""
        ...


@dataclass(frozen=True, slots=True)
class ManagerSettings:
    """A site at an energy manager.

    Attributes:
        link: Name of the link, as the limits name it.
        site: Name of the site, for people; its id at the energy manager is made of it.
        default_w: What holds where no instruction does, W.
        currency: ISO 4217 code of what costs are in; empty for no costs.
        delay_s: How long the site takes to begin with an instruction, s.
        version: Release of this program.
    """

    link: str
    site: str
    default_w: float
    currency: str = ""
    delay_s: float = 1.0
    version: str = ""


class ResourceManager:
    """The end of S2 at one site; use it on one event loop.

    Attributes:
        closing: Why the connection is to be closed once the answers are sent; empty if it is not.
    """

    def __init__(
        self,
        settings: ManagerSettings,
        holds: Holds,
        kept: KeptInstructions,
        refused: Callable[[str], None] = _log.warning,
    ) -> None:
        """Go on with the instructions that were kept.

        Args:
            settings: The site.
            holds: What holds its limits.
            kept: Where the instructions are kept.
            refused: Gets the line of each message that is refused.
        """
        self.closing = ""
        self._refused = refused
        self._settings, self._holds, self._kept = settings, holds, kept
        self._instructed = kept.read()
        self._types: dict[str, ControlType] = {}
        self._active: ControlType | None = None
        self._phase = "handshake"
        self._site: SiteNow | None = None
        self._statuses: dict[str, str] = {}
        self._ids: dict[str, Any] = {}
        self._measured_s = self._changed_s = float("-inf")
        self._wants_description = False

    @property
    def is_selected(self) -> bool:
        """Whether the energy manager has chosen how it controls the site."""
        return self._active is not None

    @property
    def chosen(self) -> str:
        """The control type that the energy manager has chosen; empty if none."""
        return "" if self._active is None else self._active.name

    @property
    def held(self) -> int:
        """How many instructions are held."""
        return sum(len(each.held) for each in self._instructed.values())

    def opened(self) -> tuple[str, ...]:
        """Begin a session on a new connection."""
        modes = Modes(self._settings.currency)
        self._types = {each.name: each for each in (Envelopes(), modes)}
        self._active, self._phase, self.closing = None, "handshake", ""
        self._statuses, self._ids = {}, {}
        hello = message("Handshake", role="RM", supported_protocol_versions=list(VERSIONS))
        return (hello,)

    async def received(self, text: str | bytes, now_s: float) -> tuple[str, ...]:
        """Take a message; what is refused changes nothing."""
        try:
            found = parse(text)
            if found.message_type == "ReceptionStatus":
                self._answered(found)
                return ()
            replies = await self._taken(found, now_s)
        except BadMessageError as error:
            self._refused(str(error))
            return (reception(error.subject, error.status, str(error)),)
        return (reception(str(found.message_id), "OK"), *replies)

    def agree(self, limits: Sequence[Limit], at_s: float) -> None:
        """Hold what the limits hold: they decide, whatever became of the file or of them.

        Args:
            limits: The limits of this link that are held.
            at_s: When that was seen, s since the Unix epoch; what was asked later stays.
        """
        held_limits = {each.name: each for each in limits}
        for name in {*self._instructed, *held_limits} & _LIMITS:
            limit, held = held_limits.get(name), self._held(name)
            if held.issued_s >= at_s or (limit is not None and limit.issued_s == held.issued_s):
                continue
            if limit is not None:
                self._keep(name, of_limit(limit))
            elif held.held:
                self._keep(name, Instructed((), held.issued_s))

    def lost(self, at_s: float) -> None:
        """Note a loss of the link: what was asked before allows the default at most.

        Args:
            at_s: When that was known, s since the Unix epoch; what was asked later stays.
        """
        for name, held in self._instructed.items():
            if held.issued_s < at_s and (less := held.at_most(self._settings.default_w)) != held:
                self._keep(name, less)

    def due(self, site: SiteNow, now_s: float) -> tuple[str, ...]:
        """Return what is to be said of the site now."""
        self._site = site
        if self._active is None:
            return ()
        found: list[str] = []
        if self._wants_description:
            found += self._active.described(site, now_s)
            self._wants_description, self._changed_s = False, now_s
        elif now_s - self._changed_s >= _CHANGED_S:
            found += self._active.changed(site, now_s)
            self._changed_s = now_s
        if site.draw_w is not None and now_s - self._measured_s >= _MEASURED_S:
            found.append(_measurement(site.draw_w, now_s))
            self._measured_s = now_s
        return (*found, *self._progress(site, now_s))

    async def _taken(self, found: Any, now_s: float) -> list[str]:
        kind = found.message_type
        if kind == "Handshake":
            return self._greeted(found)
        if kind == "HandshakeResponse":
            return self._agreed(found)
        if kind == "SessionRequest":
            self.closing = f"the energy manager asked to {found.request.value.lower()}"
            return []
        if self._phase != "agreed":
            raise _content(found, "a handshake first", kind)
        if kind == "SelectControlType":
            return await self._selected(found, now_s)
        if kind in {"PEBC.Instruction", "OMBC.Instruction"}:
            return await self._asked(found, now_s)
        if kind == "RevokeObject":
            return await self._revoked(found, now_s)
        raise _content(found, "a message of an energy manager", kind)

    def _greeted(self, found: Any) -> list[str]:
        if found.role.value != "CEM":
            raise _content(found, "role CEM", found.role.value)
        return []

    def _agreed(self, found: Any) -> list[str]:
        if found.selected_protocol_version not in VERSIONS:
            self.closing = f"version {found.selected_protocol_version[:40]!r} is not spoken here"
            raise _content(found, " or ".join(VERSIONS), found.selected_protocol_version)
        if self._phase == "agreed":
            return []
        self._phase = "agreed"
        settings = self._settings
        return [
            message(
                "ResourceManagerDetails",
                resource_id=str(uuid5(NAMESPACE_URL, f"steppe:{settings.site}")),
                name=settings.site,
                roles=[{"role": "ENERGY_CONSUMER", "commodity": "ELECTRICITY"}],
                manufacturer="Steppe",
                firmware_version=settings.version or None,
                instruction_processing_delay=round(1000 * settings.delay_s),
                available_control_types=list(self._types),
                currency=settings.currency or None,
                provides_forecast=False,
                provides_power_measurement_types=[QUANTITY],
            )
        ]

    async def _selected(self, found: Any, now_s: float) -> list[str]:
        name = found.control_type.value
        if name not in self._types and name not in {"NO_SELECTION", "NOT_CONTROLABLE"}:
            raise _content(found, f"one of {', '.join(self._types)}", name)
        chosen = self._types.get(name)
        for each in self._types.values():
            if each is not chosen and each.limit in self._instructed:
                await self._lift(found, each.limit, now_s)
        self._active, self._wants_description = chosen, chosen is not None
        if chosen is None or self._site is None:
            return []
        self._wants_description, self._changed_s = False, now_s
        return chosen.described(self._site, now_s)

    async def _asked(self, found: Any, now_s: float) -> list[str]:
        active = self._active
        if active is None or active.instruction != found.message_type:
            chosen = "none" if active is None else active.name
            raise _content(found, f"an instruction of the chosen control type, {chosen}", "another")
        id_ = str(found.id)
        if (before := self._ids.get(id_)) is not None:
            if before == _without_message(found):
                return []
            raise _content(found, "a new id for another instruction", id_)
        instruction = active.read(found, now_s)
        try:
            held = self._held(active.limit).with_new(instruction, now_s)
        except UsageError as error:
            raise BadMessageError(str(error), "INVALID_CONTENT", str(found.message_id)) from error
        await self._put(found, active.limit, held)
        if len(self._ids) < _MOST_IDS:
            self._ids[id_] = _without_message(found)
        self._statuses[id_] = "ACCEPTED"
        return [_status(id_, "ACCEPTED", now_s)]

    async def _revoked(self, found: Any, now_s: float) -> list[str]:
        active, id_ = self._active, str(found.object_id)
        if active is None or found.object_type.value != active.instruction:
            raise _content(found, "an instruction of the chosen control type", found.object_type)
        held = self._held(active.limit)
        if held.find(id_) is None:
            raise _content(found, "an instruction that is held", id_)
        left = held.without(id_, now_s)
        if left.held:
            await self._put(found, active.limit, left)
        else:
            await self._lift(found, active.limit, now_s)
        self._statuses.pop(id_, None)
        return [_status(id_, "REVOKED", now_s)]

    def _held(self, limit: str) -> Instructed:
        return self._instructed.get(limit, Instructed())

    async def _put(self, found: Any, name: str, held: Instructed) -> None:
        limit = held.limit(name, self._settings.link, self._settings.default_w)
        assert limit is not None, "an instruction was just taken, or some are left"
        await self._ask(found, self._holds.put(limit))
        self._keep(name, held)

    async def _lift(self, found: Any, name: str, now_s: float) -> None:
        held = self._held(name)
        issued_s = max(now_s, held.issued_s + 0.001)
        if held.held:
            await self._ask(found, self._holds.lift(name, issued_s))
        self._keep(name, Instructed((), issued_s))

    async def _ask(self, found: Any, asked: Any) -> None:
        subject = str(found.message_id)
        try:
            await asked
        except LimitsAwayError as error:
            raise BadMessageError(str(error), "TEMPORARY_ERROR", subject) from error
        except UsageError as error:
            raise BadMessageError(str(error), "INVALID_CONTENT", subject) from error

    def _keep(self, name: str, held: Instructed) -> None:
        self._instructed = {**self._instructed, name: held}
        try:
            self._kept.write(self._instructed)
        except (UsageError, DiskFullError) as error:
            _log.warning("S2: the instructions are not kept: %s", error)

    def _answered(self, found: Any) -> None:
        if found.status.value == "OK":
            return
        line = f"{found.status.value}: {found.diagnostic_label or 'no reason'}"[:200]
        _log.warning(
            "S2: the energy manager refused message %s: %s", found.subject_message_id, line
        )
        if found.status.value == "PERMANENT_ERROR":
            self.closing = f"the energy manager reported a permanent error: {line}"

    def _progress(self, site: SiteNow, now_s: float) -> list[str]:
        """Return what became of the instructions since the last call."""
        assert self._active is not None
        held, found = self._held(self._active.limit), []
        governing = held.governing(now_s)
        for id_, before in list(self._statuses.items()):
            status = _progressed(held.find(id_), governing, before, site, now_s)
            if status == before:
                continue
            found.append(_status(id_, status, now_s))
            self._statuses[id_] = status
            if status in {"SUCCEEDED", "ABORTED"}:
                del self._statuses[id_]
        return found


def _progressed(
    instruction: Instruction | None,
    governing: Instruction | None,
    before: str,
    site: SiteNow,
    now_s: float,
) -> str:
    if instruction is None:
        return "ABORTED"
    if now_s >= instruction.ends_s:
        return "SUCCEEDED"
    if now_s < instruction.starts_s:
        return before
    if instruction is not governing:
        return "ABORTED"
    watts, draw_w = instruction.at(now_s), site.draw_w
    if before == "ACCEPTED" or watts is None or draw_w is None:
        return "STARTED"
    has_no_end = math.isinf(instruction.ends_s)
    return "SUCCEEDED" if has_no_end and draw_w <= watts * (1 + _REACHED_SHARE) else before


def _measurement(draw_w: float, now_s: float) -> str:
    values = [{"commodity_quantity": QUANTITY, "value": draw_w}]
    return message("PowerMeasurement", measurement_timestamp=when(now_s), values=values)


def _status(id_: str, status: str, now_s: float) -> str:
    return message(
        "InstructionStatusUpdate", instruction_id=id_, status_type=status, timestamp=when(now_s)
    )


def _without_message(found: Any) -> Any:
    return {name: value for name, value in found.to_dict().items() if name != "message_id"}


def _content(found: Any, wanted: str, got: object) -> BadMessageError:
    line = f"{found.message_type}: asked for {wanted}, found {str(got)[:80]}"
    return BadMessageError(line, "INVALID_CONTENT", str(found.message_id))

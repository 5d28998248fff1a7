"""Bodies of calls that change limits and events, and what they ask for."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, TypeVar

import orjson
from aiohttp import web
from pydantic import AfterValidator, Field, ValidationError, model_validator

from steppe.config.error_message import first_error
from steppe.config.section import NonNegative, Section, Share
from steppe.grid.limits.limit import Step
from steppe.services.api_error import invalid

Body = TypeVar("Body", bound=Section)
LIMIT = "limit"
"""Name of a limit that names none."""


def _moment(value: float | str) -> float:
    if not isinstance(value, str):
        return value
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as error:
        raise ValueError("asked for a time in ISO 8601, or s since the Unix epoch") from error
    if moment.tzinfo is None:
        raise ValueError("asked for a time with an offset, such as Z")
    return moment.timestamp()


Moment = Annotated[NonNegative | str, AfterValidator(_moment)]
"""A time: s since the Unix epoch, or ISO 8601 with an offset."""


class ScheduleStep(Section):
    """A step of a schedule."""

    starts: Moment = Field(alias="from")
    """When it begins."""
    limit_w: NonNegative
    """Most that the site may draw from then on, W."""

    @model_validator(mode="before")
    @classmethod
    def _both(cls, values: Any) -> Any:
        if isinstance(values, dict) and not values.keys() >= {"from", "limit_w"}:
            raise ValueError("asked for from and limit_w")
        return values


class NewLimit(Section):
    """The body of `PUT /steppe/v1/budget`."""

    limit_w: NonNegative | None = None
    """Most that the site may draw from now on, W."""
    schedule: Annotated[tuple[ScheduleStep, ...], Field(strict=False)] = ()
    """Instead of `limit_w`: limits from times on."""
    expires: Moment | None = None
    """End; absent: it holds until it is replaced or lifted."""
    name: str = LIMIT
    """Its name: a newer limit replaces the one of the same name."""
    issued: Moment | None = None
    """When the operator gave it; absent: now. An older version than the one held is refused."""

    @model_validator(mode="after")
    def _one_way(self) -> NewLimit:
        if (self.limit_w is None) == (not self.schedule):
            found = "both" if self.schedule else "neither"
            raise ValueError(f"asked for limit_w or schedule, found {found}")
        return self

    def steps(self, now_s: float) -> tuple[Step, ...]:
        """Return its steps; `limit_w` begins now."""
        if self.limit_w is not None:
            return (Step(now_s, self.limit_w),)
        return tuple(Step(seconds(step.starts), step.limit_w) for step in self.schedule)


class NewEvent(Section):
    """The body of `PUT /steppe/v1/grid/events/ID`."""

    starts: Moment | None = None
    """Start of the ramp down; absent: `notice_s` from now."""
    notice_s: NonNegative = 0.0
    """Time until the start of the ramp down, s, where `starts` is absent."""
    ramp_down_s: NonNegative = 0.0
    """Duration of the ramp down, s."""
    hold_s: NonNegative
    """Duration of the hold, s."""
    ramp_up_s: NonNegative = 0.0
    """Duration of the ramp up, s."""
    settle_s: NonNegative = 0.0
    """How long the draw stays at or below the baseline after the ramp up, s."""
    share: Share | None = None
    """What the site may draw during the hold, as a share of the baseline."""
    limit_w: NonNegative | None = None
    """What the site may draw during the hold, W; instead of `share`."""
    priority: Annotated[int, Field(ge=0, le=1000)] = 1000
    """Priority; 0 is the highest."""
    issued: Moment | None = None
    """When the operator gave it; absent: now."""

    @model_validator(mode="after")
    def _one_target(self) -> NewEvent:
        if (self.share is None) == (self.limit_w is None):
            found = "neither" if self.share is None else "both"
            raise ValueError(f"asked for share or limit_w, found {found}")
        if self.starts is not None and self.notice_s:
            raise ValueError("asked for starts or notice_s, found both")
        return self


def seconds(moment: float | str) -> float:
    """Return a time that was read, s since the Unix epoch."""
    assert not isinstance(moment, str), "its validator makes it a number"
    return moment


async def read(request: web.Request, kind: type[Body]) -> Body:
    """Return the body of a call.

    Raises:
        ApiError: It is no JSON, a field is missing, unknown or out of its range.
    """
    try:
        values = orjson.loads(await request.read())
    except orjson.JSONDecodeError as error:
        raise invalid(f"asked for JSON, found {error}", "body", "invalid_json") from error
    if not isinstance(values, dict):
        raise invalid(f"body: asked for an object, found {values!r:.60}", "body")
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise invalid(first_error(error, kind), "body") from error

"""The end of an event stream, held back until the energy of its request is known."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

_TAIL = re.compile(
    rb'^(?:data:[ \t]*\[DONE\]|data:[^\n]*"choices"\s*:\s*\[\s*\][^\n]*"usage"\s*:\s*\{'
    rb"|event:[ \t]*(?:response\.(?:completed|incomplete)|message_delta)\b)",
    re.MULTILINE,
)
"""The first event that has to wait for the energy: the usage, or else the end."""
_EVENT_DATA = re.compile(rb"^data:[ \t]*(\{.*\})[ \t]*\r?$", re.MULTILINE)
_DONE = re.compile(rb"^data:[ \t]*\[DONE\]", re.MULTILINE)


class HeldTail:
    """The end of a stream, from its usage on, held back until the energy is known."""

    def __init__(self) -> None:
        """Begin with nothing held back."""
        self._held = bytearray()

    def take(self, events: bytes) -> bytes:
        """Take whole events; return those that may go to the client now."""
        if self._held:
            self._held += events
            return b""
        found = _TAIL.search(events)
        if found is None:
            return events
        self._held += events[found.start() :]
        return events[: found.start()]

    def release(self, energy: Mapping[str, Any] | None, usage: Mapping[str, Any]) -> bytes:
        """Return the end of the stream, with the energy in the last usage.

        Args:
            energy: The value of `usage.energy`; None leaves it out.
            usage: The event with the usage, if the engine has sent none.
        """
        held = bytes(self._held)
        self._held.clear()
        if energy is None:
            return held
        for event in reversed(list(_EVENT_DATA.finditer(held))):
            data = with_energy(event[1], energy)
            if data is not None:
                return held[: event.start(1)] + data + held[event.end(1) :]
        done = _DONE.search(held)
        if done is None:  # it ended with an error
            return held
        return (
            held[: done.start()]
            + _event(with_energy(orjson.dumps(usage), energy))
            + held[done.start() :]
        )


def with_energy(text: bytes, energy: Mapping[str, Any]) -> bytes | None:
    """Return a JSON object with the energy in its usage; None if it has none."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    match found:
        case {"usage": dict(usage)} | {"response": {"usage": dict(usage)}}:
            usage["energy"] = energy
            return orjson.dumps(found)
        case _:
            return None


def _event(data: bytes | None) -> bytes:
    return b"data: " + (data or b"{}") + b"\n\n"

"""What a site notes of each request between sites.

The home notes what it sent, the target what it took. Both are used when a period is settled.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, get_args

from steppe.errors import UsageError
from steppe.ledger.receipt import checked
from steppe.sites.peer import End

MOST_UJ = 2**53
"""Most energy of a request that can be noted, uJ: some 2.5 MWh."""
_CHARS = 128
_TIME_US = 2**62
_TOKENS = 2**40
_ENDS = get_args(End)
_OK = 200


@dataclass(frozen=True, slots=True)
class Sent:
    """One try of a request at another site, noted by its home; times are us since the Unix epoch.

    Attributes:
        request: Id of the try, which its token, the header `x-request-id` and its receipt have.
        target: The site that it was sent to.
        tenant: The tenant at home.
        model: The model.
        prompt_tokens: Prompt tokens that the target said it used; 0 if it served nothing.
        output_tokens: Output tokens that came from it.
        started_us: When it was sent.
        ended_us: When the answer ended.
        end: How it ended, as `TryOutcome.end`.
        status: HTTP status of the answer; 0 without one.
        most_uj: Energy that the home pays for, as its token says, uJ.
    """

    request: str
    target: str
    tenant: str
    model: str
    prompt_tokens: int
    output_tokens: int
    started_us: int
    ended_us: int
    end: End
    status: int
    most_uj: int

    @property
    def was_served(self) -> bool:
        """Whether the whole answer came, so that there has to be a receipt with its tokens."""
        return self.end == "served" and self.status == _OK

    @property
    def may_have_work(self) -> bool:
        """Whether the target may have worked on it."""
        return self.end in ("served", "lost", "cancelled") and self.status in (0, _OK)

    @property
    def values(self) -> dict[str, Any]:
        """Its fields, for JSON."""
        return asdict(self)

    @classmethod
    def read(cls, values: Any) -> Sent:
        """Return the note of an object of JSON.

        Raises:
            UsageError: A field is missing, unknown, of another type or out of its range.
        """
        sent = cls(**checked(cls, values, "sent"))
        if sent.end not in _ENDS:
            asked = f"asked for one of {', '.join(_ENDS)}"
            raise UsageError(f"sent.end: {asked}, found {sent.end!r:.40}")
        for name in ("request", "target", "tenant", "model"):
            _check_text(f"sent.{name}", getattr(sent, name))
        for name, most in (
            ("prompt_tokens", _TOKENS),
            ("output_tokens", _TOKENS),
            ("started_us", _TIME_US),
            ("ended_us", _TIME_US),
            ("status", 999),
            ("most_uj", MOST_UJ),
        ):
            _check_number(f"sent.{name}", getattr(sent, name), most)
        return sent


@dataclass(frozen=True, slots=True)
class AcceptedCall:
    """A request of another site that was accepted, noted by its target.

    Attributes:
        request: Id of the try, as its token has it.
        home: The site that sent it, and pays.
        most_uj: Energy that the home pays for, as its token says, uJ.
        token: The token, which the home has signed: it shows that the home asked for it.
    """

    request: str
    home: str
    most_uj: int
    token: str


def _check_text(name: str, found: str) -> None:
    if not 1 <= len(found) <= _CHARS or not found.isprintable():
        raise UsageError(f"{name}: asked for 1 to {_CHARS} characters, found {found!r:.60}")


def _check_number(name: str, found: int, most: int) -> None:
    if not 0 <= found <= most:
        raise UsageError(f"{name}: asked for 0 to {most}, found {found}")

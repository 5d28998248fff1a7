"""What a site claims in its beats, hour by hour, against the records of its meters that it signs.

An hour is one by the clock of the claiming site, in its beats as in its records; how long a claim
held is measured here. So a clock that is wrong is no lie, and none is compared with ours. One that
jumps or stands, so that no hour can be judged, is seen by how it goes on.

The draw that it claims has to be the energy of its meters. A surplus means that its own wind and
sun give more than it draws: in that time it takes nothing from the grid. What it takes in an hour
can be no more than it drew in the rest of the hour. Beats claim the draw of GPUs: meters that
enclose more count at least that, and what the site uses beside them is in its supply too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from steppe.errors import SteppeError
from steppe.ledger.green.match import Match
from steppe.ledger.green.supply import GRID, UJ_PER_WH
from steppe.ledger.log.checkpoint import Proof
from steppe.ledger.periods.checking import check_sums
from steppe.ledger.periods.period import Period
from steppe.ledger.signing import PublicKey
from steppe.sites.beats.message import Beat

GPU = "gpu"
"""The boundary of the draw that beats claim."""
HOUR_S = 3600.0
HOUR_US = 3_600_000_000
UJ_PER_J = 1e6
_KEPT_HOURS = 48
_JUMP_S, _DRIFT = 5.0, 0.01
"""A clock may go on by so much more or less than the time here: delays of beats, and drift."""


class RecordError(SteppeError):
    """Signed records of an hour do not belong together."""


@dataclass(frozen=True, slots=True)
class ClaimedHour:
    """What a site claimed in an hour of its clock.

    Attributes:
        hour: The hour, hours since the Unix epoch.
        heard_s: For how long its claims were heard, s.
        draw_j: The draw it claimed, over that time, J.
        dry_j: The part of it while it claimed no surplus, J.
        peak_w: The most it claimed to draw, W.
        surplus_j: The surplus it claimed, over that time, J.
        jumps: How often its clock went on otherwise than the time here.
    """

    hour: int
    heard_s: float = 0.0
    draw_j: float = 0.0
    dry_j: float = 0.0
    peak_w: float = 0.0
    surplus_j: float = 0.0
    jumps: int = 0

    def after(self, duration_s: float, draw_w: float, surplus_w: float) -> ClaimedHour:
        """Return it with one more claim, which held for a while."""
        draw_j = draw_w * duration_s
        return replace(
            self,
            heard_s=self.heard_s + duration_s,
            draw_j=self.draw_j + draw_j,
            dry_j=self.dry_j + (0.0 if surplus_w > 0 else draw_j),
            peak_w=max(self.peak_w, draw_w),
            surplus_j=self.surplus_j + surplus_w * duration_s,
        )


@dataclass(frozen=True, slots=True)
class MeteredHour:
    """What the signed records of a site say of an hour.

    Attributes:
        hour: The hour, hours since the Unix epoch.
        energy_uj: What its meters counted, uJ.
        grid_uj: What it used from the public grid, uJ; None if no record says it.
        evidence: The entries of its log that say so, with their proofs.
        boundary: What its meters enclose: `gpu`, `node` or `site`. Beats claim the draw of GPUs.
        load_uj: What the whole site used, uJ; 0 if no record says it.
    """

    hour: int
    energy_uj: int
    grid_uj: int | None
    evidence: tuple[tuple[bytes, Proof], ...] = ()
    boundary: str = GPU
    load_uj: int = 0

    @property
    def site_share(self) -> float:
        """How much the whole site used for each joule of its meters, at least 1."""
        if not self.energy_uj:
            return 1.0
        return max(1.0, self.load_uj / self.energy_uj)


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far claim and meter may lie apart.

    Attributes:
        share: Share of the energy: a beat shows one moment of each second.
        least_j: And at least so much, J.
        heard: Least share of the hour that has to be heard.
    """

    share: float = 0.05
    least_j: float = 36_000.0
    heard: float = 0.9


@dataclass(frozen=True, slots=True)
class Fits:
    """The claims of an hour fit its records."""

    hour: int


@dataclass(frozen=True, slots=True)
class Unheard:
    """The claims of an hour were heard for too short a time: no fault of the site.

    Attributes:
        hour: The hour.
        heard_s: For how long, s.
    """

    hour: int
    heard_s: float


@dataclass(frozen=True, slots=True)
class Withheld:
    """The site does not give what it takes to judge an hour.

    Attributes:
        hour: The hour.
        reason: What is missing.
    """

    hour: int
    reason: str


@dataclass(frozen=True, slots=True)
class Lied:
    """The claims of an hour cannot be true if its records are.

    Attributes:
        what: `draw` or `surplus`.
        claimed: What was claimed.
        metered: What the site has signed, with the evidence.
        asked_j: What the meters allow or demand, J.
        found_j: What was found, J.
        tolerance_j: What was allowed between them, J.
    """

    what: str
    claimed: ClaimedHour
    metered: MeteredHour
    asked_j: float
    found_j: float
    tolerance_j: float

    @property
    def hour(self) -> int:
        """The hour."""
        return self.claimed.hour

    @property
    def text(self) -> str:
        """One line for people."""
        asked = f"asked for {self.asked_j:.0f} J within {self.tolerance_j:.0f} J"
        return f"hour {self.hour}: {self.what}: {asked}, found {self.found_j:.0f} J"


Verdict = Fits | Unheard | Withheld | Lied


class ClaimBook:
    """Adds up what one site claims, by hours of its own clock."""

    def __init__(self, longest_s: float) -> None:
        """Begin with nothing.

        Args:
            longest_s: A claim holds until the next one, but at most so long, s.
        """
        self._longest_s = longest_s
        self._last: Beat | None = None
        self._hours: dict[int, ClaimedHour] = {}

    def note(self, beat: Beat) -> None:
        """Take up a beat: the claim before it has held until now.

        A claim of an hour before the latest one counts nothing: that hour is then heard for too
        short a time to be judged.
        """
        last, self._last = self._last, beat
        if last is None:
            return
        hour = _hour_of(last)
        if self._hours and hour < max(self._hours):
            hour = max(self._hours)
            self._hours[hour] = replace(self._hours[hour], jumps=self._hours[hour].jumps + 1)
            return
        passed_s = beat.view.received_s - last.view.received_s
        shown_s = (beat.at_us - last.at_us) / 1e6
        found = self._hours.get(hour) or ClaimedHour(hour)
        if abs(shown_s - passed_s) > _JUMP_S + _DRIFT * passed_s:
            found = replace(found, jumps=found.jumps + 1)
        duration_s = max(0.0, min(passed_s, self._longest_s))
        self._hours[hour] = found.after(duration_s, last.view.draw_w, last.view.surplus_w)
        for old in sorted(self._hours)[:-_KEPT_HOURS]:
            del self._hours[old]

    def hour(self, hour: int) -> ClaimedHour:
        """Return what was claimed in an hour."""
        return self._hours.get(hour) or ClaimedHour(hour)


def judge(claimed: ClaimedHour, metered: MeteredHour, tolerance: Tolerance) -> Verdict:
    """Return whether the claims of an hour can be true."""
    assert claimed.hour == metered.hour, "claims and records of one hour"
    heard = claimed.heard_s / HOUR_S
    if not tolerance.heard <= heard <= 2 - tolerance.heard:
        if claimed.jumps or heard > 1:
            reason = f"its clock jumps or stands: {claimed.heard_s:.0f} s in the hour"
            return Withheld(claimed.hour, reason)
        return Unheard(claimed.hour, claimed.heard_s)
    energy_j = metered.energy_uj / UJ_PER_J
    # In the time that was not heard it may have drawn nothing, or as much as ever.
    unheard_j = abs(HOUR_S - claimed.heard_s) * claimed.peak_w
    allowed_j = max(tolerance.least_j, tolerance.share * max(energy_j, claimed.draw_j)) + unheard_j
    more_j = claimed.draw_j - energy_j
    if more_j > allowed_j or (metered.boundary == GPU and -more_j > allowed_j):
        return Lied("draw", claimed, metered, energy_j, claimed.draw_j, allowed_j)
    return _judge_surplus(claimed, metered, allowed_j)


def _judge_surplus(claimed: ClaimedHour, metered: MeteredHour, allowed_j: float) -> Verdict:
    if metered.grid_uj is None and claimed.surplus_j:
        return Withheld(claimed.hour, "it claims a surplus, and signs no record of its supply")
    grid_j, share = (metered.grid_uj or 0) / UJ_PER_J, metered.site_share
    if grid_j > (claimed.dry_j + allowed_j) * share:
        return Lied("surplus", claimed, metered, claimed.dry_j * share, grid_j, allowed_j * share)
    return Fits(claimed.hour)


def metered_hour(
    entries: Sequence[tuple[bytes, Proof]], site: str, origin: str, keys: Sequence[PublicKey]
) -> MeteredHour:
    """Return what signed entries of the log of a site say of an hour.

    Args:
        entries: The period of the hour, then the first match of it if there is one; with proofs.
        site: The site.
        origin: Name of its log.
        keys: Keys of its log.

    Raises:
        RecordError: They are of another site, or not of one hour.
        ProofError: The log does not contain one.
        SignatureError: No known key has signed.
        UsageError: An entry is no period or no match, or the sums of the period are wrong.
    """
    for entry, proof in entries:
        proof.check(entry, origin, keys)
    period = Period.read(entries[0][0])
    check_sums(period)
    if period.site != site:
        raise RecordError(f"period: asked for one of {site}, found {period.site}")
    if len(entries) == 1:
        return MeteredHour(period.hour, period.meter_uj, None, tuple(entries), period.boundary)
    match = Match.read(entries[1][0])
    if match.period != period.hash:
        raise RecordError(f"match {match.id}: asked for period {period.id}, found another one")
    prefix = f"{GRID}/"
    grid_wh = sum(wh for source, wh in match.source_wh.items() if source.startswith(prefix))
    return MeteredHour(
        period.hour,
        period.meter_uj,
        grid_wh * UJ_PER_WH,
        tuple(entries),
        period.boundary,
        match.load_wh * UJ_PER_WH,
    )


def _hour_of(beat: Beat) -> int:
    return beat.at_us // HOUR_US

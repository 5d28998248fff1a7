"""Sites whose claims were false get no new work for a while: twice as long after each time."""

from __future__ import annotations

from dataclasses import dataclass

from steppe.sites.trust.claims import Fits, Lied, Unheard, Verdict, Withheld

FIRST_S, LONGEST_S = 3600.0, 24 * 3600.0
"""How long a site gets no new work after the first lie, and at most, s."""
WITHHELD = 6
"""So many hours in a row for which it gives no records, and it gets none until an hour fits."""
_KEPT = 100


@dataclass(frozen=True, slots=True)
class Suspect:
    """What is held against a site.

    Attributes:
        lies: How often its claims were false.
        withheld: Hours in a row for which it gave no records.
        until_s: It gets no new work before this, monotonic clock of this host, s.
        evidence: The last lies, oldest first.
    """

    lies: int = 0
    withheld: int = 0
    until_s: float = 0.0
    evidence: tuple[Lied, ...] = ()

    def after(self, verdict: Verdict, now_s: float) -> Suspect:
        """Return it after one more hour was judged."""
        match verdict:
            case Fits():
                return Suspect(self.lies, 0, self.until_s, self.evidence)
            case Unheard():
                return self
            case Withheld():
                return Suspect(self.lies, self.withheld + 1, self.until_s, self.evidence)
            case Lied():
                barred_s = min(FIRST_S * 2.0 ** min(self.lies, 20), LONGEST_S)
                evidence = (*self.evidence, verdict)[-_KEPT:]
                return Suspect(self.lies + 1, 0, max(self.until_s, now_s + barred_s), evidence)

    def is_barred(self, now_s: float) -> bool:
        """Return whether the site gets no new work."""
        return now_s < self.until_s or self.withheld >= WITHHELD

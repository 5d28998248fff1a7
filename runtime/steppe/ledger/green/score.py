"""The 24/7 score: which share of the energy was green in the hour in which it was used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from steppe.ledger.green.match import Match
from steppe.ledger.green.supply import UJ_PER_WH
from steppe.ledger.receipt import Receipt

PPM = 1_000_000
UJ_PER_KWH = 1_000 * UJ_PER_WH


@dataclass(frozen=True, slots=True)
class Score:
    """How green something was.

    Attributes:
        used_uj: Its energy, uJ.
        green_uj: What of it was matched hour by hour, uJ.
        output_tokens: Tokens generated.
        green_micro_tokens: What of them the green energy made: each request's tokens by its green
            share, 10^-6 token.
    """

    used_uj: int = 0
    green_uj: int = 0
    output_tokens: int = 0
    green_micro_tokens: int = 0

    @property
    def score_ppm(self) -> int:
        """The 24/7 score: matched energy in 10^-6 of the energy used, rounded down."""
        return self.green_uj * PPM // self.used_uj if self.used_uj else 0

    @property
    def tokens_per_green_kwh(self) -> int:
        """Tokens that a green kWh made, rounded down; 0 without green energy."""
        if self.green_uj <= 0:
            return 0
        return self.green_micro_tokens * UJ_PER_KWH // (self.green_uj * PPM)

    def plus(self, other: Score) -> Score:
        """Return the score of both together."""
        return Score(
            self.used_uj + other.used_uj,
            self.green_uj + other.green_uj,
            self.output_tokens + other.output_tokens,
            self.green_micro_tokens + other.green_micro_tokens,
        )


def site_score(matches: Iterable[Match]) -> Score:
    """Return the score of a site over hours, for all that it used; it counts no tokens.

    What GECs cover does not count: their Wh may be of other hours.
    """
    total = Score()
    for each in matches:
        used_uj = 0 if each.number else each.load_wh * UJ_PER_WH
        total = total.plus(Score(used_uj, each.green_uj))
    return total


def tenant_scores(receipts: Iterable[Receipt]) -> dict[str, Score]:
    """Return the score of each tenant by its receipts, its share of idle included.

    A correction is added to the receipt that it corrects.
    """
    requests: dict[str, tuple[str, Score]] = {}
    for each in receipts:
        key = each.corrects or each.id
        _, known = requests.get(key, (each.tenant, Score()))
        new = Score(each.energy_uj + each.idle_uj, each.green_uj, each.output_tokens)
        requests[key] = (each.tenant, known.plus(new))
    return _by_tenant(requests)


def _by_tenant(requests: Mapping[str, tuple[str, Score]]) -> dict[str, Score]:
    scores: dict[str, Score] = {}
    for tenant, each in requests.values():
        made = each.output_tokens * each.green_uj * PPM // each.used_uj if each.used_uj else 0
        own = Score(each.used_uj, each.green_uj, each.output_tokens, made)
        scores[tenant] = scores.get(tenant, Score()).plus(own)
    return scores

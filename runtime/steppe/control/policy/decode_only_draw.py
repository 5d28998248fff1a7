"""After a cut of batch limits: who holds more than the limit admits nobody, and draws less."""

from __future__ import annotations

import math
from dataclasses import dataclass

from steppe.control.placing import QUEUE_PER_REPLICA
from steppe.control.plan import AwakeBounds, Plan
from steppe.control.policy.policies import BoundedPolicy
from steppe.control.state import Observation, ReplicaState

FIRM_SHARE = 0.5
"""Where this share of the draw admits nobody, half of an error is taken for the depth's: the less
admit nobody, the more of the error is somebody else's (normalised least mean squares)."""
MOST_DEPTH = 0.2
"""A replica is not believed to draw less than planned by more than this share."""
FINISHED_SHARE = 0.12
"""Share of a batch that finishes within a tick at most; who holds more above the limit admits
nobody in it. Answers of the Azure conversation trace have 211 tokens in the mean, at 50 to 100 ms
each: 8 % of them in the mean end within a second."""
LEAST_SHARE = 0.2
"""The depth is learned while replicas with more than this share of the draw admit nobody."""
HALVINGS = 4
"""How closely is found what a dip leaves free: who gets a larger limit may be full no more."""


@dataclass(slots=True)
class DecodeOnlyDraw:
    """By how much a fleet draws less than its plan while replicas admit nobody.

    A plan's draw is that of replicas which compute prompts beside what they decode. When a batch
    limit falls below what a replica holds, it only decodes until enough requests have finished,
    some seconds. How much less it then draws is learned from the errors of those seconds.

    Attributes:
        depth: How much less a replica draws that admits nobody, share of its planned draw.
    """

    depth: float = 0.0

    def explains(self, error: float, share: float) -> bool:
        """Take up an error of the draw; False where nothing of it is due to a dip.

        Args:
            error: The error, share of the draw that was expected.
            share: Share of the planned draw that falls to replicas that admit nobody.
        """
        if share <= LEAST_SHARE:
            return False
        before = self.depth
        taken = error * share / (share * share + FIRM_SHARE * FIRM_SHARE)
        self.depth = min(MOST_DEPTH, max(0.0, before - taken))
        return self.depth != before


def full_share(observation: Observation, plan: Plan) -> float:
    """Return the share of a plan's draw that falls to replicas which will admit nobody.

    The larger limits go to the fuller replicas.
    """
    points = sorted(plan.awake, key=lambda point: -point.batch_limit)
    least = points[-1].batch_limit if points else math.inf
    awake = [r.outstanding for r in observation.replicas if r.state == ReplicaState.AWAKE]
    held = sorted((requests for requests in awake if requests > least), reverse=True)
    serving = zip(held, points, strict=False)
    full_w = sum(_fullness(requests, p.batch_limit) * p.draw_w for requests, p in serving)
    return full_w / plan.draw_w if full_w else 0.0


def _fullness(requests: int, limit: int) -> float:
    """Return how far a replica with so many requests draws as one that admits nobody.

    Who admits again within the tick makes up for it: the first prompts come to many free places.
    """
    above = requests - limit - QUEUE_PER_REPLICA
    return min(1.0, max(0.0, above / (FINISHED_SHARE * limit))) ** 2


@dataclass(frozen=True, slots=True)
class ReclaimUnderdraw(BoundedPolicy):
    """Spends on the others what replicas that admit nobody will not draw.

    Attributes:
        inner: The policy to ask; keeps no memory, for it is asked more than once.
        dip: What is known of the dip.
    """

    inner: BoundedPolicy
    dip: DecodeOnlyDraw

    def decide_among(self, observation: Observation, bounds: AwakeBounds) -> Plan:
        """Return the inner plan for what the budget holds in a dip; its draw may lie above it."""
        plan = self.inner.decide_among(observation, bounds)
        low, high = 0.0, self.dip.depth * full_share(observation, plan)
        for _ in range(HALVINGS if high else 0):
            middle = (low + high) / 2
            larger_w = observation.gpu_budget_w / (1 - middle)
            larger = self.inner.decide_among(observation.with_budget(larger_w), bounds)
            drawn_w = larger.draw_w * (1 - self.dip.depth * full_share(observation, larger))
            if drawn_w <= observation.gpu_budget_w and larger.output_tps >= plan.output_tps:
                plan, low = larger, middle
            else:
                high = middle
        return plan

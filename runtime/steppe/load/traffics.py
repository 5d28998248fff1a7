"""Traffics by name: what users of a service ask for, with the source of every number.

Means are in tokens. A spread is the standard deviation of the logarithm of a length. Where a
number is assumed, the description states it. Unless stated, arrivals are as bursty as those of
the Azure conversation trace.
"""

from __future__ import annotations

from steppe.config.load import TrafficName
from steppe.load.arrivals import LengthLimits
from steppe.load.lengths import LengthComponent, LengthMixture
from steppe.load.rates import Burstiness, FlashCrowd
from steppe.load.sessions import Sessions
from steppe.load.traffic_shape import TrafficPart, TrafficShape, lognormal

AZURE_LENGTHS = LengthMixture(
    components=(
        LengthComponent(0.281, 6.974, 6.007, 0.070, 0.055, -0.013),
        LengthComponent(0.245, 5.990, 4.538, 0.047, 0.255, 0.359),
        LengthComponent(0.169, 7.388, 4.434, 0.558, 0.417, 0.072),
        LengthComponent(0.098, 5.294, 4.958, 0.092, 0.426, -0.281),
        LengthComponent(0.083, 7.080, 5.823, 0.113, 0.581, -0.805),
        LengthComponent(0.076, 8.316, 4.035, 0.021, 0.497, 0.012),
        LengthComponent(0.026, 3.855, 4.990, 1.166, 0.367, 0.329),
        LengthComponent(0.020, 5.331, 2.746, 0.504, 0.202, 0.392),
    ),
    longest=LengthLimits(prompt_tokens=14_050, output_tokens=1_000),
)
AZURE_BURSTINESS = Burstiness(gap_shape=0.885, rate_variance=0.058, rate_memory_s=268.0)
AZURE_RATE_RPS = 5.53
"""Mean arrival rate of the trace, requests/s."""

CODE_LENGTHS = lognormal(2_117, 28, 0.79, 1.24, LengthLimits(7_500, 2_000))
"""Azure code trace of 2023, 8,819 requests: means 2,048 in and 28 out (Azure/AzurePublicDataset).
The spreads follow from its medians, 1,500 in and 13 out (Patel et al., Splitwise, ISCA 2024,
figure 3): spread^2 = 2 ln(mean / median). The longest are assumed; the mean prompt is that before
they are cut."""
SUMMARY_LENGTHS = lognormal(2_000, 30, 0.4, 0.3)
"""Assumed."""
REASONING_LENGTHS = lognormal(500, 5_000, 0.6, 0.6)
"""Assumed; reasoning models are reported at thousands of output tokens for a short question."""

AGENT_TURNS = (0.34, 0.24, 0.18, 0.14, 0.10)
"""Shares of the first to the fifth turn of a session; assumed, so that 59 % of the prompt tokens
are prefix hits, as in the tool-and-agent trace of Mooncake (Qin et al., FAST 2025, table 2)."""
AGENT_TURN_TOKENS, AGENT_OUTPUT_TOKENS = 3_552, 182
"""Prompt tokens that each turn adds, so that the mean prompt has the 8,596 tokens of that trace;
and its mean output, tokens."""
FLOOD_SHARE = 0.6
"""Share of the requests that come from the flooding tenant; assumed."""
OTHER_TENANTS = 4


def _agents() -> tuple[TrafficPart, ...]:
    """Return a part for each turn: all of its prompt but what the turn adds is in the cache."""
    return tuple(
        TrafficPart(
            lognormal(turn * AGENT_TURN_TOKENS, AGENT_OUTPUT_TOKENS, 0.3, 0.6),
            share,
            cached_share=(turn - 1) / turn,
        )
        for turn, share in enumerate(AGENT_TURNS, start=1)
    )


def _flood() -> tuple[TrafficPart, ...]:
    others = (1 - FLOOD_SHARE) / OTHER_TENANTS
    return (
        TrafficPart(AZURE_LENGTHS, FLOOD_SHARE, "flood"),
        *(TrafficPart(AZURE_LENGTHS, others, f"tenant-{n + 1}") for n in range(OTHER_TENANTS)),
    )


TRAFFICS: dict[TrafficName, TrafficShape] = {
    "conversation": TrafficShape(
        "Chat, 1,155 in and 211 out: fitted to the Azure conversation trace of 2023.",
        (TrafficPart(AZURE_LENGTHS),),
        AZURE_BURSTINESS,
    ),
    "code_completion": TrafficShape(
        "Code completion, 2,048 in and 28 out: means and medians of the Azure code trace of 2023.",
        (TrafficPart(CODE_LENGTHS),),
        AZURE_BURSTINESS,
    ),
    "retrieval": TrafficShape(
        "Answers from retrieved documents, 8,000 in and 300 out; assumed.",
        (TrafficPart(lognormal(8_000, 300, 0.3, 0.5)),),
        AZURE_BURSTINESS,
    ),
    "reasoning": TrafficShape(
        "Long chains of thought, 500 in and 5,000 out; assumed.",
        (TrafficPart(REASONING_LENGTHS),),
        AZURE_BURSTINESS,
    ),
    "summaries": TrafficShape(
        "Short summaries of long texts, 2,000 in and 30 out; assumed.",
        (TrafficPart(SUMMARY_LENGTHS),),
        AZURE_BURSTINESS,
    ),
    "agents": TrafficShape(
        "Sessions of up to five turns, 8,596 in and 182 out, 0 to 80 % of a prompt in the prefix "
        "cache: means of the tool-and-agent trace of Mooncake, the turns assumed.",
        _agents(),
        AZURE_BURSTINESS,
    ),
    "embeddings": TrafficShape(
        "Texts to embed, 500 in; one output token stands for the vector; assumed.",
        (TrafficPart(lognormal(500, 1, 0.5, 0.0)),),
        AZURE_BURSTINESS,
    ),
    "moving_mix": TrafficShape(
        "Conversation, code completion and summaries, a third each over a day; each has its peak "
        "at another time, when it is 60 % of the requests, and is 7 % twelve hours later; assumed.",
        (
            TrafficPart(AZURE_LENGTHS, 1 / 3, swing=0.8, peak_hour=20.0),
            TrafficPart(CODE_LENGTHS, 1 / 3, swing=0.8, peak_hour=12.0),
            TrafficPart(SUMMARY_LENGTHS, 1 / 3, swing=0.8, peak_hour=4.0),
        ),
        AZURE_BURSTINESS,
    ),
    "chats": TrafficShape(
        "Chats of four turns on average, each with one of eight system prompts of 1,024 tokens; a "
        "turn adds 250 in and 250 out. Prompts begin as earlier ones did, which a simulated prefix "
        "cache finds; assumed.",
        (TrafficPart(lognormal(250, 250, 0.8, 0.7)),),
        AZURE_BURSTINESS,
        sessions=Sessions(system_prompts=8, system_tokens=1024, going_on=0.75, open_sessions=200),
    ),
    "flash_crowd": TrafficShape(
        "Conversation; half-way the rate rises tenfold within 10 s, for a minute; assumed.",
        (TrafficPart(AZURE_LENGTHS),),
        AZURE_BURSTINESS,
        FlashCrowd(),
    ),
    "flooding_tenant": TrafficShape(
        "Conversation; one of five tenants sends 60 % of the requests; assumed.",
        _flood(),
        AZURE_BURSTINESS,
    ),
    "half_and_half": TrafficShape(
        "Half of the requests summaries, half of them conversation; assumed.",
        (TrafficPart(SUMMARY_LENGTHS, 0.5), TrafficPart(AZURE_LENGTHS, 0.5)),
        AZURE_BURSTINESS,
    ),
}
"""The traffics by the name that `load.traffic` takes."""

CONVERSATION = TRAFFICS["conversation"]

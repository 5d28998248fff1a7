"""How the numbers of a report are found, in its own words."""

from __future__ import annotations

EXPLAINED = {
    "Tokens per joule": (
        "Output tokens over the joules of the attempts that gave them. Idle replicas are not "
        "charged to rows."
    ),
    "Wasted": (
        "Joules of attempts that gave no result: of a replica that was lost, for example. They "
        "are in no other number but the sum that says so. An attempt whose joules were never "
        "read is missing."
    ),
    "Renewable": (
        "Share of the job's joules that the renewable supply covered, if it covers every draw "
        "of the site alike: what power.supply of the configuration offers but for bought "
        "power (constant, share_of_rated, firm: true), and what a battery gave. While a supply "
        "is stale, nothing counts as covered."
    ),
    "From surplus": (
        "The same, if the renewable supply covers all other draw of the GPUs first and this "
        "job last: what the job took of power that nothing else needed."
    ),
    "Waited": "Time from the making of the job to its end in which none of its rows ran.",
    "Run at once": (
        "The same joules, wasted ones too, drawn from the moment the job was made, at the pace "
        "at which it ran fastest: the 95th percentile of its draw over the steps in which rows "
        "ran. Compared with what the supply then left after all other draw. Replicas that would "
        "have been woken for it are not counted."
    ),
    "Draw of this job": "The joules of each row, even over the time from its start to its end.",
    "Draw of other classes": (
        "Joules of the requests of other classes at this gateway, known at the end of each "
        "request: a mean of 10 s at least."
    ),
}
"""What each term of a page means."""

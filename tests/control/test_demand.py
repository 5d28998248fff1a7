from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.control.demand import LEAST_CHANGE, MEMORY_S, PRIOR_TOKENS, DemandEstimator, Traffic
from steppe.roofline.lengths import RequestLengths

PACE_TPS = 10.0


def day_of(rps: float, mean_tokens: float, seconds: int) -> list[Traffic]:
    """Return the totals of a fleet that begins empty and decodes every request at once."""
    rng = random.Random(5)
    lengths: list[tuple[float, float]] = []
    totals = []
    for second in range(seconds):
        now_s = float(second)
        done = [min(tokens, PACE_TPS * (now_s - at_s)) for at_s, tokens in lengths]
        answered = sum(d >= t for d, (_, t) in zip(done, lengths, strict=True))
        totals.append(Traffic(now_s, len(lengths), answered, round(sum(done))))
        lengths += [(now_s, rng.expovariate(1 / mean_tokens)) for _ in range(round(rps))]
    return totals


def test_before_any_answer_has_ended_answers_are_taken_to_be_of_usual_length() -> None:
    demand = DemandEstimator()
    demand.update(Traffic(0.0, 0, 0, 0))
    assert demand.update(Traffic(2.0, 10, 0, 0)).tps == 5 * PRIOR_TOKENS


@pytest.mark.parametrize("mean_tokens", [30.0, 200.0, 900.0])
def test_the_short_answers_that_end_first_do_not_make_the_others_short(mean_tokens: float) -> None:
    demand, rps = DemandEstimator(), 50.0
    for totals in day_of(rps, mean_tokens, 120):
        told_tps = demand.update(totals).tps
        if totals.now_s >= 20.0:
            assert told_tps == pytest.approx(rps * mean_tokens, rel=0.25)
    assert told_tps == pytest.approx(rps * mean_tokens, rel=0.1)


def test_a_change_of_the_load_is_followed_within_its_memory() -> None:
    demand, now_s, arrived, answered, tokens = DemandEstimator(), 0.0, 0, 0, 0
    for rps, length in ((5, 100), (20, 30)):
        for _ in range(round(2 * MEMORY_S)):
            now_s, arrived = now_s + 1.0, arrived + rps
            answered, tokens = answered + rps, tokens + rps * length
            told_tps = demand.update(Traffic(now_s, arrived, answered, tokens)).tps
        assert told_tps == pytest.approx(rps * length)


def test_a_fleet_that_answers_seldom_remembers_further_back() -> None:
    demand = DemandEstimator()
    for second in range(2000):
        answered = second // 10
        told_tps = demand.update(Traffic(float(second), answered, answered, 40 * answered)).tps
    assert told_tps == pytest.approx(0.1 * 40, rel=0.15)


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 999)), min_size=1),
    st.integers(0, 10_000),
)
def test_an_estimate_is_never_negative_and_no_higher_than_arrivals_of_all_tokens(
    steps: list[tuple[int, int, int]], begun: int
) -> None:
    demand = DemandEstimator()
    arrived = answered = tokens = begun  # as when a controller begins anew
    for second, (more, ended, sampled) in enumerate(steps):
        arrived, answered, tokens = arrived + more, answered + ended, tokens + sampled
        told_tps = demand.update(Traffic(float(second), arrived, answered, tokens)).tps
        assert 0.0 <= told_tps <= (arrived - begun) * max(PRIOR_TOKENS, tokens - begun + 1)


def test_totals_that_begin_anew_are_no_negative_demand() -> None:
    demand, told_tps = DemandEstimator(), []
    for second in range(400):
        requests = 10 * (second if second < 200 else second - 200)
        told_tps.append(
            demand.update(Traffic(float(second), requests, requests, 2000 * second)).tps
        )
    assert min(told_tps[20:]) >= 0.0
    assert max(told_tps[20:]) < 3 * 2000
    assert told_tps[-1] == pytest.approx(2000, rel=0.05)


def test_what_may_wait_is_told_apart() -> None:
    demand = DemandEstimator()
    demand.update(Traffic(0.0, 0, 0, 0))
    asked = demand.update(Traffic(5.0, 100, 100, 4000, deferrable_arrived=25, deferrable_waiting=7))
    assert asked.tps == pytest.approx(100 / 5 * 40)
    assert asked.deferrable.tps == pytest.approx(asked.tps / 4)
    assert asked.deferrable.waiting == 7
    assert asked.deferrable.tokens == pytest.approx(7 * 40)


@dataclass
class Clients:
    """Clients whose requests are answered at once, and the demand estimated from them."""

    demand: DemandEstimator = field(default_factory=DemandEstimator)
    traffic: Traffic = field(default_factory=lambda: Traffic(0.0, 0, 0, 0))
    rng: random.Random = field(default_factory=lambda: random.Random(7))

    def send(
        self, lengths: RequestLengths, rps: float, seconds: int, spread: float = 0.0
    ) -> list[RequestLengths | None]:
        """Send requests for some seconds; return the mean request estimated after each."""
        found = []
        for _ in range(seconds):
            last, requests = self.traffic, round(rps)
            prompts, cached, tokens = (
                round(sum(self._length(mean, spread) for _ in range(requests)))
                for mean in (
                    lengths.prompt_tokens + lengths.cached_tokens,
                    lengths.cached_tokens,
                    lengths.output_tokens,
                )
            )
            self.traffic = Traffic(
                last.now_s + 1.0,
                last.arrived + requests,
                last.answered + requests,
                last.output_tokens + tokens,
                prompt_tokens=last.prompt_tokens + prompts,
                cached_tokens=last.cached_tokens + cached,
            )
            found.append(self.demand.update(self.traffic).lengths)
        return found

    def _length(self, mean: float, spread: float) -> float:
        return max(0.0, self.rng.gauss(mean, spread * mean))


CHAT, SUMMARIES = RequestLengths(1155.0, 211.0), RequestLengths(2000.0, 30.0)


def known(found: list[RequestLengths | None]) -> RequestLengths:
    """Return the last mean request."""
    assert found[-1] is not None
    return found[-1]


def test_the_mean_request_is_that_of_the_clients() -> None:
    found = known(Clients().send(CHAT, 40, 60))
    assert found.prompt_tokens == pytest.approx(1155, rel=LEAST_CHANGE)
    assert found.output_tokens == pytest.approx(211, rel=LEAST_CHANGE)
    assert found.cached_tokens == 0.0


def test_prompts_follow_a_change_of_the_mix_within_ten_seconds() -> None:
    clients = Clients()
    clients.send(CHAT, 40, 120)
    found = clients.send(SUMMARIES, 40, 12)
    assert known(found[:11]).prompt_tokens == pytest.approx(2000, rel=LEAST_CHANGE)
    moved = [lengths for lengths in found if lengths is not None and lengths.prompt_tokens > 1300]
    assert len(moved) >= 8  # the first of them after 2 s


def test_outputs_follow_a_change_of_the_mix_as_answers_end() -> None:
    clients = Clients()
    clients.send(CHAT, 40, 120)
    found = clients.send(SUMMARIES, 40, round(MEMORY_S) + 5)
    outputs = [lengths.output_tokens for lengths in found if lengths is not None]
    assert outputs == sorted(outputs, reverse=True)
    assert outputs[-1] == pytest.approx(30, rel=0.3)


def test_small_noise_does_not_move_the_mean_request() -> None:
    clients = Clients()
    clients.send(CHAT, 100, 60, spread=0.3)
    assert len(set(clients.send(CHAT, 100, 300, spread=0.3))) == 1


def test_cached_prompt_tokens_are_not_to_be_computed() -> None:
    clients = Clients()
    found = known(clients.send(RequestLengths(900.0, 200.0, 300.0), 40, 60))
    assert found.prompt_tokens == pytest.approx(900, rel=LEAST_CHANGE)
    assert found.cached_tokens == pytest.approx(300, rel=2 * LEAST_CHANGE)
    found = known(clients.send(RequestLengths(300.0, 200.0, 900.0), 40, 20))
    assert found.prompt_tokens == pytest.approx(300, rel=2 * LEAST_CHANGE)
    assert found.cached_tokens == pytest.approx(900, rel=LEAST_CHANGE)


def test_a_prompt_that_the_cache_holds_whole_is_one_token_to_compute() -> None:
    clients = Clients()
    found = known(clients.send(RequestLengths(0.0, 50.0, 400.0), 20, 60))
    assert found.prompt_tokens == 1.0
    assert found.cached_tokens == 400.0


def test_a_mean_request_outlives_a_pause_and_a_gateway_that_restarts() -> None:
    clients = Clients()
    before = known(clients.send(CHAT, 40, 120))
    assert known(clients.send(CHAT, 0, 300)) == before
    clients.traffic = Traffic(clients.traffic.now_s, 0, 0, clients.traffic.output_tokens)
    assert set(clients.send(CHAT, 0, 3)) == {before}
    found = clients.send(CHAT, 40, 60)
    assert known(found).prompt_tokens == pytest.approx(1155, rel=LEAST_CHANGE)
    assert all(lengths is not None and lengths.output_tokens >= 1 for lengths in found)


def test_without_known_prompts_there_is_no_mean_request() -> None:
    demand = DemandEstimator()
    for second in range(60):
        load = demand.update(Traffic(float(second), 20 * second, 20 * second, 800 * second))
        assert load.lengths is None


def test_a_seldom_client_is_judged_by_enough_requests() -> None:
    clients = Clients()
    found = clients.send(CHAT, 1, 400, spread=0.7)
    settled = [lengths.prompt_tokens for lengths in found[200:] if lengths is not None]
    assert min(settled) > 0.75 * 1155
    assert max(settled) < 1.3 * 1155

from __future__ import annotations

import signal
from collections.abc import Generator

import pytest

from steppe.run.signals import exiting_on_signals, ignoring_signals

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def same_handlers_afterwards(hears_hangups: None) -> Generator[None]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    after = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        signal.signal(number, handler)
    assert after == before


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_ends_the_block_and_its_cleanup_is_not_interrupted(number: int) -> None:
    cleaned: list[int] = []

    def work() -> None:
        try:
            signal.raise_signal(number)
        finally:
            for again in SIGNALS:
                signal.raise_signal(again)
                cleaned.append(again)

    with pytest.raises((KeyboardInterrupt, SystemExit)) as left, exiting_on_signals():
        work()
    assert cleaned == list(SIGNALS)
    code = None if number == signal.SIGINT else 128 + number
    assert getattr(left.value, "code", None) == code


def test_a_block_that_ignores_signals_is_not_ended_by_one() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    raised = []
    with ignoring_signals():
        for number in SIGNALS:
            signal.raise_signal(number)
            raised.append(number)
    assert raised == list(SIGNALS)
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_a_closed_terminal_does_not_end_a_command_under_nohup() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with exiting_on_signals():
        signal.raise_signal(signal.SIGHUP)
    assert signal.signal(signal.SIGHUP, before) == signal.SIG_IGN

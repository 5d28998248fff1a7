from __future__ import annotations

import signal
from collections.abc import Generator

import pytest

from steppe.run.leave_signals import leaving_on_signals, staying

LEAVING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def same_handlers_afterwards(hears_hangups: None) -> Generator[None]:
    before = {number: signal.getsignal(number) for number in LEAVING}
    yield
    after = {number: signal.getsignal(number) for number in LEAVING}
    for number, handler in before.items():
        signal.signal(number, handler)
    assert after == before


@pytest.mark.parametrize("number", LEAVING)
def test_a_signal_ends_the_block_once_and_its_cleanup_hears_no_other(number: int) -> None:
    cleaned: list[int] = []

    def work() -> None:
        try:
            signal.raise_signal(number)
        finally:
            for again in LEAVING:
                signal.raise_signal(again)
                cleaned.append(again)

    with pytest.raises((KeyboardInterrupt, SystemExit)) as left, leaving_on_signals():
        work()
    assert cleaned == list(LEAVING)
    code = None if number == signal.SIGINT else 128 + number
    assert getattr(left.value, "code", None) == code


def test_no_signal_ends_a_block_that_stays() -> None:
    before = [signal.getsignal(number) for number in LEAVING]
    raised = []
    with staying():
        for number in LEAVING:
            signal.raise_signal(number)
            raised.append(number)
    assert raised == list(LEAVING)
    assert [signal.getsignal(number) for number in LEAVING] == before


def test_a_command_under_nohup_does_not_hear_that_its_terminal_closed() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with leaving_on_signals():
        signal.raise_signal(signal.SIGHUP)
    assert signal.signal(signal.SIGHUP, before) == signal.SIG_IGN

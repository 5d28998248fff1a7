from __future__ import annotations

import signal

import pytest

from steppe.agent.stop_signals import stop_signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_what_tells_the_agent_to_stop_arrives_as_a_byte(number: int, hears_hangups: None) -> None:
    before = signal.getsignal(number)
    with stop_signals() as stop:
        stop.settimeout(1.0)
        signal.raise_signal(number)
        assert stop.recv(1) == bytes([number])
    assert signal.getsignal(number) == before


def test_an_agent_under_nohup_outlives_its_terminal(hears_hangups: None) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with stop_signals() as stop:
        stop.setblocking(False)
        signal.raise_signal(signal.SIGHUP)
        with pytest.raises(BlockingIOError):
            stop.recv(1)

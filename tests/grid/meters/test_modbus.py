"""Meters that speak Modbus, with pymodbus' own server as the peer."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.grid.meters.conftest import ModbusPeer, Wait

from steppe.errors import ConfigError, DeviceError
from steppe.grid.meters.modbus import (
    Format,
    RegisterMeter,
    RegisterReader,
    RegisterSettings,
    value_of,
)
from steppe.power.signal import Fresh, Stale


def reader(peer: ModbusPeer, **settings: Any) -> RegisterReader:
    asked = {"host": "127.0.0.1", "port": peer.port, "address": 100, **settings}
    return RegisterReader(RegisterSettings.model_validate(asked))


@pytest.mark.parametrize(
    ("words", "settings", "watts"),
    [
        ((1800,), {}, 1800.0),
        ((-5,), {}, -5.0),
        ((0xFFFB,), {"format": "uint16"}, 65531.0),
        ((1, 0), {"format": "int32"}, 65536.0),
        ((0, 1), {"format": "int32", "low_word_first": True}, 65536.0),
        ((0x44E1, 0x1000), {"format": "float32", "table": "input"}, 1800.5),
    ],
)
def test_a_value_is_read_in_its_format(
    peer: ModbusPeer, words: tuple[int, ...], settings: dict[str, Any], watts: float
) -> None:
    peer.write(100, *words)
    meter = reader(peer, **settings)
    assert meter.read().watts == watts
    meter.close()


@given(st.integers(-(2**31), 2**31 - 1))
def test_the_order_of_the_words_changes_nothing_but_the_order(value: int) -> None:
    high, low = (value >> 16) & 0xFFFF, value & 0xFFFF
    form: Format = "int32"
    assert value_of([high, low], form) == value == value_of([low, high], form, low_word_first=True)


def test_a_register_that_is_not_there_is_a_fault_of_one_line(peer: ModbusPeer) -> None:
    meter = reader(peer)
    with pytest.raises(DeviceError, match="asked for 1 holding registers from 100, found the ref"):
        meter.read()
    meter.close()


def test_a_device_that_is_not_there_is_a_fault_of_one_line(peer: ModbusPeer) -> None:
    peer.stop()
    with pytest.raises(DeviceError, match="found no connection"):
        reader(peer).read()


def test_the_meter_comes_back_with_the_device(peer: ModbusPeer, wait_for: Wait) -> None:
    peer.write(100, 700)
    meter = RegisterMeter(
        host="127.0.0.1", port=peer.port, address=100, period_s=0.1, stale_s=0.3, timeout_s=1.0
    )
    wait_for(lambda: isinstance(meter.at(0.0), Fresh))
    peer.stop()
    wait_for(lambda: isinstance(meter.at(0.0), Stale))
    peer.write(100, 650)
    peer.start()
    wait_for(lambda: getattr(meter.at(0.0), "watts", 0) == 650)
    meter.stop()


def test_a_wrong_setting_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^address: asked for a number of at most 65535, found"):
        RegisterMeter(host="meter", address=70_000)
    with pytest.raises(ConfigError, match=r"^format: asked for 'int16', 'uint16'"):
        RegisterMeter(host="meter", address=7, format="text")

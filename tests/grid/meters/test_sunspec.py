"""SunSpec devices, with pymodbus' own server as the peer."""

from __future__ import annotations

import math
from typing import Any

import pytest
from tests.grid.meters.conftest import ModbusPeer, Wait

from steppe.errors import DeviceError
from steppe.grid.meters.modbus import Registers
from steppe.grid.meters.sunspec import (
    Model,
    SunSpecMeter,
    SunSpecReader,
    SunSpecSettings,
    chosen,
    models_of,
)
from steppe.power.signal import Fresh

MARK = (0x5375, 0x6E53)
COMMON, END = (1, 66), (0xFFFF, 0)
INTEGER = {101: (14, 15, 50), 103: (14, 15, 50), 201: (18, 22, 105), 203: (18, 22, 105)}
"""Offsets of power and scale factor, and length, as in the models of the SunSpec Alliance."""
FLOAT = {111: (22, 60), 113: (22, 60), 213: (28, 124)}


def settings(peer: ModbusPeer, **more: Any) -> SunSpecSettings:
    return SunSpecSettings.model_validate({"host": "127.0.0.1", "port": peer.port, **more})


def reader(peer: ModbusPeer, **more: Any) -> SunSpecReader:
    return SunSpecReader(settings(peer, **more))


def put(peer: ModbusPeer, *models: int, base: int = 40000) -> list[int]:
    """Write a list of models, with zeros in them; return where each begins."""
    lengths = {**{n: at[2] for n, at in INTEGER.items()}, **{n: at[1] for n, at in FLOAT.items()}}
    lengths |= {701: 153, 160: 48}
    begins, at = [], base
    peer.write(at, *MARK, *COMMON, *[0] * COMMON[1])
    at += 4 + COMMON[1]
    for number in models:
        begins.append(at)
        peer.write(at, number, lengths[number], *[0] * lengths[number])
        at += 2 + lengths[number]
    peer.write(at, *END)
    return begins


@pytest.mark.parametrize("number", INTEGER)
def test_the_power_of_an_integer_model_has_its_scale_factor(peer: ModbusPeer, number: int) -> None:
    (begin,) = put(peer, number)
    watts, factor, _ = INTEGER[number]
    peer.write(begin + watts, 18005)
    peer.write(begin + factor, -1)
    meter = reader(peer)
    assert meter.read().watts == pytest.approx(1800.5)
    peer.write(begin + watts, -2)
    peer.write(begin + factor, 3)
    assert meter.read().watts == -2000.0
    meter.close()


@pytest.mark.parametrize("number", FLOAT)
def test_the_power_of_a_float_model_is_read(peer: ModbusPeer, number: int) -> None:
    (begin,) = put(peer, number)
    peer.write_float(begin + FLOAT[number][0], 1800.5)
    meter = reader(peer)
    assert meter.read().watts == 1800.5
    meter.close()


def test_the_power_of_model_701_is_read_with_its_far_scale_factor(peer: ModbusPeer) -> None:
    (begin,) = put(peer, 701)
    peer.write(begin + 10, 12)
    peer.write(begin + 116, 2)
    meter = reader(peer)
    assert meter.read().watts == 1200.0
    meter.close()


@pytest.mark.parametrize("base", [0, 40000, 50000])
def test_the_list_of_models_is_found_at_each_usual_place(peer: ModbusPeer, base: int) -> None:
    (begin,) = put(peer, 203, base=base)
    registers = Registers(settings(peer))
    assert models_of(registers)[-1] == Model(203, begin, 105)
    registers.close()


def test_a_value_that_the_device_does_not_have_is_no_reading(peer: ModbusPeer) -> None:
    (begin,) = put(peer, 203)
    meter = reader(peer)
    peer.write(begin + 18, 0x8000)
    with pytest.raises(DeviceError, match="asked model 203 for its power, found none"):
        meter.read()
    peer.write(begin + 18, 7)
    peer.write(begin + 22, 0x8000)
    with pytest.raises(DeviceError, match="asked model 203 for a scale factor from -10 to 10"):
        meter.read()
    peer.write(begin + 22, 11)
    with pytest.raises(DeviceError, match="from -10 to 10, found 11"):
        meter.read()
    meter.close()


def test_a_float_that_is_no_number_is_read_as_that(peer: ModbusPeer) -> None:
    (begin,) = put(peer, 113)
    peer.write_float(begin + 22, math.nan)
    meter = reader(peer)
    assert math.isnan(meter.read().watts)
    meter.close()


def test_a_device_without_sunspec_is_one_line(peer: ModbusPeer) -> None:
    peer.write(40000, 1, 2)
    meter = reader(peer)
    with pytest.raises(DeviceError, match="at register 40000, 50000, 0, found no SunS"):
        meter.read()
    meter.close()


def test_a_list_of_models_without_an_end_is_one_line(peer: ModbusPeer) -> None:
    peer.write(40000, *MARK, *[1, 0] * 200)
    meter = reader(peer)
    with pytest.raises(DeviceError, match="asked for the end of the list of models, found 100"):
        meter.read()
    meter.close()


def test_several_models_with_power_have_to_be_told_apart(peer: ModbusPeer) -> None:
    _, _, second = put(peer, 103, 203, 203)
    peer.write(second + 18, 40)
    meter = reader(peer)
    with pytest.raises(DeviceError, match="found 103, 203, 203: give model and which"):
        meter.read()
    meter.close()
    meter = reader(peer, model=203, which=2)
    assert meter.read().watts == 40.0
    meter.close()


def test_a_model_that_is_too_short_for_its_power_is_not_read() -> None:
    with pytest.raises(DeviceError, match="asked for a model with power, found none"):
        chosen((Model(203, 40070, 10),), None, None)


def test_another_model_at_that_place_is_a_fault_and_then_looked_for(
    peer: ModbusPeer, wait_for: Wait
) -> None:
    (begin,) = put(peer, 203)
    peer.write(begin + 18, 500)
    meter = SunSpecMeter(host="127.0.0.1", port=peer.port, period_s=0.1)
    wait_for(lambda: isinstance(meter.at(0.0), Fresh))
    _, moved = put(peer, 160, 203)
    peer.write(moved + 18, 600)
    wait_for(lambda: getattr(meter.at(0.0), "watts", 0) == 600)
    meter.stop()

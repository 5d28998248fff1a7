"""SunSpec over Modbus: which models a device has, and its power in one of them.

Offsets and formats are those of the SunSpec Alliance's information models, counted from the first
register of a model, which holds its number; its length follows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

from pydantic import Field

from steppe.errors import TransientDeviceError
from steppe.grid.meters.modbus import ModbusRefusedError, ModbusSettings, Registers, value_of
from steppe.grid.meters.polled import PolledMeter
from steppe.grid.meters.readings import Measured
from steppe.grid.meters.settings import settings_of

BASES = (40000, 50000, 0)
"""Where the list of models may begin."""
_MARK = [0x5375, 0x6E53]  # "SunS"
_END = 0xFFFF
_MOST_MODELS = 100
_REGISTERS = 65536
_NO_INT16, _NO_FACTOR = 0x8000, 0x8000
_LARGEST_EXPONENT = 10


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a model has its total active power.

    Attributes:
        watts: Offset of the power.
        factor: Offset of its exponent of ten; None if the power is a float32.
    """

    watts: int
    factor: int | None = None

    @property
    def count(self) -> int:
        """Registers from the beginning of the model to the last one that is needed."""
        return self.watts + 2 if self.factor is None else self.factor + 1


_LAYOUTS = {
    **dict.fromkeys((101, 102, 103), Layout(14, 15)),
    **dict.fromkeys((111, 112, 113), Layout(22)),
    **dict.fromkeys((201, 202, 203, 204), Layout(18, 22)),
    **dict.fromkeys((211, 212, 213, 214), Layout(28)),
    701: Layout(10, 116),
}


class SunSpecSettings(ModbusSettings):
    """A device with the models of SunSpec."""

    model: int | None = None
    """The model to read: an inverter (101-103, 111-113, 701) or a meter (201-204, 211-214). If
    absent, the only one of these that the device has."""
    which: Annotated[int, Field(ge=1)] | None = None
    """The first, second, ... of the models of that number; may be absent if there is one."""
    base: Annotated[int, Field(ge=0, le=65535)] | None = None
    """Address of the list of models. If absent: 40000, 50000 or 0."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model of a device.

    Attributes:
        number: Its number.
        address: Its first register.
        length: Registers after its number and length.
    """

    number: int
    address: int
    length: int


class Device(Protocol):
    """Registers of a device."""

    def read(self, address: int, count: int) -> list[int]:
        """Return holding registers.

        Raises:
            TransientDeviceError: The device does not answer.
            RefusedError: It has no such registers.
        """
        ...


def models_of(device: Device, base: int | None = None) -> tuple[Model, ...]:
    """Return all models of a device.

    Args:
        device: The device.
        base: Where its list begins; None to look at the usual places.

    Raises:
        TransientDeviceError: There is no list, or it has no end.
    """
    asked = BASES if base is None else (base,)
    for begin in asked:
        if _registers(device, begin, 2) == _MARK:
            return tuple(_listed(device, begin + 2))
    at = ", ".join(map(str, asked))
    raise TransientDeviceError(f"asked for SunSpec at register {at}, found no SunS")


def chosen(models: tuple[Model, ...], number: int | None, which: int | None) -> Model:
    """Return the model to read.

    Args:
        models: Those of the device.
        number: Its number; None for the only one that has the power.
        which: The first, second, ...; None for the only one.

    Raises:
        TransientDeviceError: There is none, or more than one.
    """
    known = [model for model in models if _has_power(model)]
    fit = [model for model in known if number in (None, model.number)]
    fit = fit if which is None else fit[which - 1 : which]
    if len(fit) == 1:
        return fit[0]
    asked = "a model with power" if number is None else f"model {number}"
    asked = asked if which is None else f"{asked}, number {which} of them"
    found = ", ".join(str(model.number) for model in known) or "none"
    raise TransientDeviceError(f"asked for {asked}, found {found}: give model and which")


def power_of(registers: list[int], model: Model) -> float:
    """Return the power of a model, W.

    Args:
        registers: Those from the beginning of the model, `Layout.count` of them.
        model: The model that is expected.

    Raises:
        TransientDeviceError: Another model is there, or it gives no power now.
    """
    layout = _LAYOUTS[model.number]
    if registers[:2] != [model.number, model.length]:
        found = f"model {registers[0]} of {registers[1]} registers"
        raise TransientDeviceError(f"asked for model {model.number}, found {found}")
    if layout.factor is None:
        # NaN says that there is no value; the caller refuses what is no number.
        return value_of(registers[layout.watts : layout.watts + 2], "float32")
    raw, factor = registers[layout.watts], registers[layout.factor]
    if raw == _NO_INT16:
        raise TransientDeviceError(f"asked model {model.number} for its power, found none")
    exponent = int(value_of([factor], "int16"))
    if factor == _NO_FACTOR or abs(exponent) > _LARGEST_EXPONENT:
        raise TransientDeviceError(
            f"asked model {model.number} for a scale factor from -10 to 10, found {exponent}"
        )
    return value_of([raw], "int16") * 10.0**exponent


class SunSpecReader:
    """Reads the power of a device; power and scale factor come in one answer."""

    def __init__(self, settings: SunSpecSettings) -> None:
        """Prepare the connection."""
        self._settings, self._registers = settings, Registers(settings)
        self._model: Model | None = None

    def read(self) -> Measured:
        """Return the power; the first reading after a fault looks for the model again.

        Raises:
            DeviceError: The device gives none.
        """
        asked = self._settings
        if self._model is None:
            models = models_of(self._registers, asked.base)
            self._model = chosen(models, asked.model, asked.which)
        model = self._model
        registers = self._registers.read(model.address, _LAYOUTS[model.number].count)
        return Measured(power_of(registers, model))

    def close(self) -> None:
        """Close the connection, and forget where the model is: the device may have changed."""
        self._model = None
        self._registers.close()


class SunSpecMeter(PolledMeter):
    """A `steppe.Signal`: the total active power of a SunSpec meter or inverter."""

    def __init__(self, **settings: Any) -> None:
        """Prepare the connection.

        Args:
            settings: See `SunSpecSettings`.

        Raises:
            ConfigError: A setting is unknown, missing or out of range.
        """
        checked = settings_of(SunSpecSettings, settings)
        name = f"the meter at {checked.host}:{checked.port}"
        super().__init__(SunSpecReader(checked), checked, name)


def _has_power(model: Model) -> bool:
    layout = _LAYOUTS.get(model.number)
    return layout is not None and model.length + 2 >= layout.count


def _registers(device: Device, address: int, count: int) -> list[int]:
    """Return registers; none where the device has none, as long as the link is there."""
    try:
        return device.read(address, count)
    except ModbusRefusedError:
        return []


def _listed(device: Device, address: int) -> Iterator[Model]:
    for _ in range(_MOST_MODELS):
        if address + 2 > _REGISTERS:
            raise TransientDeviceError(f"asked for the end of the list of models, found {address}")
        number, length = device.read(address, 2)
        if number == _END:
            return
        yield Model(number, address, length)
        address += 2 + length
    raise TransientDeviceError(f"asked for the end of the list of models, found {_MOST_MODELS}")

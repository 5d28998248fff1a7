"""Modbus over TCP, by pymodbus: registers of a device, and a meter in one of them."""

from __future__ import annotations

import logging
import struct
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field
from pymodbus.client import ModbusTcpClient
from pymodbus.exceptions import ModbusException

from steppe.config.section import Positive
from steppe.errors import TransientDeviceError
from steppe.grid.meters.polled import PolledMeter
from steppe.grid.meters.readings import Measured
from steppe.grid.meters.settings import MeterSettings, settings_of

# It logs every failed attempt as an error; a meter logs a fault once.
logging.getLogger("pymodbus").setLevel(logging.CRITICAL)

Format = Literal["int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]
_FORMATS: dict[Format, str] = {
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "uint64": "Q",
    "float32": "f",
    "float64": "d",
}


class ModbusSettings(MeterSettings):
    """A device with Modbus over TCP."""

    host: str
    """Its host."""
    port: Annotated[int, Field(ge=1, le=65535)] = 502
    """Its port."""
    unit: Annotated[int, Field(ge=0, le=255)] = 1
    """Its unit identifier."""
    timeout_s: Positive = 3.0
    """Longest wait for an answer, s."""


class RegisterSettings(ModbusSettings):
    """A value in the registers of a device."""

    address: Annotated[int, Field(ge=0, le=65535)]
    """Address of the first register, counted from 0."""
    table: Literal["holding", "input"] = "holding"
    """Which registers: function code 3 or 4."""
    format: Format = "int16"
    """How the value is written."""
    low_word_first: bool = False
    """Whether the first of several registers is the lowest one."""


class ModbusRefusedError(TransientDeviceError):
    """The device answered with a refusal: it has no such registers, or is not ready."""


class Registers:
    """Reads registers of a device; the connection opens with the first call and after a fault."""

    def __init__(self, settings: ModbusSettings) -> None:
        """Prepare the connection."""
        self._unit, self._name = settings.unit, f"{settings.host}:{settings.port}"
        # Some of its methods carry no types.
        self._client: Any = ModbusTcpClient(
            settings.host, port=settings.port, timeout=settings.timeout_s, retries=0
        )

    def read(self, address: int, count: int, table: str = "holding") -> list[int]:
        """Return registers.

        Args:
            address: Address of the first one, counted from 0.
            count: How many, at most 125.
            table: `holding` or `input`.

        Raises:
            TransientDeviceError: The device does not answer.
            RefusedError: It refuses.
        """
        asked = f"{self._name}: asked for {count} {table} registers from {address}"
        client = self._client
        read = client.read_input_registers if table == "input" else client.read_holding_registers
        try:
            if not client.connected and not client.connect():
                raise TransientDeviceError(f"{asked}, found no connection")
            answer = read(address, count=count, device_id=self._unit)
        except (ModbusException, OSError) as error:
            raise TransientDeviceError(f"{asked}, found {' '.join(str(error).split())}") from error
        if answer.isError():
            raise ModbusRefusedError(f"{asked}, found the refusal {answer.exception_code}")
        if len(answer.registers) != count:
            raise TransientDeviceError(f"{asked}, found {len(answer.registers)}")
        return list(answer.registers)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def value_of(registers: Sequence[int], format_: Format, low_word_first: bool = False) -> float:
    """Return the number in registers.

    Args:
        registers: As many as the format has.
        format_: How it is written.
        low_word_first: Whether the first register is the lowest one.
    """
    words = registers[::-1] if low_word_first else registers
    return float(struct.unpack(f">{_FORMATS[format_]}", struct.pack(f">{len(words)}H", *words))[0])


class RegisterReader:
    """Reads one value."""

    def __init__(self, settings: RegisterSettings) -> None:
        """Prepare the connection."""
        self._settings, self._registers = settings, Registers(settings)

    def read(self) -> Measured:
        """Return the value.

        Raises:
            DeviceError: The device gives none.
        """
        asked = self._settings
        count = struct.calcsize(f">{_FORMATS[asked.format]}") // 2
        registers = self._registers.read(asked.address, count, asked.table)
        return Measured(value_of(registers, asked.format, asked.low_word_first))

    def close(self) -> None:
        """Close the connection."""
        self._registers.close()


class RegisterMeter(PolledMeter):
    """A `steppe.Signal`: a value in the registers of a Modbus device."""

    def __init__(self, **settings: Any) -> None:
        """Prepare the connection.

        Args:
            settings: See `RegisterSettings`.

        Raises:
            ConfigError: A setting is unknown, missing or out of range.
        """
        checked = settings_of(RegisterSettings, settings)
        name = f"the meter at {checked.host}:{checked.port}"
        super().__init__(RegisterReader(checked), checked, name)

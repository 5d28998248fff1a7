"""The driver of this host, and where a GPU sits, through NVML; reads only."""

from __future__ import annotations

from dataclasses import dataclass

import pynvml

from steppe.device.nvml_codes import error_kind


@dataclass(frozen=True, slots=True)
class Driver:
    """The driver.

    Attributes:
        version: Its version, such as `580.65.06`.
        cuda: Newest CUDA release that it supports; None if it does not say.
    """

    version: str
    cuda: tuple[int, int] | None


def read_driver() -> Driver:
    """Return the driver of this host.

    Raises:
        DeviceError: There is no driver that answers.
    """
    try:
        pynvml.nvmlInit()
        version = str(pynvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError as error:
        raise error_kind(error.value)(f"the driver: {error}") from error
    try:
        number = int(pynvml.nvmlSystemGetCudaDriverVersion_v2())
    except pynvml.NVMLError:
        return Driver(version, None)
    return Driver(version, (number // 1000, number % 1000 // 10))


def pci_address(gpu_index: int) -> str | None:
    """Return the PCI address of a GPU as the kernel log has it, such as `0000:3b:00`; or None."""
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(gpu_index)
        bus_id = str(pynvml.nvmlDeviceGetPciInfo(handle).busId)
    except pynvml.NVMLError:
        return None
    return bus_id.lower()[-12:].rpartition(".")[0]

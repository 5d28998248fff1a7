"""The driver and the place of a GPU, from the emulated library."""

from __future__ import annotations

import pynvml
import pytest
from tests.fixtures.virtual_gpu import VirtualGpu

from steppe.device.nvml_driver import pci_address, read_driver
from steppe.errors import BackendUnavailableError


def test_the_driver_says_its_version_and_cuda(virtual_l4: VirtualGpu) -> None:
    driver = read_driver()
    assert driver.version.endswith(".EMU")
    assert driver.cuda is not None
    assert driver.cuda >= (12, 0)


def test_a_gpu_has_the_address_of_the_kernel_log(virtual_l4: VirtualGpu) -> None:
    address = pci_address(0)
    assert address is not None
    domain, bus, device = address.split(":")
    assert (len(domain), len(bus), device) == (4, 2, "00")
    assert pci_address(99) is None


def test_no_driver_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> None:
        raise pynvml.NVMLError_LibraryNotFound

    monkeypatch.setattr(pynvml, "nvmlInit", absent)
    with pytest.raises(BackendUnavailableError):
        read_driver()


def test_a_driver_that_does_not_say_its_cuda_is_still_read(
    virtual_l4: VirtualGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent() -> None:
        raise pynvml.NVMLError_FunctionNotFound

    monkeypatch.setattr(pynvml, "nvmlSystemGetCudaDriverVersion_v2", silent)
    assert read_driver().cuda is None

"""Faults of the hardware of emulated GPUs, for tests, demonstrations and `steppe doctor`.

Any process that uses the GPUs may set one with `Emulator.set_fault`. New GPUs get those of the
variable `STEPPE_EMULATED_FAULTS`, a list such as `1:ecc=2,0:counter_scale=0.6,*:no_permission=1`
(GPU in PCI order or `*`, name, value), or of `device.faults` in a configuration.
"""

from __future__ import annotations

from collections.abc import Mapping

VARIABLE = "STEPPE_EMULATED_FAULTS"

FAULTS: Mapping[str, str] = {
    "ecc": "Adds so many uncorrectable memory errors, with NVML's event, an Xid 48 and a pending"
    " row remap (a pending retired page before Ampere).",
    "ecc_corrected": "Adds so many corrected memory errors.",
    "ecc_off": "1: ECC is switched off.",
    "remap_failed": "1: the remapping of a row has failed; such a board is replaced.",
    "xid": "Reports an Xid with this number once.",
    "counter_scale": "Joules that the energy counter adds per true joule; 0.6 reads 40 % low.",
    "neighbour": "A process with pid 1 uses this share of compute and memory time; 0: none.",
    "reasons": "Bits of NVML's clocks event reasons that hold whatever the load is: 8 hardware"
    " slowdown, 32 thermal (0.7 of the clock), 64 hardware thermal, 128 power brake; the hardware's"
    " halve the clock.",
    "no_permission": "1: no process may change the limits of this GPU.",
    "no_persistence": "1: persistence mode is off.",
    "mig": "1: MIG mode is on.",
}
"""What each fault does, by name."""

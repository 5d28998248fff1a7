"""What a GPU says about its own state: memory errors, Xids, persistence, slow-downs.

Sources: NVIDIA's "GPU Memory Error Management" and "Xid Errors" (docs.nvidia.com/deploy).
"""

from __future__ import annotations

from dataclasses import dataclass

from steppe.device.gpu import LimitReason

SLOWDOWNS = frozenset(
    {
        LimitReason.HARDWARE_SLOWDOWN,
        LimitReason.THERMAL,
        LimitReason.HARDWARE_THERMAL,
        LimitReason.POWER_BRAKE,
    }
)
"""Reasons for a low clock that neither Steppe nor the load has asked for: heat, or the power
supply. A GPU with one of them gives less than its operating points say."""

XID_MEANINGS = {
    13: "graphics engine exception: an error of the application, mostly",
    31: "memory page fault: an error of the application, mostly",
    43: "a process was stopped after its fault",
    45: "work was removed because its process ended",
    48: "memory error that ECC could not correct",
    61: "breakpoint of the internal micro-controller",
    62: "halt of the internal micro-controller",
    63: "a memory row was remapped, or a page retired",
    64: "a memory row could not be remapped, or a page not retired",
    69: "class error of the graphics engine: an error of the application, mostly",
    74: "error of an NVLink",
    79: "the GPU has fallen off the bus",
    92: "many memory errors that ECC corrected",
    94: "memory error that was contained in its process",
    95: "memory error that was not contained",
    119: "the GPU's system processor does not answer",
    120: "error of the GPU's system processor",
    140: "memory errors that ECC could not correct",
    154: "the GPU needs a recovery action",
}
"""Xids that are usual on servers, in short."""

_NEEDS_RESET = frozenset({48, 62, 64, 74, 79, 95, 119, 120, 140, 154})
"""Xids after which NVIDIA's documents ask for a reset of the GPU or for a look at the board."""


@dataclass(frozen=True, slots=True)
class RemappedRows:
    """Rows of memory that the GPU replaced by spare ones (Ampere and newer).

    Attributes:
        corrected: Rows replaced because of errors that ECC corrected.
        uncorrected: Rows replaced because of errors that it could not correct.
        is_pending: Whether a row is replaced only at the next reset of the GPU.
        has_failed: Whether a row could not be replaced: no spare is left, or the board is broken.
    """

    corrected: int
    uncorrected: int
    is_pending: bool
    has_failed: bool


@dataclass(frozen=True, slots=True)
class GpuHealth:
    """The state of one GPU at one moment; None where the GPU does not say.

    Attributes:
        uuid: The GPU.
        ecc_is_on: Whether ECC is on.
        corrected_errors: Memory errors that ECC corrected since the driver was loaded.
        uncorrected_errors: Memory errors that it could not correct since the driver was loaded.
        lifetime_uncorrected_errors: Those of the life of the board.
        remapped_rows: Rows that were replaced (Ampere and newer).
        retirement_is_pending: Whether a page is retired at the next reset (before Ampere).
        persistence: Whether the driver stays loaded without a client. Without it, board power
            limits are lost when the last process ends.
        reasons: Why the SM clock is not at its highest.
    """

    uuid: str
    ecc_is_on: bool | None
    corrected_errors: int | None
    uncorrected_errors: int | None
    lifetime_uncorrected_errors: int | None
    remapped_rows: RemappedRows | None
    retirement_is_pending: bool | None
    persistence: bool | None
    reasons: frozenset[LimitReason] = frozenset()

    @property
    def slowdowns(self) -> frozenset[LimitReason]:
        """The reasons that neither Steppe nor the load asked for: heat, or the power supply."""
        return self.reasons & SLOWDOWNS

    @property
    def memory_faults(self) -> tuple[str, ...]:
        """What is wrong with its memory, one statement each; empty for a GPU that may serve.

        A GPU with one of them should not serve before it is reset, and has to be replaced if a
        row could not be remapped.
        """
        found: list[str] = []
        if self.uncorrected_errors:
            found.append(
                f"{self.uncorrected_errors} uncorrectable memory errors since the driver was loaded"
            )
        rows = self.remapped_rows
        if rows is not None and rows.has_failed:
            found.append("a memory row could not be remapped: the board has to be replaced")
        if (rows is not None and rows.is_pending) or self.retirement_is_pending:
            found.append("a memory row is remapped at the next reset: reset the GPU")
        return tuple(found)


@dataclass(frozen=True, slots=True)
class XidEvent:
    """An Xid: an error that the driver reported.

    Attributes:
        uuid: The GPU; empty if the event names none.
        xid: Its number.
        at_s: When it was read, s of the monotonic clock.
    """

    uuid: str
    xid: int
    at_s: float

    @property
    def meaning(self) -> str:
        """What it stands for, in short."""
        return XID_MEANINGS.get(self.xid, "see NVIDIA's list of Xid errors")

    @property
    def needs_reset(self) -> bool:
        """Whether the GPU has to be reset or looked at; other Xids are errors of a program."""
        return self.xid in _NEEDS_RESET

"""The exceptions of steppe, as one tree.

SteppeError
├── UsageError          the request cannot be fulfilled: exit code 2
│   ├── ConfigError     a config file is missing, malformed or out of range
│   ├── TraceError      a supply or request trace is missing, unsorted or has a gap
│   ├── ModelError      a model cannot be found or converted
│   ├── InstallError    a compiler, an extra or a library is missing, or two exclude each other
│   ├── StartError      Ray or an actor of the run could not be started on this host or cluster
│   ├── JobBusyError     another process runs this job
│   └── InputChangedError        the input of a job is not what it was when the job began
├── InfeasibleError     no operating point fits the power budget
├── DeviceError         a GPU or a meter refused a reading or a setting
│   ├── NotSupportedError        this GPU lacks the function: hide the knob
│   ├── NoPermissionError        this process may not change limits: meter only
│   ├── OutOfRangeError          a value was not clamped before the call: a bug
│   ├── TransientDeviceError     timeout, busy, unknown: retry a few times
│   ├── DeviceLostError          the GPU fell off the bus: fence its replica
│   └── BackendUnavailableError  no driver, no library, or versions that do not match
├── AgentError          the agent refused or did not answer
├── EngineError         an engine could not start, or died
├── ReplicaError        a replica could not start, or died
├── DiskFullError       no space is left; what was written before is kept
└── ClusterLostError    the Ray cluster of a run was lost, and its run has ended
"""

from __future__ import annotations


class SteppeError(Exception):
    """Base of all errors that steppe raises on purpose."""


def notes_of(error: BaseException) -> tuple[str, ...]:
    """Return the notes of an error (PEP 678): more lines for people than its one line."""
    return tuple(getattr(error, "__notes__", ()))


class UsageError(SteppeError):
    """The request cannot be fulfilled; the command ends with exit code 2."""


class ConfigError(UsageError):
    """A config file is missing, malformed or out of range."""


class TraceError(UsageError):
    """A supply or request trace is missing, unsorted or has a gap."""


class ModelError(UsageError):
    """A model cannot be found or converted."""


class InstallError(UsageError):
    """A compiler, an extra or a library is missing, or two of them exclude each other."""


class StartError(UsageError):
    """Ray or an actor of the run could not be started on this host or cluster."""


class JobBusyError(UsageError):
    """Another process runs this job."""


class StoreBusyError(UsageError):
    """Another service runs the jobs of this store."""


class InputChangedError(UsageError):
    """The input of a job is not what it was when the job began."""


class InfeasibleError(SteppeError):
    """No operating point fits the power budget."""


class DeviceError(SteppeError):
    """A GPU or a meter refused a reading or a setting."""


class NotSupportedError(DeviceError):
    """This GPU lacks the function: hide the knob, never retry."""


class NoPermissionError(DeviceError):
    """This process may not change limits: meter only, and say so once."""


class OutOfRangeError(DeviceError):
    """A value was not clamped before the call: a bug in steppe."""


class TransientDeviceError(DeviceError):
    """Timeout, in use, not ready, unknown: retry a few times."""


class DeviceLostError(DeviceError):
    """The GPU fell off the bus or needs a reset: fence its replica."""


class GpuFaultError(DeviceError):
    """A GPU has uncorrected memory errors or is lost: start nothing on it."""


class BackendUnavailableError(DeviceError):
    """No driver, no library, or versions that do not match."""


class AgentError(SteppeError):
    """The agent refused a request or did not answer."""


class EngineError(SteppeError):
    """An engine could not start, or died."""


class ReplicaError(SteppeError):
    """A replica could not start, or died."""


class LoadError(SteppeError):
    """A process that sends the requests of a load failed."""


class DiskFullError(SteppeError):
    """No space is left on a disk; what was written before is kept, and a job can be resumed."""


class ClusterLostError(SteppeError):
    """The Ray cluster of a run, or its controller, was lost for good; the run has ended."""

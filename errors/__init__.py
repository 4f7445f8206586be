"""Every error that ortrim raises on purpose, in one small tree.

Two questions decide the class: whose fault is it, and what can the person do about it. An `InputError` is answered by
changing the command, the file or the flag (exit status 2); a `JobError` says that a well-formed job could not be done
(exit status 1). Messages are one line: they name the file, the node or the flag, and what to do.
"""

from __future__ import annotations

__all__ = [
    "DataError",
    "DeviceError",
    "DeviceSpecError",
    "InputError",
    "JobError",
    "ModelError",
    "NothingToPruneError",
    "OrtrimError",
    "OutputError",
    "PlanError",
    "RunError",
    "TargetError",
    "VerificationError",
]


class OrtrimError(Exception):
    """Root of the tree: anything ortrim refuses or fails at for a reason it can name."""

    exit_status = 1


class InputError(OrtrimError):
    """Bad usage or bad input: what was handed in has to change."""

    exit_status = 2


class ModelError(InputError):
    """The model file is missing, damaged, not ONNX, or uses something that cannot be read."""


class DataError(InputError):
    """The images or labels are missing, of the wrong shape or type, or out of range."""


class DeviceSpecError(InputError):
    """A `--device` that does not name a device, or names a provider the installed onnxruntime lacks."""


class OutputError(InputError):
    """An output that exists already, or a place that cannot be written."""


class PlanError(InputError):
    """A plan that names an unknown group, a unit outside its group, or every unit of a group that must keep one."""


class RunError(InputError):
    """A run directory that cannot be resumed, reported or replayed."""


class JobError(OrtrimError):
    """A well-formed job that could not be done."""


class NothingToPruneError(JobError):
    """The analysis found no group that can lose a unit."""


class TargetError(JobError):
    """No net that meets the target (latency, or the lowest score allowed) was found."""


class VerificationError(JobError):
    """A slim model does not compute what it should; the message names the output and the largest difference."""


class DeviceError(JobError):
    """The device could not be reached, was lost, or could not run the model."""

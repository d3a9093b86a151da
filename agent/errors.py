# SPDX-License-Identifier: MulanPSL-2.0
"""One error tree, one table of codes.

    AgentError                 anything that we raise ourselves
      ConfigError              what the operator wrote cannot be used
      HostError                the machine refused something
        HostUnavailable        nobody answers there now (bus, podman, npud): a later try may work

A code is stable: monitoring may match on it. Its `Remedy` says who or what can mend it, which
decides between a retry, waiting for an event, and holding. Standard library only.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never


class Remedy(StrEnum):
    """What has to happen before another try makes sense."""

    RETRY = "retry"  # nothing: try again, with backoff, for ever
    SOON = "soon"  # it may pass within moments: a few tries with backoff, then hold
    EVENT = "event"  # something that comes by itself (a driver, a device): wait for it
    CHANGE = "change"  # something outside has to change first (image, model, hardware): hold
    PERSON = "person"  # only a person can mend it, and will have to start it again


class Code(StrEnum):
    """Stable names of everything that can go wrong."""

    CONFIG_INVALID = "config-invalid"
    CONFIG_UNREAD = "config-unread"  # nobody can say what is in the files, right or wrong
    INSTANCE_UNKNOWN = "instance-unknown"
    DRIVER_ABSENT = "npu-driver-absent"
    DRIVER_FAILED = "npu-driver-failed"
    NPUD_SILENT = "npud-silent"
    NPU_DEVICE_MISSING = "npu-device-missing"
    NPU_TOO_FEW = "npu-too-few"
    NPU_UNKNOWN = "npu-unknown"
    NPU_UNSUPPORTED = "npu-unsupported"
    NPU_LEFTOVER = "npu-leftover"
    NPU_BUSY = "npu-busy"
    NPU_RESETTING = "npu-resetting"
    NPU_LOST = "npu-lost"
    REPLAN_USELESS = "replan-useless"
    PORT_TAKEN = "port-taken"
    HOST_TOO_SMALL = "host-too-small"
    MODEL_MISSING = "model-missing"
    MODEL_INVALID = "model-invalid"
    IMAGE_MISSING = "image-missing"
    PORT_IN_USE = "port-in-use"
    FILE_UNUSABLE = "file-unusable"
    PODMAN_UNAVAILABLE = "podman-unavailable"
    PODMAN_SILENT = "podman-silent"
    PODMAN_UNSUPPORTED = "podman-unsupported"
    SYSTEMD_UNAVAILABLE = "systemd-unavailable"
    UNIT_NOT_LOADED = "unit-not-loaded"
    UNIT_REFUSED = "unit-refused"
    UNIT_MASKED = "unit-masked"
    UNIT_SHADOWED = "unit-shadowed"
    UNIT_START_FAILED = "unit-start-failed"
    JOB_NOT_RUN = "job-not-run"  # systemd ended it before, or instead of, running its unit
    UNIT_STOP_FAILED = "unit-stop-failed"
    RUN_TOO_FULL = "run-too-full"  # /run, where systemd and Podman write whatever they start
    ENGINE_DIED = "engine-died"
    ENGINE_HUNG = "engine-hung"
    ENGINE_FAILED = "engine-failed"
    PORT_CUT = "port-cut"
    COUNTERS_UNKNOWN = "counters-unknown"  # no failure: nobody can say how much an engine works
    PAYLOAD_LEFT = "payload-left"
    FILE_NOT_WRITTEN = "file-not-written"
    STATE_DAMAGED = "state-damaged"
    DISK_SILENT = "disk-silent"
    METRICS_NOT_SERVED = "metrics-not-served"
    NOT_PERMITTED = "not-permitted"
    NOT_WISHED = "not-wished"
    ON_HOLD = "on-hold"
    NOT_ON_HOLD = "not-on-hold"
    CHANGE_UNKNOWN = "change-unknown"
    REQUEST_INVALID = "request-invalid"
    AGENT_UNREACHABLE = "agent-unreachable"
    OBSERVING = "observe-mode"
    INTERNAL = "internal-error"

    @classmethod
    def _missing_(cls, value: object) -> "Code":
        """One of a newer agent, in a file that it has kept: what is beside it must not be lost."""
        return cls.INTERNAL

    # Of a start, and read from the engine's log (`health/diagnosis`).
    START_TOO_SLOW = "start-too-slow"
    NPU_OUT_OF_MEMORY = "npu-out-of-memory"
    NPU_MEMORY_IN_USE = "npu-memory-in-use"
    NPU_INIT_FAILED = "npu-init-failed"
    NPU_FAULTED = "npu-faulted"
    NPU_NOT_USABLE = "npu-not-usable"
    NPU_SOFTWARE_MISMATCH = "npu-software-mismatch"
    HCCL_TIMEOUT = "hccl-timeout"
    KV_CACHE_TOO_SMALL = "kv-cache-too-small"
    DTYPE_UNSUPPORTED = "dtype-unsupported"
    MODEL_UNSUPPORTED = "model-unsupported"
    ENGINE_OPTION_INVALID = "engine-option-invalid"

    # Of bringing image and model (`supply`).
    SOURCE_UNREACHABLE = "source-unreachable"  # nobody answers there, or not now (429, 5xx)
    SOURCE_NOT_FOUND = "source-not-found"
    SOURCE_REFUSED = "source-refused"
    SOURCE_UNTRUSTED = "source-untrusted"  # its certificate
    CONTENT_DAMAGED = "content-damaged"  # not what the checksum says
    DISK_TOO_FULL = "disk-too-full"
    BUNDLE_DAMAGED = "bundle-damaged"
    BUNDLE_UNTRUSTED = "bundle-untrusted"  # its signature
    HOST_WENT_DOWN = "host-went-down"  # again and again, with an update on trial
    UPDATE_REFUSED = "update-refused"  # one is under way, or there is nothing to update or go to


def remedy(code: Code) -> Remedy:
    """Who or what can mend a failure with this code."""
    match code:
        case Code.CONFIG_INVALID | Code.INSTANCE_UNKNOWN:
            return Remedy.PERSON
        case (
            Code.DRIVER_ABSENT
            | Code.DRIVER_FAILED
            | Code.NPUD_SILENT
            | Code.NPU_DEVICE_MISSING
            | Code.NPU_RESETTING
            | Code.SYSTEMD_UNAVAILABLE
        ):
            return Remedy.EVENT
        case Code.NPU_BUSY | Code.PORT_IN_USE:
            return Remedy.SOON
        case (
            Code.NPU_TOO_FEW
            | Code.NPU_UNKNOWN
            | Code.NPU_UNSUPPORTED
            | Code.HOST_TOO_SMALL
            | Code.MODEL_MISSING
            | Code.MODEL_INVALID
            | Code.IMAGE_MISSING
            | Code.PORT_TAKEN
            | Code.FILE_UNUSABLE
            | Code.PODMAN_UNSUPPORTED
            | Code.UNIT_MASKED
            | Code.UNIT_SHADOWED
            | Code.OBSERVING
            | Code.ON_HOLD
            | Code.NPU_NOT_USABLE
            | Code.NPU_SOFTWARE_MISMATCH
            | Code.KV_CACHE_TOO_SMALL
            | Code.DTYPE_UNSUPPORTED
            | Code.MODEL_UNSUPPORTED
            | Code.ENGINE_OPTION_INVALID
            | Code.SOURCE_NOT_FOUND
            | Code.SOURCE_REFUSED
            | Code.SOURCE_UNTRUSTED
            | Code.DISK_TOO_FULL
            | Code.BUNDLE_DAMAGED
            | Code.BUNDLE_UNTRUSTED
            | Code.UPDATE_REFUSED
        ):
            return Remedy.CHANGE
        case (
            Code.NPU_LEFTOVER
            | Code.NPU_LOST
            | Code.REPLAN_USELESS
            | Code.PODMAN_UNAVAILABLE
            | Code.PODMAN_SILENT
            | Code.UNIT_NOT_LOADED
            | Code.UNIT_REFUSED
            | Code.UNIT_START_FAILED
            | Code.JOB_NOT_RUN
            | Code.UNIT_STOP_FAILED
            | Code.RUN_TOO_FULL
            | Code.HOST_WENT_DOWN
            | Code.ENGINE_DIED
            | Code.ENGINE_HUNG
            | Code.ENGINE_FAILED
            | Code.PORT_CUT
            | Code.COUNTERS_UNKNOWN
            | Code.PAYLOAD_LEFT
            | Code.FILE_NOT_WRITTEN
            | Code.STATE_DAMAGED
            | Code.DISK_SILENT
            | Code.CONFIG_UNREAD
            | Code.METRICS_NOT_SERVED
            | Code.NOT_PERMITTED
            | Code.NOT_WISHED
            | Code.NOT_ON_HOLD
            | Code.CHANGE_UNKNOWN
            | Code.REQUEST_INVALID
            | Code.AGENT_UNREACHABLE
            | Code.INTERNAL
            | Code.START_TOO_SLOW
            | Code.NPU_OUT_OF_MEMORY
            | Code.NPU_MEMORY_IN_USE
            | Code.NPU_INIT_FAILED
            | Code.NPU_FAULTED
            | Code.HCCL_TIMEOUT
            | Code.SOURCE_UNREACHABLE
            | Code.CONTENT_DAMAGED
        ):
            return Remedy.RETRY
        case _:
            assert_never(code)


# HTTP status of the socket API, where the remedy does not tell it.
_HTTP_STATUS = {
    Code.REQUEST_INVALID: 400,
    Code.NOT_PERMITTED: 403,
    Code.INSTANCE_UNKNOWN: 404,
    Code.NOT_WISHED: 409,
    Code.ON_HOLD: 409,
    Code.NOT_ON_HOLD: 409,
    Code.CHANGE_UNKNOWN: 404,
    Code.REPLAN_USELESS: 409,
    Code.UPDATE_REFUSED: 409,
    Code.NPU_UNKNOWN: 404,
    Code.SYSTEMD_UNAVAILABLE: 503,
    Code.CONFIG_INVALID: 422,
    Code.INTERNAL: 500,
}


def http_status(code: Code) -> int:
    """Of a request that is refused with this code. attach knows nothing else of a refusal: it stays
    on 5xx, and leaves on 4xx."""
    if code in _HTTP_STATUS:
        return _HTTP_STATUS[code]
    match remedy(code):
        case Remedy.CHANGE | Remedy.PERSON | Remedy.SOON:
            return 409  # not as things are
        case Remedy.EVENT | Remedy.RETRY:
            return 503


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure as a value: what policy, status and users see of it."""

    code: Code
    message: str  # "cannot <do> <what>: <why>"
    hint: str = ""  # what a person can do about it

    @property
    def remedy(self) -> Remedy:
        return remedy(self.code)


class AgentError(Exception):
    """Root of our own exceptions; carries a `Failure`."""

    def __init__(self, code: Code, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.failure = Failure(code, message, hint)


class ConfigError(AgentError):
    """What the operator wrote cannot be used."""


class HostError(AgentError):
    """The machine refused something."""


class HostUnavailable(HostError):
    """Nobody answers there now; a later try may work."""

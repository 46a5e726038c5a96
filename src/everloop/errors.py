"""Every error a user can meet.

    EverloopError
    ├── Invalid         what was given breaks a rule: a value, a file, a declaration
    │   └── TooLarge    a body is over its limit
    ├── NotFound        nothing has this name or id
    ├── Conflict        somebody else changed it first, or it exists already
    │   ├── AlreadyExists   what should be made is there, under the same name
    │   └── LostLease   another worker took the job over; what this one made is not kept
    ├── Denied          the actor may not do this
    │   └── NotRecognised   nobody said who asks, or the token or session is worth nothing
    ├── GateFailed      the answer is no: a gate, a check or a verification said so
    ├── StepFailed      a step of a pipeline failed; what was finished before it is kept
    ├── NotReady        not now; the same call may succeed later
    │   └── TooOften    it was tried too often; `retry_after_s` says when it may be tried again
    ├── MissingExtra    an optional package is not installed
    └── StorageFailed   the disk or the database refused; nothing was half-written

A message says what was found, what the rule is and what to do next.
"""

from __future__ import annotations


class EverloopError(Exception):
    """Base of all errors that everloop raises on purpose; `code` is stable and documented."""

    code = "error"


class Invalid(EverloopError):
    code = "invalid"


class TooLarge(Invalid):
    code = "too_large"


class NotFound(EverloopError):
    code = "not_found"


class Conflict(EverloopError):
    code = "conflict"


class AlreadyExists(Conflict):
    code = "already_exists"


class LostLease(Conflict):
    code = "lost_lease"


class Denied(EverloopError):
    code = "denied"


class NotRecognised(Denied):
    code = "not_recognised"


class GateFailed(EverloopError):
    code = "gate_failed"


class StepFailed(EverloopError):
    code = "step_failed"

    def __init__(self, message: str, *, run_id: str) -> None:
        super().__init__(message)
        self.run_id = run_id


class NotReady(EverloopError):
    code = "not_ready"


class TooOften(NotReady):
    code = "too_often"

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class MissingExtra(EverloopError):
    code = "missing_extra"

    def __init__(self, extra: str, *, needed_for: str) -> None:
        super().__init__(
            f"{needed_for} needs the extra {extra!r}. Install it with: pip install 'everloop[{extra}]'"
        )
        self.extra = extra


class StorageFailed(EverloopError):
    code = "storage_failed"

"""The one table from errors to HTTP statuses and exit codes."""

from __future__ import annotations

from everloop import errors

STATUSES: dict[type[errors.EverloopError], int] = {
    errors.Invalid: 422,
    errors.TooLarge: 413,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.Denied: 403,
    errors.NotRecognised: 401,
    errors.GateFailed: 409,
    errors.NotReady: 503,
    errors.TooOften: 429,
    errors.MissingExtra: 501,
    errors.StorageFailed: 507,
}
# 0 done, 1 everloop failed, 2 wrong use, 3 the answer is no, 75 try again later
EXIT_CODES: dict[type[errors.EverloopError], int] = {
    errors.Invalid: 2,
    errors.NotFound: 2,
    errors.Conflict: 2,
    errors.Denied: 2,
    errors.GateFailed: 3,
    errors.NotReady: 75,
    errors.MissingExtra: 2,
    errors.StorageFailed: 1,
}


def status_of(error: errors.EverloopError) -> int:
    """The HTTP status of an error: its own class's, or its nearest ancestor's."""
    return _nearest(STATUSES, error, 500)


def retry_headers(error: errors.EverloopError) -> dict[str, str]:
    """When a client may try again, where that helps."""
    if isinstance(error, errors.TooOften):
        return {"Retry-After": str(error.retry_after_s)}
    return {"Retry-After": "1"} if status_of(error) == 503 else {}


def exit_code_of(error: errors.EverloopError) -> int:
    return _nearest(EXIT_CODES, error, 1)


def _nearest(
    table: dict[type[errors.EverloopError], int], error: errors.EverloopError, otherwise: int
) -> int:
    return next((table[kind] for kind in type(error).__mro__ if kind in table), otherwise)

"""Identifiers: a prefix that says what the thing is, then a UUIDv7 in hex, so that ids sort by creation.

The UUID follows RFC 9562, section 5.7: 48 bits of milliseconds, 12 bits that count within the millisecond
(method 3: a fraction of it, raised when needed so that one process never repeats or goes back), and 62 bits
that are random or, for predictions, begin with the number of the process that wrote them.
"""

from __future__ import annotations

import re
import secrets
import threading
from typing import Literal

from everloop import clock
from everloop.errors import Invalid

Prefix = Literal[
    "ws",  # workspace
    "job",
    "ds",  # dataset
    "cl",  # cleaning
    "le",  # label event
    "run",  # pipeline run
    "step",
    "share",  # right of a process to work on one step of a run
    "gr",  # gate report
    "mv",  # model version
    "ap",  # approval
    "se",  # stage event
    "rel",  # release
    "ro",  # rollout
    "re",  # rollout event
    "split",  # split of traffic
    "pred",  # prediction
    "req",  # request for several predictions
    "out",  # outcome
    "corr",  # correction
    "find",  # finding
    "alert",
    "ret",  # retraining decision
    "fire",  # a trigger's firing
    "call",  # of a trigger
    "srch",  # search for parameters
    "ev",  # event in the outbox
    "wh",  # webhook
    "whd",  # delivery to a webhook
    "sec",  # secret kept for somebody
    "tok",  # access token
    "pwd",  # password
    "rev",  # review item
    "aud",
    "val",  # reported value
]

WRITER_BITS = 20
_FORM = re.compile(r"([a-z]+)_([0-9a-f]{32})")
_lock = threading.Lock()
_last = 0


def new_id(prefix: Prefix) -> str:
    """A new identifier such as `run_019ab3...`, later than all that this process made before."""
    return f"{prefix}_{_uuid7(secrets.randbits(62)):032x}"


def new_model_id() -> str:
    """A logged model's identifier in the form that MLflow's clients expect, such as `m-019ab3...`."""
    return f"m-{_uuid7(secrets.randbits(62)):032x}"


def new_prediction_id(writer: int) -> str:
    """A prediction's id, carrying the log writer's number (20 bits) so that one look-up finds its segment."""
    tail = (writer & (1 << WRITER_BITS) - 1) << (62 - WRITER_BITS) | secrets.randbits(62 - WRITER_BITS)
    return f"pred_{_uuid7(tail):032x}"


def writer_of(prediction_id: str) -> int:
    """The log writer's number inside a prediction id."""
    return (_number(prediction_id) >> (62 - WRITER_BITS)) & ((1 << WRITER_BITS) - 1)


def milliseconds_of(identifier: str) -> int:
    """Milliseconds since 1970-01-01 UTC at which the id was made, on the machine's clock."""
    return _number(identifier) >> 80


def prefix_of(identifier: str) -> str:
    """The prefix of an id. Raises Invalid when the text is not an everloop id."""
    match = _FORM.fullmatch(identifier)
    if match is None:
        raise Invalid(f"{identifier!r} is not an everloop id; one looks like run_ followed by 32 hex digits.")
    return match.group(1)


def _number(identifier: str) -> int:
    prefix = prefix_of(identifier)
    return int(identifier[len(prefix) + 1 :], 16)


def _uuid7(tail: int) -> int:
    """The UUID as an integer; `tail` fills the last 62 bits."""
    global _last  # noqa: PLW0603  (one counter a process keeps ids rising)
    with _lock:
        # nanoseconds as milliseconds with a 12-bit fraction: 244 ns steps
        stamp = clock.wall_ns() * 4096 // 1_000_000
        _last = stamp = max(stamp, _last + 1)
    milliseconds, fraction = stamp >> 12, stamp & 0xFFF
    return milliseconds << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62 | tail

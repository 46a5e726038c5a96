"""Signed calls: whoever holds a trigger's secret may fire it, without an account.

The signature is HMAC-SHA256 over `TIMESTAMP.TRIGGER.KEY.BODY`, in hex: TIMESTAMP in seconds since 1970 as it is in the
header, KEY the idempotency key, empty without one. It is good for five minutes around its timestamp, and each signature
is one call, however often it is sent.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from hashlib import sha256

from everloop import clock
from everloop.errors import NotRecognised

GOOD_FOR_S = 300


@dataclass(frozen=True)
class Signed:
    """What came with a call: the headers X-Everloop-Timestamp and X-Everloop-Signature."""

    timestamp: str
    signature: str


def sign(secret: str, *, trigger: str, timestamp: str, key: str = "", body: bytes) -> str:
    """The signature of a call, in hex."""
    message = f"{timestamp}.{trigger}.{key}.".encode() + body
    return hmac.new(secret.encode(), message, sha256).hexdigest()


def verify(secret: str, given: Signed, *, trigger: str, key: str = "", body: bytes) -> str:
    """The signature of a call that is genuine and of now. Raises NotRecognised for any other."""
    expected = sign(secret, trigger=trigger, timestamp=given.timestamp, key=key, body=body)
    signature = given.signature.removeprefix("sha256=").lower()
    if not hmac.compare_digest(signature.encode(), expected.encode()):
        raise NotRecognised(
            f"the signature does not fit. It is HMAC-SHA256 over TIMESTAMP.{trigger}.KEY.BODY with the secret that "
            f"'everloop triggers secret {trigger}' shows, KEY being the Idempotency-Key header or nothing."
        )
    if not given.timestamp.isdigit() or abs(clock.wall().timestamp() - int(given.timestamp)) > GOOD_FOR_S:
        raise NotRecognised(
            f"the signature's timestamp {given.timestamp!r} is not of now; it is good for {GOOD_FOR_S // 60} minutes. "
            "Sign each call anew, and set the sender's clock."
        )
    return signature

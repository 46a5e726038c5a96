"""How often a password may be guessed: buckets that wrong guesses empty and time fills again.

In the memory of this process, of bounded size: what is forgotten first is what was guessed at longest ago. Who knows
the password empties nothing.
"""

from __future__ import annotations

import ipaddress
import math
import threading
from collections import OrderedDict
from dataclasses import dataclass

from everloop import clock
from everloop.errors import TooOften

_MOST_BUCKETS = 20_000  # up to 10 MB
_NAME_LENGTH = 120  # no account has a longer name


@dataclass(frozen=True)
class Rate:
    """So many wrong guesses at once, and one more every so many seconds."""

    burst: int
    refill_s: float


# Of one account from one address; from one address at all accounts; at one account from all addresses. The last lets
# 17,000 guesses a day through, however many machines guess, which is nothing against twelve characters.
PAIR, ADDRESS, ACCOUNT = Rate(5, 30), Rate(20, 10), Rate(50, 5)


class Guesses:
    """Counts wrong guesses. Safe for threads."""

    def __init__(self, most_buckets: int = _MOST_BUCKETS) -> None:
        self._most = most_buckets
        self._lock = threading.Lock()
        # by what is guessed at: when the bucket is full again, in seconds of elapsed time
        self._full_at: OrderedDict[tuple[str, ...], float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def begin(self, account: str, address: str) -> None:
        """Count a guess as wrong, until `was_right` takes it back: guesses made at once count at once.

        Raises TooOften.
        """
        now = clock.elapsed_s()
        with self._lock:
            buckets = _buckets(account, address)
            waits = [
                self._full_at.get(key, now) - now - (rate.burst - 1) * rate.refill_s for key, rate in buckets
            ]
            if (wait := max(waits)) > 0:
                raise TooOften(
                    "too many wrong passwords were given for this account or from this address. "
                    f"Wait {math.ceil(wait)} seconds; a token is accepted meanwhile.",
                    retry_after_s=math.ceil(wait),
                )
            for key, rate in buckets:
                self._full_at[key] = max(self._full_at.get(key, now), now) + rate.refill_s
                self._full_at.move_to_end(key)
            while len(self._full_at) > self._most:
                self._full_at.popitem(last=False)

    def was_right(self, account: str, address: str) -> None:
        """Take a guess back that `begin` counted."""
        with self._lock:
            for key, rate in _buckets(account, address):
                if key in self._full_at:
                    self._full_at[key] -= rate.refill_s


def _buckets(account: str, address: str) -> list[tuple[tuple[str, ...], Rate]]:
    account, address = account[:_NAME_LENGTH], _network(address)
    return [
        (("pair", account, address), PAIR),
        (("address", address), ADDRESS),
        (("account", account), ACCOUNT),
    ]


def _network(address: str) -> str:
    """The address, or of version 6 the network of 2^64 that a single customer is given."""
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return address[:60]
    return str(known) if known.version == 4 else str(ipaddress.ip_network((known, 64), strict=False))

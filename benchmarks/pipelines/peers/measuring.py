"""What each engine's program has in common: which work is timed, and how. Run by ../peers.py."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

STEPS, MORE, WIDE = 10, 60, 100


class Engine(Protocol):
    """One engine, started and warm. Each `salt` is work that it has not seen; seconds, or None for what it does not have."""

    def chain(self, steps: int, salt: int) -> Any:
        """Run a chain of steps that add one."""

    def fan_out(self, salt: int) -> float | None:
        """WIDE steps side by side on two processes, or what comes nearest, and what they return gathered."""

    def resume(self, salt: int) -> float | None:
        """The rest of a chain of WIDE steps of which 99 were done when it was cut off."""

    def again(self, salt: int) -> float | None:
        """A chain of WIDE steps that was run before under this salt, all of it from the cache."""


def measure(engine: Engine, rounds: int, what: str) -> None:
    """Print each figure as a line of JSON; with `what` of `fsyncs` only run so many chains, to be counted from outside."""
    engine.chain(3, -1)
    if what == "fsyncs":
        for salt in range(rounds):
            engine.chain(STEPS, salt)
        told("", None)
    told("idle memory, MB", resident_mb())
    short = [timed(lambda n=salt: engine.chain(STEPS, n)) for salt in range(rounds)]
    told("10 steps, ms", median_ms(short))
    long = [timed(lambda n=salt: engine.chain(MORE, 1_000 + n)) for salt in range(rounds)]
    more = [(b - a) / (MORE - STEPS) for a, b in zip(short, long, strict=True)]
    told("a further step, ms", median_ms(more))
    few = max(1, rounds // 3)  # what takes some engines minutes
    told("resume, 1 of 100 left, ms", median_ms([engine.resume(3_000 + n) for n in range(few)]))
    told("100 steps from the cache, ms", median_ms([engine.again(4_000 + n) for n in range(few)]))
    first = engine.fan_out(2_000)
    is_quick = first is not None and first < 5  # else nothing in it is warmed by doing it once
    wide = [engine.fan_out(2_001 + n) for n in range(few)] if is_quick else [first]
    told("100 side by side, ms", median_ms(wide))
    told("", None)


def timed(act: Callable[[], object]) -> float:
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


def median_ms(seconds: list[float | None]) -> float | None:
    known = [one for one in seconds if one is not None]
    return statistics.median(known) * 1e3 if known else None


def resident_mb() -> float:
    """Memory of this process and of all that it started, shared pages counted once for each."""
    total = 0
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(place.name)) == os.getsid(0):
                total += int((place / "statm").read_text().split()[1])
        except (OSError, IndexError):
            continue
    return total * os.sysconf("SC_PAGE_SIZE") / 1e6


def told(what: str, value: float | None) -> None:
    """Say one figure; an empty name says that there are no more."""
    sys.stdout.write(json.dumps([what, value]) + "\n")
    sys.stdout.flush()

"""How long it takes to find the copies of 1,000,000 training texts among 100,000 test texts: exact ones, and near ones.

    python benchmarks/checks/copies.py [--train 1000000] [--test 100000] [--rounds 3]

The texts are made up as titles are: eight words of a vocabulary that few words fill (Zipf), 54 letters on average, from a
fixed seed. Of the test texts 2 % are exact copies and 2 % have one letter more. Each round is a process of its own; printed
are the seconds of each, the memory that it added to the tables, and how many planted copies were found. `rensa`, if it is
installed, does the same work on the same five-letter pieces (its MinHash with 60 permutations, LSH of 12 bands).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from everloop.checks import CheckInput
from everloop.checks.leakage import copies

WORK = ("exact", "near", "rensa")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--train", type=int, default=1_000_000)
    options.add_argument("--test", type=int, default=100_000)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--one", choices=WORK)
    told = options.parse_args()
    if told.one:
        print(json.dumps(measured(told.one, told.train, told.test)))
        return
    for work in WORK:
        if work == "rensa" and importlib.util.find_spec("rensa") is None:
            continue
        command = [
            sys.executable,
            __file__,
            "--one",
            work,
            "--train",
            str(told.train),
            "--test",
            str(told.test),
        ]
        rounds = [json.loads(subprocess.check_output(command)) for _ in range(told.rounds)]
        seconds = ", ".join(f"{one['seconds']:.2f}" for one in rounds)
        last = rounds[-1]
        print(
            f"{work}: {seconds} s, CPU {last['cpu']:.2f} s, {last['added_mb']:.0f} MB added to {last['before_mb']:.0f}; "
            f"found {last['found']} of {last['planted']} planted and {last['others']} others"
        )


def measured(work: str, n_train: int, n_test: int) -> dict[str, Any]:
    train, test, exact, sources = texts(n_train, n_test)
    given = CheckInput(*(_table(side) for side in (train, test)), ("title",))
    alike = {place for place, source in sources.items() if _similarity(test[place], train[source]) >= 0.8}
    planted = exact if work == "exact" else alike
    before, cpu, begun = _memory_mb(), time.process_time(), time.perf_counter()
    if work == "exact":
        found = set(np.flatnonzero(copies(given)).tolist())
    elif work == "near":
        found = _near(given)
    else:
        found = _rensa(train, test) - set(np.flatnonzero(copies(given)).tolist())
    seconds = time.perf_counter() - begun
    return {
        "seconds": seconds,
        "cpu": time.process_time() - cpu,
        "before_mb": before,
        "added_mb": _memory_mb(peak=True) - before,
        "found": len(found & planted),
        "planted": len(planted),
        "others": len(found - planted),
    }


def texts(n_train: int, n_test: int) -> tuple[list[str], list[str], set[int], dict[int, int]]:
    """Training and test texts, which test texts are exact copies, and which have a letter more than which training text."""
    random = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = np.array(["".join(random.choice(letters, random.integers(3, 10))) for _ in range(60_000)])
    drawn = np.minimum(random.zipf(1.15, (n_train + n_test, 8)) - 1, len(words) - 1)
    flat = random.integers(0, len(words), drawn.shape)
    chosen = words[np.where(random.random(drawn.shape) < 0.5, drawn, flat)]
    made = [" ".join(row) for row in chosen.tolist()]
    train, test = made[:n_train], made[n_train:]
    places = random.permutation(n_test)[: n_test // 25]
    exact, near = (set(half.tolist()) for half in np.split(places, 2))
    sources = {place: int(random.integers(n_train)) for place in sorted(exact | near)}
    for place, number in sources.items():
        source = train[number]
        at = int(random.integers(1, len(source)))
        test[place] = source if place in exact else f"{source[:at]}x{source[at:]}"
    return train, test, exact, {place: sources[place] for place in near}


def _near(given: CheckInput) -> set[int]:
    from everloop.checks.columns import NULL
    from everloop.checks.minhash import nearest
    from everloop.checks.near_duplicates import SIMILAR, _joined

    found = nearest(_joined(given.test, ["title"]), _joined(given.train, ["title"]), at_least=SIMILAR)
    return set(np.flatnonzero((found.place != NULL) & (found.similarity < 1)).tolist())


def _rensa(train: list[str], test: list[str]) -> set[int]:
    from rensa import RMinHash, RMinHashLSH

    lsh = RMinHashLSH(threshold=0.8, num_perm=60, num_bands=12)
    for number, text in enumerate(train):
        lsh.insert(number, _signature(RMinHash, text))
    found = set()
    for number, text in enumerate(test):
        candidates = lsh.query(_signature(RMinHash, text))
        if any(_similarity(text, train[other]) >= 0.8 for other in candidates):
            found.add(number)
    return found


def _signature(kind: Any, text: str) -> Any:
    signature = kind(num_perm=60, seed=1)
    signature.update(_pieces(text))
    return signature


def _pieces(text: str) -> list[str]:
    return [text[at : at + 5] for at in range(max(1, len(text) - 4))]


def _table(column: list[str]) -> pa.Table:
    return pa.table({"_row_id": np.arange(len(column)), "title": column})


def _similarity(left: str, right: str) -> float:
    own, theirs = set(_pieces(left)), set(_pieces(right))
    return len(own & theirs) / len(own | theirs)


def _memory_mb(*, peak: bool = False) -> float:
    """Resident memory of this process, now or at its peak since it was last asked for now (Linux)."""
    if not peak:
        Path("/proc/self/clear_refs").write_text("5")
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["VmHWM" if peak else "VmRSS"].split()[0]) / 1024


if __name__ == "__main__":
    main()

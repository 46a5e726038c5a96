"""How quick, how large and how hungry the model is on this machine, measured in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from everloop.checks.plots import Point, plot
from everloop.checks.records import CheckInput, CheckResult, Gate, Loadable, Verdict
from everloop.storage import place_of
from everloop.tracking import machine

ROUNDS = 6
_MORE = 18  # rounds in all when six leave it unclear
_ROWS = 400
_WAIT_S = 120.0

TIMES = ("row_p50_ms", "row_p95_ms", "row_p99_ms", "batch_p50_ms", "batch_p95_ms", "batch_p99_ms")
MEASURES = (*TIMES, "load_s", "memory_mb", "size_mb")
_SAYS = {
    "row_p50_ms": "the median time of one row (ms)",
    "row_p95_ms": "the time of one row that 5 % exceed (ms)",
    "row_p99_ms": "the time of one row that 1 % exceed (ms)",
    "batch_p50_ms": "the median time of 64 rows (ms)",
    "batch_p95_ms": "the time of 64 rows that 5 % exceed (ms)",
    "batch_p99_ms": "the time of 64 rows that 1 % exceed (ms)",
    "load_s": "the time to load (s)",
    "memory_mb": "the memory added by loading (MB)",
    "size_mb": "the size of the files (MB)",
}
RULE = (
    "Measured in a process of its own, as serving loads and asks the model: what the gate names is at most its limit, or at "
    "most so much more than the live version's. Where the interval holds the limit it is measured longer, and then unclear: "
    "a warning."
)
REMEDY = "Make the model smaller (fewer features or trees), or change the gate's limit; measure again on a quiet machine."
NUMBERS = {
    "value": "what the gate compares with its limit: the measure it names, or how much more that is than the live version's",
    "limit": "of the gate; none without one",
    "low": "lower end of the value's interval: of the median over the rounds, 95 % or more",
    "high": "upper end of the value's interval",
    **{name: f"{says}, median over the rounds" for name, says in _SAYS.items() if name in TIMES},
    "load_s": "seconds to load the model, median of six times",
    "memory_mb": "resident memory added by loading it the first time, libraries not counted (MB)",
    "size_mb": "size of its files (MB)",
    "rounds": "rounds of measuring, each of up to 400 rows and 400 batches after a warm-up",
    "cores": "cores of the machine; the details name it",
    "load": "processes that wanted a core in the minute before; above the cores, other work is in the times",
}


@dataclass(frozen=True)
class Measured:
    """What each round gave by measure; loading, memory and size do not depend on rounds."""

    values: dict[str, list[float]]

    def median(self, name: str) -> float:
        return float(np.median(self.values[name]))


def footprint(
    given: CheckInput,
    *,
    measure: str | None = None,
    at_most: float | None = None,
    below_live_by_at_most: float | None = None,
) -> CheckResult:
    """Latency by row and by batch, time to load, memory and size; fails when `measure` is clearly above the limit.

    `below_live_by_at_most` is relative: 0.2 allows a fifth more than the live version needs, measured in turn with it.
    """
    limit = at_most if at_most is not None else below_live_by_at_most
    rule = RULE if limit is None else _rule(str(measure), at_most, below_live_by_at_most)
    numbers: dict[str, float | int | None] = {**dict.fromkeys(NUMBERS), "limit": limit}

    def ended(verdict: Verdict, found: str, remedy: str) -> CheckResult:
        return CheckResult("footprint", verdict, found, rule, remedy, numbers)

    live = given.live.loadable if given.live is not None else None
    if given.loadable is None or given.test.num_rows == 0:
        return ended(
            "failed",
            "The model's files or rows to ask it with are not at hand.",
            "Train it through its pipeline.",
        )
    if below_live_by_at_most is not None and live is None:
        return ended("skipped", "No version is live.", "Nothing to do.")
    load = os.getloadavg()[0]
    models = [given.loadable] if below_live_by_at_most is None or live is None else [given.loadable, live]
    try:
        measured = _measured(given, models, lambda found: _is_unclear(found, measure, limit))
    except _Failed as failed:
        return ended("failed", str(failed), "Look at the error; the model must load as serving loads it.")
    ours = measured[0]
    numbers |= {name: ours.median(name) for name in MEASURES}
    numbers |= {"rounds": len(ours.values["row_p50_ms"]), "cores": os.cpu_count(), "load": load}
    verdict: Verdict = "passed"
    told = ""
    if measure is not None and limit is not None:
        value, low, high = _compared(measured, measure)
        numbers |= {"value": value, "low": low, "high": high}
        verdict = "passed" if high <= limit else "failed" if low > limit else "warned"
        told = _told(
            measure, value, low, high, is_relative=len(measured) == 2, is_unclear=verdict == "warned"
        )
    return CheckResult(
        name="footprint",
        verdict=verdict,
        found=f"{told}A row takes {ours.median('row_p50_ms'):.3g} ms (p99 {ours.median('row_p99_ms'):.3g}), 64 rows "
        f"{ours.median('batch_p50_ms'):.3g} ms; it loads in {ours.median('load_s'):.3g} s, adds {ours.median('memory_mb'):.1f} "
        f"MB of memory and has {ours.median('size_mb'):.2f} MB of files.",
        rule=rule,
        remedy="Nothing to do." if verdict == "passed" else REMEDY,
        numbers=numbers,
        details=_details(given, measured),
        plot=plot(
            "intervals",
            [
                Point(
                    name,
                    one.median(name),
                    *_interval(one.values[name]),
                    series=series,
                    is_marked=name == measure and verdict != "passed",
                )
                for series, one in zip(("candidate", "live"), measured, strict=False)
                for name in TIMES
            ],
            at="measure",
            value="milliseconds",
            limits={"the gate's limit": at_most if measure in TIMES else None},
        ),
    )


def refused(gate: Gate) -> str:
    """Why a gate about the footprint makes no sense; empty when it does."""
    if gate.measure is not None and gate.measure not in MEASURES:
        return f"has the measure {gate.measure!r}; it is one of {', '.join(MEASURES)}. Name one of these."
    limits = [one for one in (gate.at_most, gate.below_live_by_at_most) if one is not None]
    if len(limits) != (gate.measure is not None):
        return "needs a measure with one limit, at_most or below_live_by_at_most, or neither of them. Give both or none."
    return ""


class _Failed(Exception):  # noqa: N818  (says what went wrong with the measuring process)
    """The model could not be measured; the text is the last line of its process."""


def _measured(given: CheckInput, models: Sequence[Loadable], is_unclear: Any) -> list[Measured]:
    """The models in turn, a round each, so that what else the machine does meets both alike."""
    rows = given.test.select(list(given.columns)).slice(0, _ROWS)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        with (
            pa.OSFile(str(folder / "rows.arrow"), "wb") as file,
            pa.ipc.new_file(file, rows.schema) as writer,
        ):
            writer.write_table(rows)
        processes = [stack.enter_context(_process(one, folder, number)) for number, one in enumerate(models)]
        found = [_begun(one, process) for one, process in zip(models, processes, strict=True)]
        for number in range(_MORE):
            if number >= ROUNDS and not is_unclear(found):
                break
            for one, process in zip(found, processes, strict=True):
                for name, value in _line(process, "\n").items():
                    one.values.setdefault(name, []).append(value)
    return found


@contextmanager
def _process(model: Loadable, folder: Path, number: int) -> Iterator[subprocess.Popen[str]]:
    manifest, errors = folder / f"manifest_{number}.json", folder / f"errors_{number}.txt"
    manifest.write_bytes(msgspec.json.encode(model.manifest))
    arguments = [
        str(one) for one in (manifest, _linked(model, folder / f"blobs_{number}"), folder / "rows.arrow")
    ]
    command = [sys.executable, "-m", "everloop.checks.stopwatch", *arguments]
    with (
        errors.open("w") as stderr,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True
        ) as process,
    ):
        alarm = threading.Timer(_WAIT_S, process.kill)
        alarm.start()
        try:
            yield process
        except _Failed as failed:
            last = (
                errors.read_text().strip().rpartition("\n")[2]
                or f"it was killed, after {_WAIT_S:g} s at the latest"
            )
            raise _Failed(f"The process that measures ended: {last[:300]}.") from failed
        finally:
            alarm.cancel()
            process.kill()


def _linked(model: Loadable, folder: Path) -> Path:
    """The model's files by their digests in a folder: wherever they are kept, loading is measured from this disk."""
    for digest in model.manifest.files.values():
        link = folder / place_of(digest)
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():  # two files may have the same content
            link.symlink_to(model.blobs.path(digest).absolute())
    return folder


def _begun(model: Loadable, process: subprocess.Popen[str]) -> Measured:
    told = _line(process)
    size = sum(model.blobs.path(digest).stat().st_size for digest in model.manifest.files.values())
    return Measured({"load_s": told["load_s"], "memory_mb": [told["memory_mb"]], "size_mb": [size / 2**20]})


def _line(process: subprocess.Popen[str], asked: str = "") -> dict[str, Any]:
    """The next line that the process says. Raises _Failed when it ended instead."""
    if process.stdin is None or process.stdout is None:  # they are pipes, which the types do not say
        raise _Failed
    try:
        os.write(process.stdin.fileno(), asked.encode())
    except BrokenPipeError as error:
        raise _Failed from error
    line = process.stdout.readline()
    if not line:
        raise _Failed
    found: dict[str, Any] = json.loads(line)
    return found


def _compared(measured: Sequence[Measured], measure: str) -> tuple[float, float, float]:
    """The value that is held against the limit, with its interval: itself, or its share above the live version's."""
    ours = measured[0].values[measure]
    if len(measured) == 1:
        return float(np.median(ours)), *_interval(ours)
    theirs = measured[1].values[measure]
    more = [mine / max(other, 1e-9) - 1 for mine, other in zip(ours, theirs, strict=True)]
    return float(np.median(more)), *_interval(more)


def _interval(values: Sequence[float]) -> tuple[float, float]:
    """The interval of a median from order statistics: David and Nagaraja, Order Statistics, 2003, section 7.1.

    Between the k-th smallest and the k-th largest of n lies the median with probability 1 - 2 P(Binomial(n, 1/2) < k);
    k is the largest for which that is 95 % or more. Six values: all of them, 97 %. One value is taken as exact.

    >>> _interval([1.0, 2.0, 3.0, 4.0, 5.0, 9.0])
    (1.0, 9.0)
    >>> _interval([float(one) for one in range(18)])
    (4.0, 13.0)
    """
    ordered, n = sorted(values), len(values)
    below, chance, k = 0.0, 0.5**n, 0
    while below + chance <= 0.025:
        below += chance
        chance *= (n - k) / (k + 1)
        k += 1
    return ordered[max(0, k - 1)], ordered[min(n - 1, n - k)]


def _is_unclear(measured: Sequence[Measured], measure: str | None, limit: float | None) -> bool:
    if measure not in TIMES or limit is None:
        return False
    _, low, high = _compared(measured, measure)
    return low <= limit < high


def _details(given: CheckInput, measured: Sequence[Measured]) -> tuple[dict[str, Any], ...]:
    here = machine()
    versions = ["candidate", given.live.version if given.live is not None else ""]
    rows = [
        {"version": version, **{name: float(f"{one.median(name):.6g}") for name in MEASURES}}
        for version, one in zip(versions, measured, strict=False)
    ]
    return (*rows, {name: str(value) for name, value in vars(here).items()})


def _told(measure: str, value: float, low: float, high: float, *, is_relative: bool, is_unclear: bool) -> str:
    shown = (
        f"{value:+.1%} of the live version's ({low:+.1%} to {high:+.1%})"
        if is_relative
        else f"{value:.4g} ({low:.4g} to {high:.4g})"
    )
    unclear = "Unclear, as the interval holds the limit: " if is_unclear else ""
    text = f"{unclear}{_SAYS[measure]} is {shown}. "
    return text[0].upper() + text[1:]


def _rule(measure: str, at_most: float | None, below: float | None) -> str:
    limit = (
        f"at most {at_most:g}" if at_most is not None else f"at most {below:.0%} more than the live version's"
    )
    return f"On this machine, {_SAYS[measure]} must be {limit}."

"""What can move the last digits of a result besides code, packages and data: processor, cores, threads, hash seed."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import platform
from pathlib import Path

from everloop.settings import library_variables
from everloop.storage import to_json
from everloop.tracking.records import Machine, Run

MACHINE_TAG = "everloop.machine"

# How many threads a library for linear algebra or parallel loops takes; each adds in another order.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "OPENBLAS_CORETYPE",
)
HASH_SEED = "PYTHONHASHSEED"


def machine() -> Machine:
    """The machine that this process runs on, with what its environment says of threads and of the hash seed."""
    found = library_variables((*THREAD_VARIABLES, HASH_SEED))
    hash_seed = found.pop(HASH_SEED, "random")
    return Machine(_processor(), _cores(), found, hash_seed)


def machine_tags(here: Machine) -> dict[str, str]:
    """A machine as the tag of a run that it is kept in."""
    return {MACHINE_TAG: to_json(dataclasses.asdict(here))}


def machine_of(run: Run) -> Machine | None:
    """The machine that a run began on; None where it was not written down, or is overwritten with something else."""
    try:
        return Machine(**json.loads(run.tags[MACHINE_TAG]))
    except (KeyError, TypeError, ValueError):
        return None


def _cores() -> int:
    """The cores that this process may use, which is how many threads libraries start when nothing is set."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@functools.cache
def _processor() -> str:
    listed = Path("/proc/cpuinfo")
    if listed.is_file():
        for line in listed.read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()

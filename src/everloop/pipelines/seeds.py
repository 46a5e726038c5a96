"""Random numbers that come again: each step begins with generators that are set from the run's seed.

The seed belongs to the run, and within it to the step's function: two steps draw different numbers, two calls of one
step the same, so that what they differ in is their parameters and not their luck.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from everloop.pipelines.canonical import digest_of

DEFAULT_SEED = 0

# Only those imported already: to import one for its generator would cost more than most steps. 32 bits are what numpy takes.
_LIBRARIES: Mapping[str, Callable[[Any, int], None]] = {
    "numpy": lambda library, seed: library.random.seed(seed),
    "torch": lambda library, seed: library.manual_seed(seed),
    "tensorflow": lambda library, seed: library.random.set_seed(seed),
    "cupy": lambda library, seed: library.random.seed(seed),
}


def step_seed(run_seed: int, step: str) -> int:
    """The seed of a step's function (`module:name`) in a run, of 32 bits."""
    return int(digest_of(str(run_seed), step)[:8], 16)


@contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Set the generators of Python and of the libraries imported so far; None leaves them alone.

    Afterwards Python's and numpy's are as they were: a step in a notebook's process takes nothing of the notebook's.
    """
    if seed is None:
        yield
        return
    numpy: Any = sys.modules.get("numpy")
    of_python = random.getstate()
    of_numpy = None if numpy is None else numpy.random.get_state()
    random.seed(seed)
    for name, set_seed in _LIBRARIES.items():
        if (library := sys.modules.get(name)) is not None:
            set_seed(library, seed)
    try:
        yield
    finally:
        random.setstate(of_python)
        if numpy is not None:
            numpy.random.set_state(of_numpy)

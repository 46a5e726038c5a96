"""What it costs a step that everloop listens for what it touches without declaring it.

    python benchmarks/pipelines/listening.py

A step that does nothing, and one that opens 10,000 files, each with and without; the quickest of several rounds.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from everloop.pipelines.touched import watched

FILES = 10_000


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = [folder / str(number) for number in range(FILES)]
        for file in files:
            file.write_text("x")

        def read() -> None:
            for file in files:
                file.read_text()

        def listen(function: Callable[[], Any]) -> None:
            with watched([folder / "home"]) as found:
                function()
            found()

        print(f"load {os.getloadavg()[0]:.1f}")
        print(f"a step that does nothing: {quickest(lambda: listen(lambda: None), 50) * 1e3:.3f} ms")
        plain, heard = quickest(read), quickest(lambda: listen(read))
        print(
            f"{FILES:,} files: {plain * 1e6 / FILES:.1f} us each, listened to {heard * 1e6 / FILES:.1f} us, "
            f"{heard / plain:.2f} times"
        )


def quickest(function: Callable[[], Any], times: int = 5) -> float:
    def once() -> float:
        begun = time.perf_counter()
        function()
        return time.perf_counter() - begun

    return min(once() for _ in range(times))


if __name__ == "__main__":
    main()

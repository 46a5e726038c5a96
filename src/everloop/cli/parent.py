"""A child process that stops when the process that started it dies."""

from __future__ import annotations

import os
import signal
import threading


def stop_with_parent() -> None:
    """Let this process stop when the one that started it dies, also by SIGKILL."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            threading.Event().wait(0.2)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="everloop-parent", daemon=True).start()

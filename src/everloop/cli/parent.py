"""A child process that stops when the process that started it dies."""

from __future__ import annotations

import os
import signal
import threading


def stop_with_parent(parent: int) -> None:
    """Let this process stop when `parent`, the process that started it, dies, also by SIGKILL.

    The parent says its number, since it may be dead before this process is far enough to ask for it: whoever adopted
    the orphan would then be taken for the parent.
    """

    def watch() -> None:
        while os.getppid() == parent:
            threading.Event().wait(0.2)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="everloop-parent", daemon=True).start()

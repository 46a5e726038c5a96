"""The process that those are forked from in which a model is tried: `python -m everloop.serving.template`, started by `tryout`.

It has imported the libraries once, so that a question costs a fork and not their import. It asks no model itself, has one
thread and an environment made from nothing, so that what it forks is as good as new.

A frame of JSON asks: {"folder"}. It is answered once the process has ended that was forked for it: {"ending"}, empty
where that went well. When its input closes, its parent is gone: it kills what runs, removes its own folder and ends. Where forking
after imports is not safe it is started anew for each question, with FOLDER as argument, and answers that itself.
"""

from __future__ import annotations

import gc
import json
import os
import select
import shutil
import signal
import sys
import traceback
import warnings
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NoReturn

from everloop.serving.model_child import limit, pipes, read_frame, write_frame
from everloop.serving.tryout import SAID, answer_in, how_it_ended


def main(_model: str, scratch: str, _hidden: str, memory_mb: str, _cores: str) -> None:
    incoming, outgoing = pipes()
    read_frame(incoming)
    import skops.io  # noqa: F401  (brings scikit-learn, which takes seconds: the reason for this process)

    woken, wakes = os.pipe()
    for end in (woken, wakes):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # without a handler nothing is written into the pipe
    gc.freeze()  # what is shared with the children stays shared when they collect garbage
    _tell(outgoing, {})
    while (content := read_frame(incoming)) is not None:
        with suppress(BlockingIOError):
            os.read(woken, 4096)  # of the last one, if it was stopped before it ended
        pid = _forked(Path(json.loads(content)["folder"]), int(memory_mb))
        select.select([incoming.fileno(), woken], [], [])
        with suppress(
            ProcessLookupError
        ):  # it, or what it left running; its number is its own until it is reaped
            os.killpg(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        with suppress(BrokenPipeError):
            _tell(outgoing, {"ending": how_it_ended(os.waitstatus_to_exitcode(status))})
    shutil.rmtree(Path(scratch).parent, ignore_errors=True)


def _forked(folder: Path, memory_mb: int) -> int:
    template = os.getpid()
    with warnings.catch_warnings():
        # a library of numbers may have threads, and looks after them in a fork
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        _be_tried(folder, memory_mb, template)
    with suppress(OSError):  # the child does it too: whoever is first
        os.setpgid(pid, pid)
    return pid


def _be_tried(folder: Path, memory_mb: int, template: int) -> NoReturn:
    code = 1
    try:
        os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        said = os.open(folder / SAID, os.O_WRONLY | os.O_CREAT, 0o600)
        for stream in (1, 2):
            os.dup2(said, stream)
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")  # where memory ends, this one goes first
        limit(memory_mb, 0)
        if os.getppid() == template:  # else it ended before this process would have ended with it
            answer_in(folder)
            code = 0
    except BaseException:  # noqa: BLE001  (it is the end of this process, which must not go on as its parent)
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _tell(outgoing: BinaryIO, value: dict[str, str]) -> None:
    write_frame(outgoing, json.dumps(value).encode())


if __name__ == "__main__":
    if len(sys.argv) == 2:
        answer_in(Path(sys.argv[1]))
    else:
        main(*sys.argv[1:])

"""A model in a process of its own: what happens to it there happens to nobody else.

The process gets an environment made from nothing, no open file but its three pipes, a scratch folder for a home, the limits
that were set for it and the wall of `model_child`. It is started once a release and asked batch by batch; it ends with this
process, whose end of the pipe the kernel closes. When it crashes, hangs or takes too much memory, it is stopped, who was
asking it is told, and it is started again; with growing pauses when that happens again and again.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from everloop.clock import elapsed_s
from everloop.errors import Invalid
from everloop.serving.held import WrongShapeError
from everloop.serving.loaded import Loaded, Rows
from everloop.serving.mlmodel import layout_of
from everloop.serving.records import Limits, Signature

logger = logging.getLogger(__name__)

LOAD_S = 120.0
NO_MEMORY = ("MemoryError", "SystemError")
"""What Python raises where memory ends: the second where C code does not say so properly. The process is not to be used again."""
_PAUSES_S = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)  # before it is started again, after so many ends in a row
_IN_A_ROW_S = 60.0  # an end so long after the start is no continuation of the one before
_MOST_ANSWER_BYTES = 64 << 20
_SHOWN = 2_000  # characters of what the process said last
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class ModelError(RuntimeError):
    """What the model's own code raised, by its kind and text."""


class ModelStoppedError(ModelError):
    """There is no answer since the model's process ended, was stopped, or is not started again yet."""


def in_own_process(
    files: Mapping[str, bytes],
    signature: Signature,
    *,
    python: str = "",
    hidden: Path | None = None,
    limits: Limits | None = None,
) -> Loaded:
    """Load an MLflow model that brings code of its own, or a function of the user's own, from its files.

    Parameters
    ----------
    python
        The Python that runs it: of an environment with what the model needs, and mlflow if it is one of MLflow's. Empty: this one.
    hidden
        What it must not read though it lies beside Python's own folders: the workspace's home.

    Raises
    ------
    Invalid
        The process does not start, or the model does not load in it.
    """
    python = python or sys.executable
    process = ModelProcess(
        files,
        [python, "-I", "-B", str(Path(__file__).with_name("model_child.py"))],
        {
            "columns": [(one.name, one.type) for one in signature.inputs],
            "function": msgspec.to_builtins(layout_of(files, files.__getitem__).function),
        },
        advice=f"Make an environment with mlflow and the model's requirements.txt, and name its Python in the setting model_python "
        f"(now: {python}).",
        hidden=hidden,
        limits=limits or Limits(),
    )
    try:
        told = process.start()
    except BaseException:
        process.close()
        raise
    if not told.get("is_walled"):
        logger.warning(
            "this system has no Landlock: a trusted model's code has no credentials in its environment, but reads what "
            "files this user may read"
        )

    def predict(rows: Rows) -> Rows:
        given = [[_told(value) for value in row] for row in rows.tolist()]
        answers = process.ask({"rows": given}).get("answers")
        if not isinstance(answers, list) or len(answers) != len(given):
            raise WrongShapeError(f"the model's process did not answer {len(given)} rows with as many values")
        found = np.empty(len(answers), dtype=np.object_)
        found[:] = answers
        return found

    return Loaded(
        predict, classes=signature.classes, is_class=signature.output == "class", close=process.close
    )


class ModelProcess:
    """A program that loads a model and answers about it, and its two folders, until `close`; asked one thing at a time.

    The program gets the model's folder, its scratch folder, what it must not read, and its limits; then frames through a
    pipe: first `first`, whose answer says that the model is loaded.
    """

    def __init__(
        self,
        files: Mapping[str, bytes],
        program: Sequence[str],
        first: Any,
        *,
        advice: str,
        hidden: Path | None,
        limits: Limits,
        encode: Callable[[Any], bytes] = lambda value: json.dumps(value).encode(),
        decode: Callable[[bytes], Any] = json.loads,
    ) -> None:
        self._program = program
        self._first = first
        self._advice = advice
        self._hidden = "" if hidden is None else str(hidden.resolve())
        self._limits = limits
        self._encode, self._decode = encode, decode
        self._folder = Path(tempfile.mkdtemp(prefix="everloop-model-")).resolve()
        self._process: subprocess.Popen[bytes] | None = None
        self._started_s = 0.0
        self._ends = 0
        self._not_before_s = 0.0
        self._asking = threading.Lock()  # explanations ask as well
        self.scratch = self._folder / "scratch"
        self.scratch.mkdir()
        for path, content in files.items():
            place = self._folder / "model" / path
            if not place.resolve().is_relative_to(self._folder / "model"):
                raise Invalid(f"{path!r} leads out of the model's folder. Register the model again.")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)

    def start(self) -> dict[str, Any]:
        """Start the process, wait until the model is loaded, and return what it said to that. Raises Invalid."""
        scratch, limits = self.scratch, self._limits
        environment = plain_environment(scratch)
        if limits.cores is not None:
            environment |= dict.fromkeys(_THREADS, str(limits.cores))
        with (self._folder / "said").open("wb") as said:
            try:
                self._process = subprocess.Popen(
                    [
                        *self._program,
                        *(str(self._folder / "model"), str(scratch), self._hidden),
                        *(str(limits.memory_mb or 0), str(limits.cores or 0)),
                    ],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=said,
                    cwd=scratch,
                    env=environment,
                    start_new_session=True,
                )
            except OSError as error:
                raise Invalid(
                    f"the model's process cannot be started with {self._program[0]}: {error.strerror}. {self._advice}"
                ) from error
        self._started_s = elapsed_s()
        try:
            return self._exchange(self._first, LOAD_S)
        except ModelError as error:
            raise Invalid(
                f"the model cannot be loaded in its own process: {error}. {self._said()}{self._advice}{self._limited()}"
            ) from error

    def ask(self, question: Any) -> dict[str, Any]:
        """What the process answers. Raises what the model raised as ModelError or WrongShapeError; ModelStoppedError without an answer."""
        with self._asking:
            process = self._process
            if process is not None and process.poll() is not None:
                self._end()
            if self._process is None:
                self._start_again()
            return self._exchange(question, self._limits.hang_s)

    def close(self) -> None:
        self._kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start_again(self) -> None:
        wait_s = self._not_before_s - elapsed_s()
        if wait_s > 0:
            raise ModelStoppedError(
                f"the model's process ended {self._ends} times in a row; it is started again in {wait_s:.1f} s"
            )
        logger.warning("the model's process is started again. %s", self._said())
        try:
            self.start()
        except Invalid as error:
            self._end()
            raise ModelStoppedError(str(error)) from error

    def _exchange(self, question: Any, within_s: float) -> dict[str, Any]:
        """Ask, and read the answer. Ends a process that does not answer in time, or not in this form."""
        process = self._process
        assert process is not None  # noqa: S101
        assert process.stdin is not None  # noqa: S101
        assert process.stdout is not None  # noqa: S101
        content = self._encode(question)
        try:
            process.stdin.write(len(content).to_bytes(4, "big") + content)
            process.stdin.flush()
            deadline = elapsed_s() + within_s
            size = int.from_bytes(_take(process, 4, deadline), "big")
            if size > _MOST_ANSWER_BYTES:
                raise ModelStoppedError(f"the model's process answers with {size:,} bytes")
            told = self._decode(_take(process, size, deadline))
            if not isinstance(told, dict):
                raise ModelStoppedError("the model's process answers in another form")
        except (OSError, ValueError, RecursionError, ModelStoppedError) as error:
            ending = _ending(process) if isinstance(error, BrokenPipeError) else str(error)
            self._end()
            raise ModelStoppedError(f"{ending}. {self._said()}".strip()) from error
        except BaseException:  # what it answers later would be taken for the answer to another question
            self._end()
            raise
        if "error" not in told:
            return told
        if told["error"][0] == WrongShapeError.__name__:
            raise WrongShapeError(told["error"][1])
        text = ": ".join(map(str, told["error"]))
        if told["error"][0] in NO_MEMORY:
            self._end()
            raise ModelStoppedError(f"{text.removesuffix(': ')}.{self._limited()} It is started again")
        raise ModelError(text)

    def _limited(self) -> str:
        most = self._limits.memory_mb
        return "" if most is None else f" Its limit is memory_mb={most}."

    def _end(self) -> None:
        """The process has ended or is to end now, for no good reason."""
        self._kill()
        now_s = elapsed_s()
        self._ends = self._ends + 1 if now_s - self._started_s < _IN_A_ROW_S else 1
        self._not_before_s = now_s + _PAUSES_S[min(self._ends, len(_PAUSES_S)) - 1]

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue  # what was not written yet is for nobody

    def _said(self) -> str:
        """The end of what the process wrote to its stderr, for whoever looks for the reason."""
        path = self._folder / "said"
        said = path.read_text(errors="replace") if path.exists() else ""
        text = said.partition("\nExtension modules:")[0].strip()[
            -_SHOWN:
        ]  # two hundred names, of no use to anybody
        return f"It said: {text}\n" if text else ""


def plain_environment(scratch: Path) -> dict[str, str]:
    """All that such a process has for an environment: nothing of ours is in it."""
    return {
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "MLFLOW_TRACKING_URI": (scratch / "mlruns").as_uri(),
        "DO_NOT_TRACK": "true",
    }


def _take(process: subprocess.Popen[bytes], size: int, deadline_s: float) -> bytes:
    """Exactly so many bytes of its answer. Raises ModelStoppedError when they do not come in time or the other end is closed."""
    assert process.stdout is not None  # noqa: S101
    descriptor, found = process.stdout.fileno(), bytearray()
    while len(found) < size:
        ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline_s - elapsed_s()))
        if not ready:
            raise ModelStoppedError("the model did not answer in time, and its process was stopped")
        part = os.read(descriptor, min(size - len(found), 1 << 20))
        if not part:
            raise ModelStoppedError(_ending(process))
        found += part
    return bytes(found)


def _ending(process: subprocess.Popen[bytes]) -> str:
    """How a process ended that closed its pipe."""
    try:
        code = process.wait(1.0)
    except subprocess.TimeoutExpired:
        return "the model's process closed its pipe"
    how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
    return f"the model's process ended {how}"


def _told(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.isoformat() if isinstance(value, datetime) else value

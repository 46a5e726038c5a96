"""A model that brings code of its own, in a process of its own: what it can reach there is nothing of ours.

The process gets an environment made from nothing, no open file but its three pipes, a scratch folder for a home, and the
wall of `model_child`. It is started once a release and asked batch by batch; it ends with this process, whose end of the
pipe the kernel closes.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import select
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from everloop.clock import elapsed_s
from everloop.errors import Invalid, NotReady
from everloop.serving.held import WrongShapeError
from everloop.serving.loaded import Loaded, Rows
from everloop.serving.mlmodel import layout_of
from everloop.serving.records import Signature

logger = logging.getLogger(__name__)

LOAD_S = 120.0
ANSWER_S = 30.0
_AGAIN_AFTER_S = 10.0
_MOST_ANSWER_BYTES = 64 << 20
_SHOWN = 2_000  # characters of what the process said last


class ModelError(RuntimeError):
    """What the model's own code raised, by its kind and text."""


def in_own_process(
    files: Mapping[str, bytes], signature: Signature, *, python: str = "", hidden: Path | None = None
) -> Loaded:
    """Load an MLflow model, or a function of the user's own, from its files in a process of its own.

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
    process = _ModelProcess(files, signature, python or sys.executable, hidden)
    try:
        process.start()
    except BaseException:
        process.close()
        raise
    return Loaded(
        process.predict,
        classes=signature.classes,
        is_class=signature.output == "class",
        close=process.close,
    )


class _ModelProcess:
    """The process and its two folders, until `close`; asked one batch at a time."""

    def __init__(
        self, files: Mapping[str, bytes], signature: Signature, python: str, hidden: Path | None
    ) -> None:
        self._columns = [(one.name, one.type) for one in signature.inputs]
        self._function = msgspec.to_builtins(layout_of(files, files.__getitem__).function)
        self._python = python
        self._hidden = "" if hidden is None else str(hidden.resolve())
        self._folder = Path(tempfile.mkdtemp(prefix="everloop-model-")).resolve()
        self._process: subprocess.Popen[bytes] | None = None
        self._died_s: float | None = None
        self._asking = threading.Lock()  # explanations ask as well
        (self._folder / "scratch").mkdir()
        for path, content in files.items():
            place = self._folder / "model" / path
            if not place.resolve().is_relative_to(self._folder / "model"):
                raise Invalid(f"{path!r} leads out of the model's folder. Register the model again.")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)

    def start(self) -> None:
        """Start the process and wait until the model is loaded. Raises Invalid."""
        scratch = self._folder / "scratch"
        with (self._folder / "said").open("wb") as said:
            try:
                self._process = subprocess.Popen(
                    [
                        self._python,
                        *("-I", "-B", str(Path(__file__).with_name("model_child.py"))),
                        *(str(self._folder / "model"), str(scratch), self._hidden),
                    ],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=said,
                    cwd=scratch,
                    env=plain_environment(scratch),
                    start_new_session=True,
                )
            except OSError as error:
                raise Invalid(
                    f"the model's process cannot be started with {self._python}: {error.strerror}. The setting model_python names "
                    "the Python of an environment with mlflow and what the model needs."
                ) from error
        try:
            told = self._exchange({"columns": self._columns, "function": self._function}, LOAD_S)
        except ModelError as error:
            raise Invalid(
                f"the model cannot be loaded in its own process ({self._python}): {error}. {self._said()}Make an environment with "
                "mlflow and the model's requirements.txt, and name its Python in the setting model_python."
            ) from error
        if not told.get("is_walled"):
            logger.warning(
                "this system has no Landlock: a trusted model's code has no credentials in its environment, but reads what "
                "files this user may read"
            )

    def predict(self, rows: Rows) -> Rows:
        """(n_rows,) answers to (n_rows, n_columns) object. Raises what the model raised, as ModelError."""
        given = [[_told(value) for value in row] for row in rows.tolist()]
        with self._asking:
            if self._process is None or self._process.poll() is not None:
                self._start_again()
            answers = self._exchange({"rows": given}, ANSWER_S).get("answers")
        if not isinstance(answers, list) or len(answers) != len(given):
            raise WrongShapeError(f"the model's process did not answer {len(given)} rows with as many values")
        found = np.empty(len(answers), dtype=np.object_)
        found[:] = answers
        return found

    def close(self) -> None:
        self._kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start_again(self) -> None:
        if self._died_s is not None and elapsed_s() - self._died_s < _AGAIN_AFTER_S:
            raise NotReady("the model's process ended a moment ago. It is started again in some seconds.")
        self._died_s = elapsed_s()
        self._kill()
        logger.warning("the model's process ended and is started again: %s", self._said())
        self.start()

    def _exchange(self, question: dict[str, Any], within_s: float) -> dict[str, Any]:
        """Ask, and read the answer. Kills a process that does not answer in time, or not in this form."""
        process = self._process
        assert process is not None  # noqa: S101
        assert process.stdin is not None  # noqa: S101
        assert process.stdout is not None  # noqa: S101
        content = json.dumps(question).encode()
        try:
            process.stdin.write(len(content).to_bytes(4, "big") + content)
            process.stdin.flush()
            deadline = elapsed_s() + within_s
            size = int.from_bytes(_take(process.stdout.fileno(), 4, deadline), "big")
            if size > _MOST_ANSWER_BYTES:
                raise ModelError(f"the model's process answers with {size:,} bytes")
            told = json.loads(_take(process.stdout.fileno(), size, deadline))
            if not isinstance(told, dict):
                raise ModelError("the model's process answers in another form")
        except (OSError, ValueError, RecursionError, ModelError) as error:
            self._kill()
            raise ModelError(f"{error}. {self._said()}".strip()) from error
        if "error" in told:
            if told["error"][0] == WrongShapeError.__name__:
                raise WrongShapeError(told["error"][1])
            raise ModelError(": ".join(map(str, told["error"])))
        return told

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
        text = path.read_text(errors="replace").strip()[-_SHOWN:] if path.exists() else ""
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


def _take(descriptor: int, size: int, deadline_s: float) -> bytes:
    """Exactly so many bytes. Raises ModelError when they do not come in time or the other end is closed."""
    found = bytearray()
    while len(found) < size:
        ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline_s - elapsed_s()))
        if not ready:
            raise ModelError("the model did not answer in time")
        part = os.read(descriptor, min(size - len(found), 1 << 20))
        if not part:
            raise ModelError("the model's process ended")
        found += part
    return bytes(found)


def _told(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.isoformat() if isinstance(value, datetime) else value

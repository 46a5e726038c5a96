"""The program of a model's own process: loads one MLflow model, or one function, and answers rows, behind a wall.

It is run by any Python that has what the model needs, so it imports nothing of everloop and nothing but the standard library before the wall
stands: from then on the kernel lets this process, and all that it starts, read Python's own folders and the model's, write into
one scratch folder, and connect to nobody by TCP (Linux's Landlock). What the model's code does, it does inside.

Frames on stdin and stdout: four bytes of length, then JSON. First the model's columns are told, and which function it is;
each further frame is {"rows": [[...]]}, answered by {"answers": [...]} or {"error": [kind, text]}. Ends with its input, or when
its memory does.
"""

from __future__ import annotations

import base64
import ctypes
import importlib
import json
import os
import random
import resource
import signal
import struct
import sys
import sysconfig
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

_RESTRICT, _CREATE, _ADD = 446, 444, 445  # system calls, the same on every machine that Linux runs on
_NO_NEW_PRIVILEGES = 38
_ENDS_WITH_PARENT = 1
_PATH_BENEATH, _WANTS_VERSION = 1, 1
_READ = 0b1101  # execute, read a file, read a folder
_FILE_RIGHTS = 0b1100_0000_0000_0111  # what can be allowed of a single file: execute, write, read, ioctl
# Kernels know more as they grow newer: how many rights on files there are from which version on, newest first.
_RIGHTS_SINCE = ((5, 16), (3, 15), (2, 14), (1, 13))
_SYSTEM = (
    "/usr", "/lib", "/lib32", "/lib64", "/bin", "/opt", "/etc/ld.so.cache", "/etc/localtime", "/etc/mime.types",
    "/etc/ssl", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/self", "/sys/devices/system", "/sys/fs/cgroup",
    "/dev/null", "/dev/zero", "/dev/urandom",
)  # fmt: skip


def main(model: str, scratch: str, hidden: str, memory_mb: str, cores: str) -> None:
    incoming, outgoing = pipes()
    limit(int(memory_mb), int(cores))
    is_walled = wall(model, scratch, hidden)
    told = _json(incoming)
    try:
        load = _model if told["function"] is None else _function
        answer = load(model, told)
    except BaseException as error:  # noqa: BLE001  (the model's code may raise anything, exits too)
        _tell(outgoing, {"error": [type(error).__name__, str(error)], "is_walled": is_walled})
        return
    _tell(outgoing, {"is_walled": is_walled})
    while (asked := _json(incoming)) is not None:
        try:
            _tell(outgoing, {"answers": answer(asked["rows"])})
        except (MemoryError, SystemError) as error:
            _tell(outgoing, {"error": [type(error).__name__, str(error)]})
            return  # what took it all may never give it back; C code that finds no memory may say so in this other way
        except Exception as error:  # noqa: BLE001  (as above; it is the answer to these rows)
            _tell(outgoing, {"error": [type(error).__name__, str(error)]})


def pipes() -> tuple[BinaryIO, BinaryIO]:
    """What comes in and what goes out. Whoever reads or writes the standard streams from now on gets nothing of it."""
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what the model prints is no answer
    return incoming, outgoing


def limit(memory_mb: int, cores: int) -> None:
    """Let this process, and each that it starts, have so much memory and so many cores at most; 0 limits nothing.

    On Linux it ends when the thread does that started it: a model in an endless loop would never see that its input is closed.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_ENDS_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
    if memory_mb:
        most = memory_mb * 1_000_000
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    if cores and hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
        # which of them is left to chance: all that are limited would crowd on the first otherwise
        os.sched_setaffinity(0, random.sample(allowed, min(cores, len(allowed))))


def wall(model: str, scratch: str, hidden: str) -> bool:
    """Give up for good what the model does not need. Whether the kernel could do it."""
    if sys.platform != "linux":
        return False
    call = ctypes.CDLL(None, use_errno=True).syscall
    version = call(_CREATE, None, ctypes.c_size_t(0), _WANTS_VERSION)
    if version < 1:
        return False
    rights = (1 << next(count for since, count in _RIGHTS_SINCE if version >= since)) - 1
    tcp = 0b11 if version >= 4 else 0  # bind, connect
    scope = 0b11 if version >= 6 else 0  # abstract sockets, signals to processes outside
    attributes = struct.pack("=QQQ", rights, tcp, scope)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    rules = call(_CREATE, attributes, ctypes.c_size_t(size), 0)
    if rules < 0:
        return False
    python = [sys.prefix, sys.base_prefix, sys.exec_prefix, *sysconfig.get_paths().values(), *sys.path]
    for path in {str(Path(one).resolve()) for one in (*_SYSTEM, *python, model) if one}:
        if not _holds(path, hidden):
            _allow(call, rules, path, rights & _READ)
    _allow(call, rules, "/dev/null", rights & 0b110)
    _allow(call, rules, scratch, rights)
    ctypes.CDLL(None).prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    is_walled: bool = call(_RESTRICT, rules, 0) == 0
    os.close(rules)
    return is_walled


def _holds(path: str, hidden: str) -> bool:
    """Whether allowing a path would allow what is to stay hidden."""
    return bool(hidden) and Path(hidden).is_relative_to(path)


def _allow(call: Any, rules: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    if not Path(path).is_dir():
        rights &= _FILE_RIGHTS
    call(_ADD, rules, _PATH_BENEATH, struct.pack("=Qi", rights, descriptor), 0)
    os.close(descriptor)


class WrongShapeError(ValueError):
    """As everloop's own of this name, which is not here to be imported."""


def _function(folder: str, told: dict[str, Any]) -> Any:
    """Asks a function or class of the model's own code: for each row by its values' names, or with a list of rows."""
    sys.path.insert(0, str(Path(folder, "code")))
    source = told["function"]
    found: Any = importlib.import_module(source["module"])
    for name in source["name"].split("."):
        found = getattr(found, name)
    given = {**source["arguments"], **{key: Path(folder, path) for key, path in source["files"].items()}}
    ask: Any = found
    if isinstance(found, type):
        ask, given = found(**given).predict, {}
    columns = told["columns"]

    def answer(rows: list[list[Any]]) -> list[Any]:
        read = [
            {name: _read_value(kind, value) for (name, kind), value in zip(columns, row, strict=True)}
            for row in rows
        ]
        if source["takes"] == "row":
            return [_one_answer(ask(**row, **given)) for row in read]
        answers = ask(read, **given)
        if isinstance(answers, (str, bytes, dict)) or not hasattr(answers, "__iter__"):
            raise WrongShapeError(
                f"the model answered {len(rows)} rows with a {type(answers).__name__}, not one value a row"
            )
        listed = [_one_answer(one) for one in answers]
        if len(listed) != len(rows):
            raise WrongShapeError(
                f"the model answered {len(rows)} rows with {len(listed)} values, not one value a row"
            )
        return listed

    return answer


def _read_value(kind: str, value: Any) -> Any:
    if value is None:
        return None
    if kind == "time":
        return datetime.fromisoformat(value)
    return base64.b64decode(value) if kind in ("image", "binary") else value


def _one_answer(value: Any) -> Any:
    """A number, a text or nothing; what of these it is must fit the signature, which is looked at outside."""
    if hasattr(value, "item"):
        value = value.item()  # of numpy
    if value is None or isinstance(value, (str, int, float)):
        return value
    raise WrongShapeError(
        f"the model answered a row with a {type(value).__name__}, which is no number and no text"
    )


def _model(folder: str, told: dict[str, Any]) -> Any:
    columns = told["columns"]
    # of the Python that runs this: everloop's own has no mlflow, and needs none
    mlflow_pyfunc, np, pd = map(importlib.import_module, ("mlflow.pyfunc", "numpy", "pandas"))
    model = mlflow_pyfunc.load_model(folder)
    schema = model.metadata.get_input_schema()
    names = [name for name, _ in columns]
    is_array = schema is not None and schema.is_tensor_spec() and not schema.has_input_names()
    kinds = (
        {}
        if schema is None or is_array
        else dict(zip(schema.input_names(), schema.numpy_types(), strict=True))
    )

    def table(rows: list[list[Any]]) -> Any:
        if is_array:
            return np.array(rows, dtype=schema.numpy_types()[0])
        found = pd.DataFrame(rows, columns=names)
        for name, kind in columns:
            if kind == "time":
                found[name] = pd.to_datetime(found[name]).dt.tz_localize(None)
            elif kind in ("image", "binary"):
                found[name] = [None if one is None else base64.b64decode(one) for one in found[name]]
            elif kind in ("number", "integer", "boolean") and not (
                kind != "number" and found[name].isna().any()
            ):
                found[name] = found[name].astype(kinds.get(name, "float64"))
        return found

    def answer(rows: list[list[Any]]) -> list[Any]:
        answers = np.asarray(model.predict(table(rows)))
        if answers.ndim == 2 and answers.shape[1] == 1:
            answers = answers[:, 0]
        if answers.shape != (len(rows),):
            raise WrongShapeError(
                f"the model answered {len(rows)} rows with the shape {answers.shape}, not one value a row"
            )
        found: list[Any] = answers.tolist()
        return found

    return answer


def read_frame(stream: BinaryIO) -> bytes | None:
    """What was sent next; None at the end."""
    head = stream.read(4)
    return None if len(head) < 4 else stream.read(int.from_bytes(head, "big"))


def write_frame(stream: BinaryIO, content: bytes) -> None:
    stream.write(len(content).to_bytes(4, "big") + content)
    stream.flush()


def _json(stream: BinaryIO) -> Any:
    content = read_frame(stream)
    return None if content is None else json.loads(content)


def _tell(stream: BinaryIO, value: Any) -> None:
    write_frame(stream, json.dumps(value, default=str).encode())


if __name__ == "__main__":
    main(*sys.argv[1:])

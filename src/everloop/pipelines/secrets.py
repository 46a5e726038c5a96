"""Secrets in the process of a step that takes one: nowhere else is a value looked up.

Plan, journal, cache key and lineage hold the name. While such a step runs, its value is masked in what is printed and in
what it raises, and a result that holds it is refused.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn, TextIO

from everloop import clock
from everloop.errors import Invalid
from everloop.pipelines.notebook import in_kernel
from everloop.settings import Settings, secret_value

_SHORTEST = 6  # characters; a shorter one is found in ordinary text by chance
_LINE = 12  # characters from which on a line of a longer secret, such as a key, is masked by itself
_MASK = "***"
_BLOCK_BYTES = 1 << 16
_DRAINED_S = 2.0


def value_of(settings: Settings, name: str) -> str:
    """The value of a secret, in the process of the step that takes it.

    Raises
    ------
    Invalid
        It is not there, or too short to be told apart from other text.
    """
    value = secret_value(settings, name)
    if value is None:
        raise missing(settings, name)
    if len(value) < _SHORTEST:
        raise Invalid(
            f"secret {name} has {len(value)} characters; one of fewer than {_SHORTEST} cannot be told apart from other text, "
            "to be masked in it. Use a longer one, or pass it as a parameter if it is none."
        )
    return value


def missing(settings: Settings, name: str) -> Invalid:
    """The error about a secret that is not there."""
    place = (
        f"the file {settings.secrets_folder / name}" if settings.secrets_folder else "secrets_dir is not set"
    )
    return Invalid(
        f"secret {name} is not there: the environment variable {name} is not set or empty, and neither is there a file "
        f"({place}). A secret comes from where its step runs. Set the variable, or put it into a file of this name and name "
        "the folder: EVERLOOP_SECRETS_DIR."
    )


@dataclass
class Hidden:
    """The secrets that one attempt at a step was given: what has to be masked and must not be kept."""

    _values: dict[str, str] = field(default_factory=dict, repr=False)

    def add(self, name: str, value: str) -> str:
        self._values[name] = value
        self.__dict__.pop("_pattern", None)
        return value

    def __bool__(self) -> bool:
        return bool(self._values)

    def masked(self, text: str) -> str:
        """A text without the values, in whichever form they are in it."""
        return self._pattern.sub(_MASK, text) if self._values else text

    def refuse(self, text: str, files: Sequence[Path] = ()) -> None:
        """Raise Invalid when a value is in a text or a file, in Parquet and zip files too."""
        for name, value in self._values.items():
            forms = _forms(value)
            if any(one in text for one in forms) or any(_is_in(forms, file) for file in files):
                raise Invalid(
                    f"it holds the value of secret {name}. A result is kept and shown to whoever may see the run. Return what "
                    "was made with the secret, and not the secret."
                )

    @contextmanager
    def printing(self, *, own_process: bool) -> Iterator[None]:
        """Mask what is printed meanwhile, by native code and programs too; in a notebook what Python prints."""
        if not self._values:
            yield
            return
        with contextlib.ExitStack() as stack:
            if not in_kernel():
                stack.enter_context(_filtered(self._needles))
            if not own_process:  # its streams may lead elsewhere
                stack.enter_context(contextlib.redirect_stdout(_Masked(sys.stdout, self.masked)))
                stack.enter_context(contextlib.redirect_stderr(_Masked(sys.stderr, self.masked)))
            yield

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        forms = {form for value in self._values.values() for form in _forms(value)}
        return re.compile("|".join(map(re.escape, sorted(forms, key=len, reverse=True))))

    @property
    def _needles(self) -> list[bytes]:
        forms = {form for value in self._values.values() for form in _forms(value)}
        return sorted((form.encode() for form in forms), key=len, reverse=True)


def _forms(value: str) -> set[str]:
    """A value as it is, as it is written in JSON, Python and addresses, in base64, and the lines of a long one."""
    import base64  # noqa: PLC0415  (these are for steps with secrets alone)
    from urllib.parse import quote, quote_plus  # noqa: PLC0415

    lines = [
        one for one in map(str.strip, value.splitlines()) if len(one) >= _LINE and not one.startswith("-----")
    ]
    encoded = base64.b64encode(value.encode()).decode()
    written = {form(value) for form in (quote, quote_plus, lambda text: quote(text, safe=""))}
    in_json = {json.dumps(value, ensure_ascii=is_ascii)[1:-1] for is_ascii in (True, False)}
    return {value, *in_json, repr(value)[1:-1], encoded, *written, *lines}


def _is_in(forms: set[str], file: Path) -> bool:
    import zipfile  # noqa: PLC0415  (as above)

    needles = [form.encode(code) for form in forms for code in ("utf-8", "utf-16-le", "utf-32-le")]
    if any(needle in os.fsencode(file.name) for needle in needles):
        return True
    if not file.stat().st_size:
        return False
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if any(content.find(needle) >= 0 for needle in needles):
            return True
        is_parquet = content[:4] == b"PAR1"
    if is_parquet:
        return _is_in_parquet(forms, file)
    if zipfile.is_zipfile(file):  # a model
        with zipfile.ZipFile(file) as archive:
            return any(needle in archive.read(name) for name in archive.namelist() for needle in needles)
    return False


def _is_in_parquet(forms: set[str], file: Path) -> bool:
    import pyarrow.parquet as pq  # noqa: PLC0415  (a step with a secret and without tables does without)

    with pq.ParquetFile(file) as table:
        return any(_is_in_column(forms, column) for batch in table.iter_batches() for column in batch.columns)


def _is_in_column(forms: set[str], column: Any) -> bool:
    import pyarrow as pa  # noqa: PLC0415  (as above)
    import pyarrow.compute as pc  # noqa: PLC0415

    kind = column.type
    if pa.types.is_dictionary(kind):
        return _is_in_column(forms, column.dictionary)
    if pa.types.is_nested(kind):
        parts = column.flatten()
        return any(_is_in_column(forms, one) for one in (parts if isinstance(parts, list) else [parts]))
    if (
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
    ):
        return any(pc.any(pc.match_substring(column, form)).as_py() for form in forms)
    return False


class _Masked:
    """A stream of this process, masked as it is written to."""

    def __init__(self, stream: TextIO, masked: Callable[[str], str]) -> None:
        self._stream = stream
        self._masked = masked

    def write(self, text: str) -> int:
        self._stream.write(self._masked(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _filtered(needles: Sequence[bytes]) -> Iterator[None]:
    """Lead both output descriptors through a process that masks, and that ends when nobody prints any more.

    A thread would not do: native code that prints while it holds the interpreter's lock would wait for it for ever.
    """
    _flush()
    before = os.dup(1), os.dup(2)
    source, sink = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # of threads: this one touches nothing that they hold
        pid = os.fork()
    if pid == 0:
        _pass_on(source, needles)
    os.close(source)
    for descriptor in (1, 2):
        os.dup2(sink, descriptor)
    os.close(sink)
    try:
        yield
    finally:
        _flush()
        for descriptor, old in zip((1, 2), before, strict=True):
            os.dup2(old, descriptor)
            os.close(old)
        _await_end(pid)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()


def _await_end(pid: int) -> None:
    """Wait until all that was printed is passed on; not for long, as the step may have left something that still prints."""
    deadline = clock.elapsed_s() + _DRAINED_S
    while os.waitpid(pid, os.WNOHANG)[0] == 0 and clock.elapsed_s() < deadline:
        time.sleep(0.001)


def _pass_on(source: int, needles: Sequence[bytes]) -> NoReturn:
    """The filter's process: in a group of its own, so that it outlives a step that is killed and has printed."""
    try:
        os.setpgid(0, 0)
        os.dup2(source, 0)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        held = b""
        while block := os.read(0, _BLOCK_BYTES):
            held += block
            for needle in needles:
                held = held.replace(needle, _MASK.encode())
            cut = len(held) - _begun(held, needles)
            _write(held[:cut])
            held = held[cut:]
        _write(held)
    finally:
        os._exit(0)


def _begun(text: bytes, needles: Sequence[bytes]) -> int:
    """How many bytes at a text's end may be the beginning of a value."""
    for length in range(min(len(text), len(needles[0]) - 1), 0, -1):
        if any(needle[0] == text[-length] and needle.startswith(text[-length:]) for needle in needles):
            return length
    return 0


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]

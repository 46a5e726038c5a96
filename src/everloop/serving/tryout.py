"""Asking a model before anybody relies on it: does it load here, does it answer its own example, does its compiled plan answer alike.

Libraries read a model's file and answer in native code, and some end the whole process over a damaged one. So both are done in a
process that ends with it, a stranger's model behind the wall of `model_child`. It is forked from one that has the libraries, which is started once and ends
with this process (`template`).
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from everloop.compiled import RULES
from everloop.errors import EverloopError, GateFailed, Invalid
from everloop.serving.exact import MOST_ROWS, verified, verified_columns, verified_onnx
from everloop.serving.held import WrongShapeError
from everloop.serving.loaded import Loaded, load_files, untrusted_types
from everloop.serving.mlmodel import Layout, example_rows, layout_of
from everloop.serving.model_child import wall
from everloop.serving.model_process import ModelProcess, ModelStoppedError, in_own_process, plain_environment
from everloop.serving.predictor import Failure, Predictor, verified_files
from everloop.serving.records import Compiled, Limits, Manifest, Signature
from everloop.serving.signature import Reader, example_row
from everloop.storage import Blobs

IS_FORKED = sys.platform == "linux"  # macOS' own libraries do not survive a fork
_PROGRAM = [sys.executable, "-I", "-X", "faulthandler", "-m", "everloop.serving.template"]
_WITHIN_S = 300.0
SAID, _ASKED, _TELLING, _TOLD = "said", "asked", "telling", "told"  # the files of a question's folder
_SHOWN = 300  # characters of what a process said last


class Findings(msgspec.Struct, frozen=True, tag="found"):
    """What trying a model found: its signature, the audited types to be declared, how many rows of its own it answered.

    `compiled` says how its compiled plan compares with it.
    """

    signature: Signature
    trusted_types: tuple[str, ...] = ()
    answered: int = 0
    compiled: Compiled | None = None


class Asked(msgspec.Struct, frozen=True):
    """What a process is asked: to try a stranger's model, behind a wall; with a manifest, to compare that version's plan with it on these rows."""

    files: dict[str, bytes]
    hidden: str = ""
    manifest: Manifest | None = None
    rows: list[list[Any]] = []


class _Refusal(msgspec.Struct, frozen=True, tag="refused"):
    is_gate: bool
    message: str


def try_out(files: Mapping[str, bytes], *, hidden: Path) -> Findings:
    """Load a model in a process that ends with it, and have it answer the rows of its input example.

    `hidden` is the workspace's home, which that process must not read.

    Raises
    ------
    GateFailed
        It holds types that are not audited.
    Invalid
        It cannot be loaded here, does not answer its own example, or its inputs cannot be served.
    """
    try:
        answer, ending = _apart(Asked(dict(files), str(hidden.resolve())))
    except ModelStoppedError as error:
        raise Invalid(
            f"the model did not load and answer within {_WITHIN_S:g} s: {error} Log a smaller one, or one that loads."
        ) from error
    if not answer:
        raise Invalid(
            f"the model ended the process that loaded it, {ending}. Its file is damaged, or made to do so. Log the model again."
        )
    told = msgspec.msgpack.decode(answer, type=Findings | _Refusal)
    if isinstance(told, _Refusal):
        raise (GateFailed if told.is_gate else Invalid)(told.message)
    found: Findings = told
    return found


def try_out_trusted(files: Mapping[str, bytes], *, python: str, hidden: Path) -> Findings:
    """As `try_out`, for a model that brings code of its own, which somebody trusted. Raises Invalid."""
    layout = layout_of(files, files.__getitem__)
    signature = layout.signature(None, is_class=bool(layout.has_text_output))
    loaded = in_own_process(files, signature, python=python, hidden=hidden)
    with closing(_predictor(signature, loaded)) as predictor:
        return Findings(signature, (), _answer_example(predictor, layout, files))


def compare_plan(manifest: Manifest, blobs: Blobs, real: Callable[[], Sequence[Sequence[Any]]]) -> Compiled:
    """How the compiled plan of a version compares with its model, on the `real` rows and on made-up ones, in a process that ends with it.

    Where there is no plan, its conversion to ONNX, which is put among the blobs if it is as good. What cannot be compared is not used,
    and the reason says why.

    Raises Invalid for a model that ends that process: it would end those that serve it.
    """
    if manifest.flavor != "sklearn":
        return _unused(manifest, f"models of flavor {manifest.flavor} are answered by their own library")
    try:
        rows = [list(row) for row in real()[:MOST_ROWS]]
        answer, ending = _apart(Asked(verified_files(manifest, blobs), manifest=manifest, rows=rows))
    except Exception as error:  # noqa: BLE001  (whatever is wrong with a plan, the model answers)
        return _uncompared(manifest, error)
    if not answer:
        raise Invalid(
            f"the model of {manifest.id} ended the process that was to compare it with its compiled plan, {ending}. It would end those "
            "that serve it as well. Train it again with the libraries that are installed here."
        )
    found, *contents = msgspec.msgpack.decode(answer, type=tuple[Compiled, bytes, bytes])
    for content in contents:
        if content:
            blobs.put(content)
    if ending and not found.is_used:
        return msgspec.structs.replace(
            found,
            reason=f"{found.reason}; its conversion to ONNX ended the process that compared it, {ending}",
        )
    return found


def answer_in(folder: Path) -> None:
    """Answer the question in a folder, in a process that may end over it. An answer replaces the one before, whole."""
    asked = msgspec.msgpack.decode((folder / _ASKED).read_bytes(), type=Asked)
    os.chdir(folder)
    os.environ.update(plain_environment(folder))  # noqa: TID251  (its own folders, no setting is read)
    for told in _tried_behind_wall(asked) if asked.manifest is None else compared(asked):
        Path(_TELLING).write_bytes(msgspec.msgpack.encode(told))
        Path(_TELLING).replace(_TOLD)


def compared(asked: Asked) -> Iterator[tuple[Compiled, bytes, bytes]]:
    """What is found of a version's plan, of what can be kept for columns, and if the plan is not used, of its conversion to ONNX.

    Each with the data of the columns and the conversion, where they are used.
    """
    manifest = asked.manifest
    assert manifest is not None  # noqa: S101
    try:
        model = Predictor.of_files(manifest, asked.files, converted=bytes, is_compiled=False).model
        found = verified(manifest, model, asked.rows)
        yield found, b"", b""
        found, columns = verified_columns(manifest, model, found, asked.rows)
        yield found, columns, b""
        if not found.is_used:
            found, onnx = verified_onnx(manifest, model, found, asked.rows)
            yield found, columns, onnx
    except Exception as error:  # noqa: BLE001  (as in `compare_plan`)
        yield _uncompared(manifest, error), b"", b""


def how_it_ended(code: int) -> str:
    """What an exit code says, a signal's being negative; nothing where all went well."""
    return f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}" if code else ""


def _uncompared(manifest: Manifest, error: Exception) -> Compiled:
    return _unused(manifest, f"it could not be compared: {type(error).__name__}: {error}")


def _unused(manifest: Manifest, reason: str) -> Compiled:
    return Compiled(manifest.digest, RULES, "", is_used=False, reason=reason)


def _apart(asked: Asked) -> tuple[bytes, str]:
    """What a process told that was asked and has ended, empty if it told nothing; and how it ended, if not well.

    Raises ModelStoppedError when it did not end in time.
    """
    kept = _template() if IS_FORKED else None
    with tempfile.TemporaryDirectory(
        prefix="everloop-asked-", dir=None if kept is None else kept.scratch
    ) as name:
        folder = Path(name).resolve()
        (folder / _ASKED).write_bytes(msgspec.msgpack.encode(asked))
        (folder / SAID).touch()
        ask = _ending_of_one if kept is None else partial(_ending_of_forked, kept)
        ending = ask(folder)
        answer = (folder / _TOLD).read_bytes() if (folder / _TOLD).exists() else b""
        said = (folder / SAID).read_text(errors="replace").partition("\n\nCurrent thread")[0]
    last = said.strip().rpartition("\n")[2][-_SHOWN:]
    return answer, f"{ending}: {last}" if ending and last else ending


def _ending_of_forked(template: ModelProcess, folder: Path) -> str:
    return str(template.ask({"folder": str(folder)})["ending"])


def _ending_of_one(folder: Path) -> str:
    with (folder / SAID).open("wb") as said:
        try:
            done = subprocess.run(
                [*_PROGRAM, str(folder)],
                stdout=said,
                stderr=said,
                env=plain_environment(folder),
                timeout=_WITHIN_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ModelStoppedError("its process was stopped.") from error
    return how_it_ended(done.returncode)


_starting = threading.Lock()
_started: dict[int, ModelProcess] = {}  # by the process that started it: one that was forked needs its own


def _template() -> ModelProcess:
    with _starting:
        if os.getpid() not in _started:
            process = ModelProcess(
                {},
                _PROGRAM,
                None,
                advice="Install everloop again: this Python does not start with it.",
                hidden=None,
                limits=Limits(memory_mb=_memory_mb(), cores=1, hang_s=_WITHIN_S),
            )
            process.start()
            atexit.register(process.close)
            _started[os.getpid()] = process
        return _started[os.getpid()]


def _memory_mb() -> int:
    """What this machine has: one that takes more is ended over it, before others are."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 1_000_000


def _tried_behind_wall(asked: Asked) -> Iterator[Findings | _Refusal]:
    wall(os.curdir, os.curdir, asked.hidden)
    try:
        yield _tried(asked.files)
    except EverloopError as error:
        yield _Refusal(isinstance(error, GateFailed), str(error))


def _tried(files: Mapping[str, bytes]) -> Findings:
    layout = layout_of(files, files.__getitem__)
    is_skops = layout.file is not None and layout.file.endswith(".skops")
    trusted = tuple(untrusted_types(files[layout.file or ""])) if is_skops else ()
    loaded = load_files(layout, files)
    signature = layout.signature(loaded.classes, is_class=loaded.is_class)
    predictor = _predictor(signature, loaded)
    answered = _answer_example(predictor, layout, files)
    manifest = msgspec.structs.replace(predictor.manifest, flavor=layout.flavor)
    compiled = verified(manifest, loaded) if layout.flavor == "sklearn" else None
    return Findings(signature, trusted, answered, compiled)


def _predictor(signature: Signature, loaded: Loaded) -> Predictor:
    nobody = Manifest("the model", "", 0, "", {}, signature, datetime(1970, 1, 1, tzinfo=UTC))
    return Predictor(nobody, loaded)


def _answer_example(predictor: Predictor, layout: Layout, files: Mapping[str, bytes]) -> int:
    """How many rows of its example the model answered; a made-up row, which it may refuse, stands for one without example."""
    signature = predictor.manifest.signature
    rows = [] if layout.example is None else example_rows(signature, files[layout.example])
    reader = Reader(signature)
    values = []
    for row in rows:
        read, problems = reader.read(row)
        if problems:
            told = "; ".join(f"{one.field} {one.problem}" for one in problems)
            raise Invalid(
                f"the model's input example does not fit its signature: {told}. Log it with a signature that is inferred from "
                "rows as they are asked."
            )
        values.append(read)
    for answer in predictor.answer(values or [example_row(signature)]):
        if isinstance(answer, Failure) and (values or answer.kind == WrongShapeError.__name__):
            raise Invalid(
                f"the model does not answer {'its own input example' if values else 'as its signature says'}: {answer.kind}: {answer.text[:300]}. It was trained with other "
                "versions of libraries, or its signature is not its own. Log it again."
            )
    return len(values)

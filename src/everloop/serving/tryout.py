"""Asking a model that was logged elsewhere before anybody relies on it: does it load here, and does it answer its own example.

Libraries read a model's file in native code, and some end the whole process over a damaged one. So it is first loaded in a
process of its own, behind the wall of `model_child`: `python -m everloop.serving.tryout HIDDEN`, files in, findings out.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from everloop.compiled import RULES
from everloop.errors import EverloopError, GateFailed, Invalid
from everloop.serving.exact import verified, verified_columns, verified_onnx
from everloop.serving.held import WrongShapeError
from everloop.serving.loaded import Loaded, load_files, untrusted_types
from everloop.serving.mlmodel import Layout, example_rows, layout_of
from everloop.serving.model_child import wall
from everloop.serving.model_process import in_own_process, plain_environment
from everloop.serving.predictor import Failure, Predictor
from everloop.serving.records import Compiled, Manifest, Signature
from everloop.serving.signature import Reader, example_row
from everloop.storage import Blobs

_WITHIN_S = 300.0


class Findings(msgspec.Struct, frozen=True, tag="found"):
    """What trying a model found: its signature, the audited types to be declared, how many rows of its own it answered.

    `compiled` says how its compiled plan compares with it.
    """

    signature: Signature
    trusted_types: tuple[str, ...] = ()
    answered: int = 0
    compiled: Compiled | None = None


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
    with tempfile.TemporaryDirectory(prefix="everloop-tryout-") as scratch:
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-m", __name__, str(hidden.resolve())],
                input=msgspec.msgpack.encode(dict(files)),
                capture_output=True,
                cwd=scratch,
                env=plain_environment(Path(scratch)),
                timeout=_WITHIN_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise Invalid(
                f"the model did not load and answer within {_WITHIN_S:g} s. Log a smaller one, or one that loads."
            ) from error
    try:
        told = msgspec.json.decode(done.stdout, type=Findings | _Refusal)
    except msgspec.MsgspecError as error:
        said = done.stderr.decode(errors="replace").strip()[-300:]
        raise Invalid(
            f"the model ended the process that loaded it (exit code {done.returncode}): {said} Its file is damaged, or made to do "
            "so. Log the model again."
        ) from error
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
    """How the compiled plan of a version compares with its model, on the `real` rows and on made-up ones.

    Where there is none, its conversion to ONNX, which is put among the blobs if it is as good. What cannot be compared is not used, and the reason says why.
    """
    told = Compiled(manifest.digest, RULES, "", is_used=False)
    if manifest.flavor != "sklearn":
        return msgspec.structs.replace(
            told, reason=f"models of flavor {manifest.flavor} are answered by their own library"
        )
    try:
        model, rows = Predictor.load(manifest, blobs).model, real()
        found = verified(manifest, model, rows)
        if not found.is_used:
            found, onnx = verified_onnx(manifest, model, found, rows)
            if found.onnx:
                blobs.put(onnx)
        found, columns = verified_columns(manifest, model, found, rows)
        if columns:
            blobs.put(columns)
        return found
    except Exception as error:  # noqa: BLE001  (whatever is wrong with a plan, the model answers)
        return msgspec.structs.replace(
            told, reason=f"it could not be compared: {type(error).__name__}: {error}"
        )


def main(hidden: str) -> None:
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    files = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=dict[str, bytes])
    wall(os.curdir, os.curdir, hidden)
    told: Findings | _Refusal
    try:
        told = _tried(files)
    except EverloopError as error:
        told = _Refusal(isinstance(error, GateFailed), str(error))
    with answers:
        answers.write(msgspec.json.encode(told))


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


if __name__ == "__main__":
    main(*sys.argv[1:])

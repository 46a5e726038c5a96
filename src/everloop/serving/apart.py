"""A released model in a process of its own, though nothing in it is strange: so that its crash, leak or loop is nobody else's.

This module is both ends. The serving process holds an `Apart` where it would hold a `Predictor`; the other process is this
program: it loads the release as a serving process does, plan included, and answers rows. What happens in a pipe between them
is a frame of msgpack each way.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from everloop.errors import EverloopError
from everloop.explaining import Explanation
from everloop.serving.explain import Explainer
from everloop.serving.model_child import limit, pipes, read_frame, wall, write_frame
from everloop.serving.model_process import NO_MEMORY, ModelProcess, ModelStoppedError
from everloop.serving.predictor import (
    Failure,
    Output,
    Prediction,
    Predictor,
    stopped,
    verified_conversion,
    verified_files,
)
from everloop.serving.records import Limits, Manifest
from everloop.storage import Blobs

_CONVERTED = "converted by everloop.onnx"
_encode = msgspec.msgpack.Encoder().encode
_answers = msgspec.msgpack.Decoder(dict[str, Any]).decode


class _First(msgspec.Struct, frozen=True):
    """What the program is told before it is asked for anything."""

    manifest: Manifest
    is_compiled: bool


@dataclass(frozen=True)
class Apart:
    """A model in another process; asked as a `Predictor` is, by one thread at a time."""

    manifest: Manifest
    process: ModelProcess
    path: str
    has_scores: bool

    @classmethod
    def load(
        cls, manifest: Manifest, blobs: Blobs, limits: Limits, *, hidden: Path | None, is_compiled: bool
    ) -> Apart:
        """As `Predictor.load`, elsewhere. Raises Invalid for whatever it raises there."""
        process = ModelProcess(
            {**verified_files(manifest, blobs), _CONVERTED: verified_conversion(manifest, blobs)},
            [sys.executable, "-I", "-B", "-X", "faulthandler", "-m", __name__],
            _First(manifest, is_compiled),
            advice="Let it run in the serving process (own_process=False, no memory_mb, no cores), or mend what is said.",
            hidden=hidden,
            limits=limits,
            encode=_encode,
            decode=_answers,
        )
        try:
            told = process.start()
        except BaseException:
            process.close()
            raise
        return cls(manifest, process, f"{told['path']}, in a process of its own", told["has_scores"])

    def answer(self, rows: list[list[Any]]) -> list[Prediction | Failure]:
        """As `Predictor.answer`; rows that the process does not survive fail together."""
        try:
            told = self.process.ask({"rows": rows})["answers"]
        except ModelStoppedError as error:
            return [*stopped(error, len(rows))]
        return [
            Failure(one["kind"], one["text"]) if isinstance(one, Mapping) else (one[0], one[1])
            for one in told
        ]

    def explain(self, asked: list[tuple[list[Any], Output]]) -> list[Explanation | Failure]:
        """As `Explainer.explain`, in that process."""
        try:
            told = self.process.ask({"explain": asked})["answers"]
        except ModelStoppedError as error:
            return [*stopped(error, len(asked))]
        return [
            msgspec.convert(one, Failure) if "kind" in one else msgspec.convert(one, Explanation)
            for one in told
        ]

    def close(self) -> None:
        self.process.close()


def main(model: str, scratch: str, hidden: str, memory_mb: str, cores: str) -> None:
    incoming, outgoing = pipes()
    limit(int(memory_mb), int(cores))
    content = read_frame(incoming)
    if content is None:
        return
    first = msgspec.msgpack.decode(content, type=_First)
    try:
        wall(model, scratch, hidden)
        files = {path: (Path(model) / path).read_bytes() for path in first.manifest.files}
        predictor = Predictor.of_files(
            first.manifest,
            files,
            converted=Path(model, _CONVERTED).read_bytes,
            is_compiled=first.is_compiled,
        )
    except (EverloopError, MemoryError) as error:
        write_frame(outgoing, _encode({"error": [type(error).__name__, str(error)]}))
        return
    write_frame(outgoing, _encode({"path": predictor.path, "has_scores": predictor.has_scores}))
    explainer: Explainer | None = None
    while (content := read_frame(incoming)) is not None:
        asked = msgspec.msgpack.decode(content)
        if "explain" in asked:
            explainer = explainer or Explainer(predictor)
            write_frame(outgoing, _encode({"answers": explainer.explain(asked["explain"])}))
            continue
        answers = predictor.answer(asked["rows"])
        full = [one for one in answers if isinstance(one, Failure) and one.kind in NO_MEMORY]
        if full:
            write_frame(outgoing, _encode({"error": [full[0].kind, full[0].text]}))
            return  # what took it all may never give it back
        write_frame(outgoing, _encode({"answers": answers}))


if __name__ == "__main__":
    main(*sys.argv[1:])

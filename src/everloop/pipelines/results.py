"""Keeping what a step returns, by content: small JSON values in the journal itself, all else as blobs."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from everloop.errors import Invalid
from everloop.pipelines.canonical import digest_of, is_json, literal
from everloop.pipelines.records import Stored
from everloop.pipelines.secrets import Hidden

if TYPE_CHECKING:
    from everloop.storage import Blobs

# A blob costs two fsyncs, a row in the journal none: up to this size a value goes there.
_NOTE_BYTES = 4_096
_NOTE = "value.json"  # as value_files names what is small of a value
_JSON_BEGINS = '{"kind":"json","value":'  # how the note of a JSON value begins; it ends with }
_SHORT = 200  # characters of an item's literal up to which it is told in the journal, as a parameter is


@dataclass(frozen=True)
class Results:
    """Results kept in `blobs`. `scratch` is a folder for passing files; what is loaded from there may stay in it.

    A result that holds one of the `hidden` secrets is refused.
    """

    blobs: Blobs
    scratch: Path
    hidden: Hidden = field(default_factory=Hidden)

    def keep(self, value: Any) -> Stored:
        """Store a step's result.

        Raises
        ------
        Invalid
            There is no form for a value of its type, or a secret is in it.
        GateFailed
            A model holds types that are not audited.
        """
        if is_json(value):
            return self._stored("json", _json_note(value), {}, 0, {})
        if type(value) is list:
            return self.gathered([self.keep(item) for item in value])
        return self._keep_files(value)

    def gathered(self, items: Sequence[Stored]) -> Stored:
        """The list of results that are kept already: small JSON values as one JSON list, others by reference."""
        if all(item.kind == "json" and item.note is not None for item in items):
            values = ",".join((item.note or "")[len(_JSON_BEGINS) : -1] for item in items)
            return self._stored("json", f"{_JSON_BEGINS}[{values}]}}", {}, 0, {})
        listed = json.dumps([vars(item) for item in items], ensure_ascii=False, separators=(",", ":"))
        return self._stored("list", listed, {}, sum(item.size_bytes for item in items), {})

    def items(self, stored: Stored) -> Items:
        """The items of a stored list, one by one.

        Raises Invalid when the value is no list.
        """
        if stored.kind == "list":
            return Items([Stored(**item) for item in json.loads(self._note(stored))], ())
        value = self.bring(stored) if stored.kind == "json" else None
        if type(value) is not list:
            raise Invalid(
                f"a map goes over a list, and it was given a {stored.kind}"
                f"{'' if stored.kind != 'json' else f' value, {type(value).__name__}'}. Let the step before it return a list."
            )
        return Items((), value)

    def bring(self, stored: Stored) -> Any:
        """The value of a stored result. A path is a copy's, which is the caller's own."""
        note = self._note(stored)
        if stored.kind == "json":
            return json.loads(note)["value"]
        if stored.kind == "list":
            return [self.bring(Stored(**item)) for item in json.loads(note)]
        from everloop.pipelines import value_files  # noqa: PLC0415  (numpy and pyarrow: not for JSON values)

        if stored.kind == "path":
            return value_files.load(self._checked_out(stored, note, self._folder()))
        with tempfile.TemporaryDirectory(dir=self._made_scratch()) as folder:
            return value_files.load(self._checked_out(stored, note, Path(folder)))

    def is_there(self, stored: Stored) -> bool:
        """Whether the result can still be loaded: blobs may have been collected."""
        is_there = all(self.blobs.has(digest) for digest in stored.files.values())
        if stored.kind != "list" or not is_there:
            return is_there
        return all(self.is_there(Stored(**item)) for item in json.loads(self._note(stored)))

    def _note(self, stored: Stored) -> str:
        return stored.note if stored.note is not None else self.blobs.get(stored.files[_NOTE]).decode()

    def _keep_files(self, value: Any) -> Stored:
        from everloop.pipelines import value_files  # noqa: PLC0415  (numpy and pyarrow: not for JSON values)

        kind = value_files.kind_of(value)
        with tempfile.TemporaryDirectory(dir=self._made_scratch()) as name:
            folder = Path(name)
            value_files.save(value, folder)
            note = (folder / _NOTE).read_text(encoding="utf-8")
            files = {
                path.relative_to(folder).as_posix(): path
                for path in sorted(folder.rglob("*"))
                if path.is_file() and path != folder / _NOTE
            }
            self.hidden.refuse("", list(files.values()))
            size = sum(path.stat().st_size for path in files.values())
            kept = {name: self.blobs.put_file(path) for name, path in files.items()}
        metrics = dict(value.metrics) if kind == "model" else {}
        return self._stored(kind, note, kept, size, metrics)

    def _stored(
        self, kind: str, note: str, files: dict[str, str], size: int, metrics: dict[str, float]
    ) -> Stored:
        self.hidden.refuse(f"{note}{metrics}")
        digest = digest_of(note, *(text for item in sorted(files.items()) for text in item))
        data = note.encode()
        if len(data) > _NOTE_BYTES:
            return Stored(
                kind, digest, size + len(data), None, {**files, _NOTE: self.blobs.put(data)}, metrics
            )
        return Stored(kind, digest, size + len(data), note, files, metrics)

    def _checked_out(self, stored: Stored, note: str, folder: Path) -> Path:
        (folder / _NOTE).write_text(note, encoding="utf-8")
        for name, digest in stored.files.items():
            place = folder / name
            if name == _NOTE:
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            if stored.kind in ("path", "object", "pickle"):  # the user's code may write there
                place.write_bytes(self.blobs.get(digest))
            else:
                place.symlink_to(self.blobs.path(digest).absolute())  # a home may be given relative to here
        return folder

    def _folder(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self._made_scratch()))

    def _made_scratch(self) -> Path:
        self.scratch.mkdir(parents=True, exist_ok=True)
        return self.scratch


@dataclass(frozen=True)
class Items:
    """A stored list as its items: kept ones, or JSON values that are given a note when their turn comes."""

    kept: Sequence[Stored]
    values: Sequence[Any]

    def __len__(self) -> int:
        return len(self.kept) or len(self.values)

    def __getitem__(self, index: int) -> Stored:
        """An item as a result of its own; its note is whole, however long, and nothing is written for it."""
        if self.kept:
            return self.kept[index]
        note = _json_note(self.values[index])
        return Stored("json", digest_of(note), len(note.encode()), note)

    def binding(self, index: int) -> dict[str, str]:
        """What an item is, as a cache key and the journal name it."""
        if self.values and len(text := literal(self.values[index])) <= _SHORT:
            return {"value": text}
        item = self[index]
        return {"item": f"{item.kind} {item.digest}"}


def _json_note(value: Any) -> str:
    # NaN and infinities in Python's own spelling, as value_files does
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return f"{_JSON_BEGINS}{text}}}"

"""What other serving processes of the same home answer, for the features of this one: their logs, read as they grow."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from everloop.predictions import PredictionRecord, is_live, whole_frames, writer_folder

_MOST_AT_ONCE_BYTES = 8 << 20


@dataclass
class _Place:
    """How far one process's log was read: to an offset of the segment that `descriptor` has open."""

    segment: int
    descriptor: int
    offset: int
    stuck_at: int = -1


class Elsewhere:
    """The newest records of all other processes, each given once; used by one thread at a time.

    Begins at the end of what there is when a process is first seen alive.
    """

    def __init__(self, folder: Path, own: int) -> None:
        self._folder = folder
        self._own = own
        self._places: dict[int, _Place | None] = {}

    def look(self) -> None:
        """Note where the logs end now, for processes that are not known yet."""
        for writer in self._living() - self._places.keys():
            number = max(self._segments(writer), default=None)
            self._places[writer] = None if number is None else self._opened(writer, number, at_end=True)

    def read(self, endpoints: Collection[str]) -> list[PredictionRecord]:
        """What was logged of these endpoints since the last call."""
        found: list[PredictionRecord] = []
        living = self._living()
        for writer in living - self._places.keys():
            self._places[writer] = None  # it began after the last look: all that it wrote is new
        for writer in list(self._places):
            found += self._new(writer, endpoints, is_over=writer not in living)
        return found

    def close(self) -> None:
        for place in self._places.values():
            if place is not None:
                os.close(place.descriptor)
        self._places = {}

    def _new(self, writer: int, endpoints: Collection[str], *, is_over: bool) -> Iterator[PredictionRecord]:
        place = self._places[writer]
        while True:
            if place is not None:
                yield from self._rest(place, endpoints)
            later = [one for one in self._segments(writer) if place is None or one > place.segment]
            following = self._opened(writer, min(later)) if later else None
            if following is None:
                break
            if place is not None:
                yield from self._rest(place, endpoints)  # what was written between the look and its end
                os.close(place.descriptor)
            place = self._places[writer] = following
        if is_over:
            if place is not None:
                os.close(place.descriptor)
            del self._places[writer]

    def _rest(self, place: _Place, endpoints: Collection[str]) -> Iterator[PredictionRecord]:
        while content := os.pread(place.descriptor, _MOST_AT_ONCE_BYTES, place.offset):
            records, size = whole_frames(content, lambda head: head.endpoint in endpoints)
            yield from records
            place.offset += size
            if size:
                continue
            if (
                place.stuck_at == place.offset
            ):  # twice in a row: it is damage, not a record that is being written
                place.offset += len(content)
            place.stuck_at = place.offset
            return

    def _living(self) -> set[int]:
        names = (path.stem for path in (self._folder / "workers").glob("[0-9]*.json"))
        return {int(name) for name in names if int(name) != self._own and is_live(self._folder, int(name))}

    def _segments(self, writer: int) -> list[int]:
        names = (path.stem for path in writer_folder(self._folder, writer).glob("[0-9]*.log"))
        return [int(name) for name in names]

    def _opened(self, writer: int, number: int, *, at_end: bool = False) -> _Place | None:
        try:
            descriptor = os.open(writer_folder(self._folder, writer) / f"{number}.log", os.O_RDONLY)
        except FileNotFoundError:
            return None  # sealed just now
        return _Place(number, descriptor, os.fstat(descriptor).st_size if at_end else 0)

"""What other processes log, read as it grows: each record once, whatever becomes of its segment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from everloop.clock import wall
from everloop.predictions import LogWriter, log, writer_folder
from everloop.serving import Worker
from everloop.serving.elsewhere import Elsewhere
from everloop.serving.files import write_worker
from tests.serving.records import record


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "serving"


def a_process(folder: Path, segment_bytes: int = 1 << 20) -> LogWriter:
    """A process that writes a log and says that it lives."""
    writer = LogWriter.claim(folder, segment_bytes=segment_bytes)
    write_worker(folder, Worker(writer.writer, os.getpid(), 1, wall(), wall(), "localhost", 0))
    return writer


def keys(elsewhere: Elsewhere) -> list[str | None]:
    return [one.key for one in elsewhere.read({"category"})]


def test_what_is_new_is_given_once_and_what_was_there_before_is_not(folder: Path) -> None:
    other, own = a_process(folder), a_process(folder)
    other.write([record(1)])
    elsewhere = Elsewhere(folder, own.writer)
    elsewhere.look()
    assert keys(elsewhere) == []
    own.write([record(2)])
    other.write([record(3), record(4, endpoint="price"), record(5)])
    assert keys(elsewhere) == ["3", "5"]
    assert keys(elsewhere) == []


def test_segments_that_are_begun_left_and_sealed_are_read_to_their_end(folder: Path) -> None:
    other = a_process(folder, segment_bytes=400)  # one record each
    elsewhere = Elsewhere(folder, own=99)
    other.write([record(0)])
    elsewhere.look()
    for number in range(1, 5):
        other.write([record(number)])
    assert keys(elsewhere) == ["1", "2", "3", "4"]
    other.write([record(5)])
    log.seal(folder)
    assert keys(elsewhere) == ["5"]


def test_a_process_that_came_later_is_read_from_its_beginning_and_one_that_died_to_its_end(
    folder: Path,
) -> None:
    elsewhere = Elsewhere(folder, own=99)
    elsewhere.look()
    other = a_process(folder)
    other.write([record(1)])
    assert keys(elsewhere) == ["1"]
    other.write([record(2)])
    other.close()
    assert keys(elsewhere) == ["2"]
    assert keys(elsewhere) == []


def test_a_record_that_is_half_written_waits_for_its_rest_and_damage_is_passed_over(folder: Path) -> None:
    other = a_process(folder)
    elsewhere = Elsewhere(folder, own=99)
    elsewhere.look()
    other.write([record(1)])
    (segment,) = writer_folder(folder, other.writer).glob("*.log")
    whole = segment.read_bytes()
    segment.write_bytes(whole + whole[:50])
    assert keys(elsewhere) == ["1"]
    segment.write_bytes(whole + whole)
    assert keys(elsewhere) == ["1"]
    segment.write_bytes(whole + whole + b"\xff" * 80)
    assert [keys(elsewhere) for _ in range(2)] == [[], []]
    segment.write_bytes(whole + whole + b"\xff" * 80 + whole)
    assert keys(elsewhere) == ["1"]

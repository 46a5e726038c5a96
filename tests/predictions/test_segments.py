from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everloop.errors import StorageFailed
from everloop.predictions import PredictionRecord, is_live, log
from everloop.predictions.segments import (
    Damage,
    LogWriter,
    _decoder,
    _frame,
    decoder_of,
    find_in,
    frames,
    head_of,
)
from tests.serving.records import files_of_at_most, record

RECORDS = [record(number) for number in range(5)]
FRAMES = [_frame(one) for one in RECORDS]
CONTENT = b"".join(FRAMES)


def scanned(content: bytes) -> tuple[list[PredictionRecord], list[Damage]]:
    damage: list[Damage] = []
    return [one for some, _ in frames(content, damage, _decoder.decode) for one in some], damage


def test_what_is_written_is_read_in_order(tmp_path: Path) -> None:
    writer = LogWriter.claim(tmp_path)
    writer.write(RECORDS[:3])
    writer.write(RECORDS[3:])
    assert scanned(next(tmp_path.glob("log/00001/*.log")).read_bytes()) == (RECORDS, [])


@given(st.integers(0, len(CONTENT)))
def test_a_tail_cut_anywhere_loses_only_what_was_cut(size: int) -> None:
    whole = sum(sum(map(len, FRAMES[: count + 1])) <= size for count in range(len(FRAMES)))
    assert scanned(CONTENT[:size]) == (RECORDS[:whole], [])


@given(st.integers(0, len(CONTENT) - 1), st.integers(0, 7))
def test_a_flipped_bit_loses_one_record_and_never_another(place: int, bit: int) -> None:
    damaged = bytearray(CONTENT)
    damaged[place] ^= 1 << bit
    hit = next(index for index in range(len(FRAMES)) if place < sum(map(len, FRAMES[: index + 1])))
    found, damage = scanned(bytes(damaged))
    assert found == [one for index, one in enumerate(RECORDS) if index != hit]
    # in the last frame a wrong length cannot be told from a write that was cut short
    assert damage or hit == len(FRAMES) - 1


@given(st.integers(0, len(CONTENT) - 1), st.integers(0, 7))
def test_who_reads_parts_of_records_passes_over_damage_like_who_reads_all(place: int, bit: int) -> None:
    damaged = bytearray(CONTENT)
    damaged[place] ^= 1 << bit
    everything, all_damage = scanned(bytes(damaged))
    decoders: list[Callable[[bytes], Any]] = [
        head_of,
        decoder_of(frozenset()),
        decoder_of(frozenset(["inputs"])),
    ]
    for decode in decoders:
        damage: list[Damage] = []
        found = [one for some, _ in frames(bytes(damaged), damage, decode) for one in some]
        assert [(one.id, one.at) for one in found] == [(one.id, one.at) for one in everything]
        assert damage == all_damage


@given(st.binary(max_size=200))
def test_rubbish_at_the_end_is_no_record(rubbish: bytes) -> None:
    assert scanned(CONTENT + rubbish)[0] == RECORDS


def test_a_segment_is_left_when_its_time_is_over(tmp_path: Path) -> None:
    writer = LogWriter.claim(tmp_path, segment_s=0.0)
    writer.write(RECORDS[:1])
    writer.write(RECORDS[1:2])
    assert log.may_be_sealed(tmp_path)
    assert len(log.seal(tmp_path)) == 1
    assert not log.may_be_sealed(tmp_path), "a live writer's last segment stays"
    assert log.read(tmp_path)["id"].to_pylist() == [one.id for one in RECORDS[:2]]


def test_zeros_left_by_a_power_cut_are_damage(tmp_path: Path) -> None:
    assert scanned(CONTENT + bytes(4096)) == (RECORDS, [Damage(len(CONTENT), 4096)])


def test_a_record_is_found_by_its_id_and_not_by_its_shadows_word() -> None:
    shadow = record(9, shadow_of=RECORDS[2].id)
    content = _frame(shadow) + CONTENT
    assert find_in(content, RECORDS[2].id) == RECORDS[2]
    assert find_in(content, shadow.id) == shadow
    assert find_in(content, record(3).id) is None


def test_a_frame_with_fields_of_a_later_version_is_read() -> None:
    payload = msgspec.msgpack.encode(
        [*msgspec.msgpack.decode(msgspec.msgpack.encode(RECORDS[0])), "a later field"]
    )
    frame = struct.pack("<II", len(payload), zlib.crc32(payload)) + payload
    assert scanned(frame) == ([RECORDS[0]], [])


def test_a_full_segment_is_left_for_a_new_one(tmp_path: Path) -> None:
    writer = LogWriter.claim(tmp_path, segment_bytes=2 * len(FRAMES[0]) + 10)
    for one in RECORDS:
        writer.write([one])
    sizes = [path.stat().st_size for path in sorted(tmp_path.glob("log/00001/*.log"))]
    assert sizes == [2 * len(FRAMES[0]), 2 * len(FRAMES[0]), len(FRAMES[0])]


def test_writers_have_numbers_of_their_own_also_after_one_has_gone(tmp_path: Path) -> None:
    first, second = LogWriter.claim(tmp_path), LogWriter.claim(tmp_path)
    first.close()
    second.close()
    assert [first.writer, second.writer, LogWriter.claim(tmp_path).writer] == [1, 2, 3]


def test_claims_at_the_same_time_get_different_numbers(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        writers = list(pool.map(LogWriter.claim, [tmp_path] * 40))
    assert sorted(writer.writer for writer in writers) == list(range(1, 41))


def test_a_writer_lives_as_long_as_it_is_not_closed(tmp_path: Path) -> None:
    writer = LogWriter.claim(tmp_path)
    assert is_live(tmp_path, writer.writer)
    assert is_live(tmp_path, writer.writer)  # asking takes nothing away
    writer.close()
    assert not is_live(tmp_path, writer.writer)
    assert not is_live(tmp_path, 77)


def test_a_full_disk_is_an_error_and_leaves_no_half_record(tmp_path: Path) -> None:
    writer = LogWriter.claim(tmp_path)
    writer.write(RECORDS[:1])
    with files_of_at_most(len(FRAMES[0]) + 100), pytest.raises(StorageFailed, match="the disk is full"):
        writer.write(RECORDS[1:2])
    assert scanned(next(tmp_path.glob("log/*/*.log")).read_bytes()) == (RECORDS[:1], [])
    writer.write(RECORDS[2:3])
    assert scanned(next(tmp_path.glob("log/*/*.log")).read_bytes()) == ([RECORDS[0], RECORDS[2]], [])


def test_a_disk_that_takes_nothing_is_an_error(tmp_path: Path) -> None:
    writer = LogWriter.claim(tmp_path)
    with files_of_at_most(0), pytest.raises(StorageFailed, match="cannot be written"):
        writer.write(RECORDS[:1])
    writer.write(RECORDS[:1])
    assert log.read(tmp_path).num_rows == 1


def test_a_home_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a file where the folder belongs")
    with pytest.raises(StorageFailed, match="cannot be written"):
        LogWriter.claim(tmp_path)


def test_a_durable_writer_may_be_synced_after_any_write(tmp_path: Path) -> None:
    writer = LogWriter.claim(tmp_path, segment_bytes=1, is_durable=True)
    writer.sync()
    for one in RECORDS:
        writer.write([one])
        writer.sync()
    writer.close()
    assert log.read(tmp_path)["id"].to_pylist() == [one.id for one in RECORDS]


def test_what_nobody_adds_to_any_more_is_sealed_all_the_same(tmp_path: Path) -> None:
    writer = LogWriter.claim(tmp_path, segment_s=0.0)
    writer.roll()
    assert not list(tmp_path.glob("log/*/*.log")), "nothing was written, nothing is old"
    writer.write(RECORDS[:1])
    writer.roll()
    writer.roll()
    assert len(log.seal(tmp_path)) == 1
    assert log.read(tmp_path)["id"].to_pylist() == [RECORDS[0].id]
    writer.close()
    assert log.seal(tmp_path) == [], "the segment after it is empty and leaves no file"
    assert len(list(tmp_path.glob("log/*/*.*"))) == 1


def test_what_is_whole_and_no_record_is_damage_and_keeps_none_from_being_read() -> None:
    odd = b"\xc0"
    frame = struct.pack("<II", len(odd), zlib.crc32(odd)) + odd
    found, damage = scanned(FRAMES[0] + frame + FRAMES[1])
    assert (found, damage) == (RECORDS[:2], [Damage(len(FRAMES[0]), len(frame))])

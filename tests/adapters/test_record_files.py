"""Framed records and protocol buffers: read whole, and as far as they go when they are damaged."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everloop.adapters.record_files import (
    Damaged,
    Value,
    as_float,
    as_int,
    fields,
    masked_crc32c,
    tensorflow_record_at,
    tensorflow_records,
    wandb_records,
)
from tests.adapters.sources import event_file, message, wandb_file

RECORDS = [b"first", b"x" * 100_000, b"", b"last"]


def test_the_checksum_is_that_of_the_standard() -> None:
    # RFC 3720, appendix B.4: 32 bytes of zeros have 0x8A9136AA, before it is masked
    crc = 0x8A9136AA
    assert masked_crc32c(bytes(32)) == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def test_records_of_wandb_are_joined_over_blocks(tmp_path: Path) -> None:
    problems: list[str] = []
    assert list(wandb_records(wandb_file(tmp_path / "r", RECORDS), problems.append)) == RECORDS
    assert problems == []


def test_what_wandb_did_not_finish_writing_is_told(tmp_path: Path) -> None:
    file = wandb_file(tmp_path / "r", RECORDS[:2])
    file.write_bytes(file.read_bytes()[:-1])
    problems: list[str] = []
    assert list(wandb_records(file, problems.append)) == [b"first"]
    assert problems == ["it ends in the middle of a record"]


def test_after_damage_wandbs_records_begin_again_with_the_next_block(tmp_path: Path) -> None:
    file = wandb_file(tmp_path / "r", [b"%05d" % number + bytes(1000) for number in range(100)])
    data = bytearray(file.read_bytes())
    data[40_000] ^= 1
    file.write_bytes(data)
    problems: list[str] = []
    found = [int(record[:5]) for record in wandb_records(file, problems.append)]
    assert found[-1] == 99
    assert 32 < len(found) < 90
    assert found == sorted(found)
    assert len(problems) == 1


def test_a_file_of_another_kind_is_no_record_file_of_wandb(tmp_path: Path) -> None:
    (tmp_path / "r").write_bytes(b"PK\x03\x04 and more")
    with pytest.raises(Damaged, match="does not begin"):
        list(wandb_records(tmp_path / "r", print))


def test_records_of_tensorflow_are_found_with_their_places(tmp_path: Path) -> None:
    file = event_file(tmp_path / "e", RECORDS)
    found = list(tensorflow_records(file, pytest.fail))
    assert [content for _, content in found] == RECORDS
    assert [tensorflow_record_at(file, place) for place, _ in found] == RECORDS


@pytest.mark.parametrize(
    ("place", "kept", "told"),
    [
        (12, [b"x" * 100_000, b"", b"last"], "damaged at byte 0"),  # in the first content
        (0, [], "what comes after it cannot be found"),  # in the first length
    ],
)
def test_a_damaged_record_of_tensorflow_is_told(
    tmp_path: Path, place: int, kept: list[bytes], told: str
) -> None:
    file = event_file(tmp_path / "e", RECORDS)
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    file.write_bytes(data)
    problems: list[str] = []
    assert [content for _, content in tensorflow_records(file, problems.append)] == kept
    assert told in problems[0]


@pytest.mark.parametrize("missing", [1, 5, 20])
def test_a_file_of_tensorflow_that_was_cut_off_gives_what_is_whole(tmp_path: Path, missing: int) -> None:
    file = event_file(tmp_path / "e", [b"whole", b"not so whole"])
    file.write_bytes(file.read_bytes()[:-missing])
    problems: list[str] = []
    assert [content for _, content in tensorflow_records(file, problems.append)] == [b"whole"]
    assert problems == ["it ends in the middle of a record"]


def test_the_fields_of_a_message_are_read() -> None:
    found = dict(fields(message((1, 150), (2, "text"), (3, 2.5), (4, -1))))
    assert found[1] == 150
    assert found[2] == b"text"
    assert as_float(found[3]) == 2.5
    assert as_int(found[4]) == -1


@given(st.binary(max_size=200))
def test_any_bytes_are_fields_or_damaged(data: bytes) -> None:
    found: list[tuple[int, Value]] = []
    try:
        found += fields(data)
    except Damaged:
        return
    assert all(number >= 0 for number, _ in found)

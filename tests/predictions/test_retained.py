"""What leaves the prediction log: what is kept no longer, and what is erased; and how one is found in what stays."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from everloop.clock import from_micros
from everloop.predictions import LogWriter, PredictionRecord, log, log_key, sealed
from tests.serving.records import T0_US, record

DAY_US = 86_400_000_000


def written(folder: Path, *days: list[PredictionRecord]) -> LogWriter:
    """A segment for each list, the last of them not sealed."""
    writer = LogWriter.claim(folder, segment_bytes=1)
    for one in days:
        writer.write(one)
    log.seal(folder)
    return writer


def on_day(day: int, endpoint: str = "category", **given: Any) -> PredictionRecord:
    return record(at=T0_US + day * DAY_US, endpoint=endpoint, **given)


def test_what_is_older_than_its_endpoint_keeps_goes_when_all_of_a_segment_is(tmp_path: Path) -> None:
    kept = [on_day(0, "price"), on_day(2), on_day(3), on_day(9)]
    gone = [on_day(0), on_day(1)]
    written(tmp_path, [gone[0], kept[0]], [gone[1]], [kept[1], kept[2]], [kept[3]])
    before = {"category": from_micros(T0_US + 2 * DAY_US + 1)}
    would = log.expired(tmp_path, before)
    assert [(one.endpoint, one.span.rows) for one in would] == [("category", 1), ("category", 1)]
    assert log.read(tmp_path).num_rows == 6, "saying what would go removes nothing"
    assert log.expire(tmp_path, before) == would
    assert log.read(tmp_path)["id"].to_pylist() == [one.id for one in kept]
    assert [log.find(tmp_path, one.id) for one in gone] == [None, None]
    assert log.find(tmp_path, kept[0].id) == kept[0]
    assert log.expire(tmp_path, before) == []


def test_a_reader_under_whom_a_segment_is_removed_goes_on(tmp_path: Path) -> None:
    writer = written(tmp_path, [on_day(0)], [on_day(5)])
    reading = log.batches(tmp_path, columns=["id"])
    second = LogWriter.claim(tmp_path, segment_bytes=1)
    second.write([on_day(0)])
    second.write([on_day(0)])
    log.seal(tmp_path)
    next(reading)
    log.expire(tmp_path, {"category": from_micros(T0_US + DAY_US)})
    assert sum(batch.num_rows for batch in reading) == 2
    writer.close()


@pytest.mark.parametrize("by", ["key", "id"])
def test_erased_predictions_are_counted_and_say_nothing_of_anybody_sealed_or_not(
    tmp_path: Path, by: str
) -> None:
    first, other, second = (
        record(key="jo", error="KeyError: jo"),
        record(key="ann"),
        record(key="jo"),
    )
    writer = written(tmp_path, [first, other], [second])
    names = ["jo"] if by == "key" else [first.id, second.id]
    assert log.matching(tmp_path, names) == 2
    assert log.erase(tmp_path, names, log_key(tmp_path)) == {next(log.parts(tmp_path)): 1}

    def check() -> None:
        rows = {row["id"]: row for row in log.read(tmp_path).to_pylist()}
        for one in (first, second):
            assert (rows[one.id]["key"], rows[one.id]["inputs"], rows[one.id]["features"]) == (
                None,
                "{}",
                "{}",
            )
            assert rows[one.id]["output"] == one.output
            found = log.find(tmp_path, one.id)
            assert found is not None
            assert (found.key, found.inputs) == (None, {})
        assert rows[first.id]["error"] == "erased"
        assert log.find(tmp_path, other.id) == other
        assert list(log.batches(tmp_path, keys=["jo"])) == []

    check()
    writer.close()
    again = LogWriter.claim(tmp_path)
    later = record(key="jo", writer=again.writer)
    again.write([later])
    log.seal(tmp_path)
    assert b"jo" not in b"".join(path.read_bytes() for path in log.parts(tmp_path))
    assert log.find(tmp_path, later.id) == later, "what is asked afterwards is not erased"
    again.close()
    log.seal(tmp_path)
    assert log.find(tmp_path, later.id) == later
    assert not (tmp_path / "log" / "erasures.json").exists(), "nothing waits any more"


def test_one_is_found_without_reading_the_other_groups_of_a_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [record(number) for number in range(3 * sealed.GROUP_ROWS)]
    writer = LogWriter.claim(tmp_path)
    writer.write(records)
    writer.close()
    (path,) = log.seal(tmp_path)
    assert pq.read_metadata(path).num_row_groups == 3
    read: list[int] = []
    whole = pq.ParquetFile.read_row_group

    def noted(file: pq.ParquetFile, group: int, **how: Any) -> pa.Table:
        read.append(group)
        return whole(file, group, **how)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", noted)
    wanted = records[sealed.GROUP_ROWS + 5]
    assert log.find(tmp_path, wanted.id) == wanted
    assert set(read) == {1}


def test_a_segment_sealed_before_footers_and_chances_is_read_and_expires(tmp_path: Path) -> None:
    one = on_day(0)
    written(tmp_path, [one], [on_day(9)])
    (path,) = log.parts(tmp_path)
    old = pq.read_table(path).drop_columns(["probability"]).replace_schema_metadata(None)
    pq.write_table(old, path)
    assert log.read(tmp_path)["probability"].to_pylist() == [1.0, 1.0]
    assert log.find(tmp_path, one.id) == one
    assert log.erase(tmp_path, [str(one.key)], log_key(tmp_path)) == {path: 1}
    assert log.read(tmp_path)["probability"].to_pylist() == [1.0, 1.0]
    later = from_micros(T0_US) + timedelta(days=1)
    assert [one.span.rows for one in log.expire(tmp_path, {"category": later})] == [1]

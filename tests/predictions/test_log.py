from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pyarrow as pa
import pytest

from everloop.clock import from_micros
from everloop.errors import Invalid, StorageFailed
from everloop.ids import milliseconds_of
from everloop.predictions import PredictionRecord, log, tables
from everloop.predictions.segments import LogWriter, _frame
from everloop.predictions.tables import SCHEMA
from tests.serving.records import T0_US, files_of_at_most, record

START = from_micros(T0_US)


def write(folder: Path, records: list[PredictionRecord], *, segment_bytes: int = 1 << 20) -> LogWriter:
    writer = LogWriter.claim(folder, segment_bytes=segment_bytes)
    for one in records:
        writer.write([one])
    return writer


def ids(table: pa.Table) -> list[Any]:
    return table["id"].to_pylist()


def segments(folder: Path, suffix: str) -> list[Path]:
    return sorted(folder.glob(f"log/*/*{suffix}"))


@pytest.fixture(params=["live", "sealed"])
def filled(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Ten records, every third of another endpoint, still in segments or sealed."""
    records = [record(number, endpoint="price" if number % 3 == 0 else "category") for number in range(10)]
    write(tmp_path, records, segment_bytes=1000).close()
    if request.param == "sealed":
        log.seal(tmp_path)
    return tmp_path


def test_reads_all_that_was_logged_in_the_stated_schema(filled: Path) -> None:
    table = log.read(filled)
    assert table.schema.equals(SCHEMA)
    assert table["key"].to_pylist() == [str(number) for number in range(10)]


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        ({"endpoint": "price"}, [0, 3, 6, 9]),
        ({"start": START + timedelta(microseconds=8)}, [8, 9]),
        ({"end": START + timedelta(microseconds=2)}, [0, 1]),
        (
            {
                "endpoint": "price",
                "start": START + timedelta(microseconds=3),
                "end": START + timedelta(microseconds=6),
            },
            [3],
        ),
        ({"endpoint": "none"}, []),
    ],
)
def test_filters_by_endpoint_and_domain_time(
    filled: Path, wanted: dict[str, Any], numbers: list[int]
) -> None:
    table = log.read(filled, columns=["key"], **wanted)
    assert table.schema.names == ["key"]
    assert table["key"].to_pylist() == [str(number) for number in numbers]


def test_filters_by_key(filled: Path) -> None:
    found = pa.Table.from_batches(log.batches(filled, endpoint="category", keys=["4", "3", "7"]))
    assert found["key"].to_pylist() == ["4", "7"]


@pytest.mark.parametrize("columns", [None, ["inputs"], ["id", "output"]])
def test_a_sample_is_the_same_live_and_sealed(tmp_path: Path, columns: list[str] | None) -> None:
    records = [record(number, release="rel_b" if number % 4 else "rel_a") for number in range(600)]
    write(tmp_path, records).close()

    def sample() -> list[dict[str, Any]]:
        chances = {"rel_a": 1.0, "rel_b": 0.25}
        return log.read(tmp_path, columns=columns, chances=lambda release: chances[release]).to_pylist()

    live = sample()
    log.seal(tmp_path)
    assert sample() == live
    assert list(live[0]) == (columns or SCHEMA.names)
    if columns is None:
        drawn = [one["release"] for one in live]
        assert drawn.count("rel_a") == 150, "each release has a chance of its own"
        assert 60 < drawn.count("rel_b") < 165


def test_what_is_not_in_a_sample_is_not_unpacked(tmp_path: Path) -> None:
    write(tmp_path, [record(inputs={"title": msgspec.msgpack.Ext(1, b"no JSON")})]).close()
    assert log.read(tmp_path, chances=lambda _release: 1e-9).num_rows == 0
    with pytest.raises(TypeError, match="Ext"):
        log.read(tmp_path)


@pytest.mark.parametrize("sealed", [False, True])
def test_tallies_say_what_records_say(tmp_path: Path, sealed: bool) -> None:
    records = [
        record(
            number, version=1 + number % 2, latency_us=number, shadow_of="pred_1" if number % 5 == 0 else None
        )
        for number in range(1_200)
    ]
    write(tmp_path, records).close()
    if sealed:
        log.seal(tmp_path)
    end = from_micros(T0_US + 1_100)
    one = log.Tally.joined(list(log.tallies(tmp_path, by=["model", "version"], start=START, end=end)))
    told = [
        (*one.kinds[kind], at, latency)
        for kind, at, latency in zip(one.kind, one.at_us, one.latency_us, strict=True)
    ]
    own = [one for one in records[:1_100] if one.shadow_of is None]
    assert told == [(one.model, one.version, one.at, one.latency_us) for one in own]
    assert len(one.kinds) == 2


def test_an_unknown_column_is_named(filled: Path) -> None:
    with pytest.raises(Invalid, match="no columns"):
        log.read(filled, columns=["price"])


def test_an_empty_home_has_an_empty_log(tmp_path: Path) -> None:
    assert log.read(tmp_path).schema.equals(SCHEMA)
    assert log.find(tmp_path, record().id) is None
    assert log.seal(tmp_path) == []


@pytest.mark.parametrize("output", ["Fridges", 12.5, None])
def test_a_record_is_found_as_it_was_written(tmp_path: Path, output: str | float | None) -> None:
    written = [
        record(number, output=output, features={"v": (1.5, T0_US), "w": ("x", None)}) for number in range(40)
    ]
    write(tmp_path, written, segment_bytes=3000).close()
    for _ in ("live", "sealed"):
        assert [log.find(tmp_path, one.id) for one in written] == written
        log.seal(tmp_path)


@pytest.mark.parametrize("segment_bytes", [1, 600, 900])
def test_a_slow_answer_is_found_behind_later_ones(tmp_path: Path, segment_bytes: int) -> None:
    """It was asked before the others and is written after them: into whichever segment comes then."""
    slow = record(0)
    until = time.monotonic() + 0.003
    others = [record(1)]
    while time.monotonic() < until:
        others = [*others[-8:], record(1)]
    written = [*others, slow, record(2)]
    write(tmp_path, written, segment_bytes=segment_bytes).close()
    assert [log.find(tmp_path, one.id) for one in written] == written


def test_a_record_is_found_before_a_segment_begun_in_its_millisecond(tmp_path: Path) -> None:
    one, other = record(0), record(1)
    made_ms = milliseconds_of(one.id)
    LogWriter.claim(tmp_path).close()
    for number, held in ((made_ms - 1, one), (made_ms, other)):
        (tmp_path / "log" / "00001" / f"{number}.log").write_bytes(_frame(held))
    assert log.find(tmp_path, one.id) == one


def test_only_a_predictions_id_is_looked_for(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="is not a prediction's id"):
        log.find(tmp_path, "run_" + "0" * 32)
    with pytest.raises(Invalid, match="is not a prediction's id"):
        log.find(tmp_path, "../../etc/passwd")


def test_finding_opens_only_the_writer_and_time_of_the_id(tmp_path: Path) -> None:
    written = [record(number) for number in range(20)]
    write(tmp_path, written, segment_bytes=1).close()
    found = segments(tmp_path, ".log")
    for path in found[:10]:
        path.write_bytes(b"")  # whoever opened them all would not notice; whoever needs them does
    assert log.find(tmp_path, written[15].id) == written[15]
    assert log.find(tmp_path, written[3].id) is None


def test_seals_what_is_finished_and_leaves_a_live_writers_last_segment(tmp_path: Path) -> None:
    writer = write(tmp_path, [record(number) for number in range(6)], segment_bytes=1000)
    before = ids(log.read(tmp_path))
    log.seal(tmp_path)
    assert len(segments(tmp_path, ".log")) == 1
    assert ids(log.read(tmp_path)) == before
    writer.write([record(9)])
    writer.close()
    log.seal(tmp_path)
    assert segments(tmp_path, ".log") == []
    assert ids(log.read(tmp_path))[:-1] == before


def test_sealing_again_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path, [record(number) for number in range(6)], segment_bytes=1000).close()
    sealed = log.seal(tmp_path)
    content = [path.read_bytes() for path in sealed]
    assert log.seal(tmp_path) == []
    assert [path.read_bytes() for path in sealed] == content


def test_a_seal_killed_before_it_removed_the_segment_counts_nothing_twice(tmp_path: Path) -> None:
    write(tmp_path, [record(number) for number in range(3)]).close()
    segment = segments(tmp_path, ".log")[0]
    content, before = segment.read_bytes(), ids(log.read(tmp_path))
    log.seal(tmp_path)
    segment.write_bytes(content)
    assert ids(log.read(tmp_path)) == before
    log.seal(tmp_path)
    assert not segment.exists()


def test_a_seal_killed_while_it_wrote_leaves_only_rubbish_beside(tmp_path: Path) -> None:
    write(tmp_path, [record(number) for number in range(3)]).close()
    segment = segments(tmp_path, ".log")[0]
    (segment.parent / f".{segment.stem}.parquet.abc").write_bytes(b"half a file")
    assert log.read(tmp_path).num_rows == 3
    log.seal(tmp_path)
    assert log.read(tmp_path).num_rows == 3


def test_a_seal_that_finds_no_space_loses_nothing(tmp_path: Path) -> None:
    write(tmp_path, [record(number) for number in range(3)]).close()
    with files_of_at_most(500), pytest.raises(StorageFailed, match="Nothing is lost"):
        log.seal(tmp_path)
    assert log.read(tmp_path).num_rows == 3
    assert [path.suffix for path in sorted(tmp_path.glob("log/*/*")) if path.name != "lock"] == [".log"]


def test_a_reader_goes_on_in_the_parquet_file_of_a_segment_sealed_under_it(tmp_path: Path) -> None:
    written = [record(number) for number in range(6)]
    write(tmp_path, written, segment_bytes=1).close()
    reading = log.batches(tmp_path, columns=["id"])
    first = next(reading)  # the segments were listed by now
    log.seal(tmp_path)
    found = pa.Table.from_batches([first, *reading])
    assert ids(found) == [one.id for one in written]


def test_a_damaged_segment_is_kept_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, [record(number) for number in range(3)]).close()
    segment = segments(tmp_path, ".log")[0]
    content = bytearray(segment.read_bytes())
    content[40] ^= 1
    segment.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        log.seal(tmp_path)
    assert "are damaged and were skipped" in caplog.text
    assert log.read(tmp_path)["key"].to_pylist() == ["1", "2"]
    assert segment.with_suffix(".damaged").read_bytes() == bytes(content)


def test_readers_see_each_record_once_while_others_write_and_seal(tmp_path: Path) -> None:
    """Two processes seal at once while this one writes small segments and reads without pause."""
    sealing = (
        "import sys, time; from pathlib import Path; from everloop.predictions import seal\n"
        "while not (Path(sys.argv[1]) / 'done').exists(): seal(Path(sys.argv[1])); time.sleep(0.01)"
    )
    sealers = [
        subprocess.Popen([sys.executable, "-c", sealing, tmp_path], stderr=subprocess.PIPE) for _ in range(2)
    ]
    writer = LogWriter.claim(tmp_path, segment_bytes=8000)
    written: list[str] = []
    stopped = threading.Event()

    def keep_writing() -> None:
        while not stopped.is_set() and len(written) < 1500:
            one = record(len(written))
            writer.write([one])
            written.append(one.id)

    thread = threading.Thread(target=keep_writing)
    thread.start()
    try:
        for _ in range(20):
            known = list(written)
            found = ids(log.read(tmp_path, columns=["id"]))
            assert len(found) == len(set(found))
            assert set(known) <= set(found)
    finally:
        stopped.set()
        thread.join()
        (tmp_path / "done").touch()
        errors = [sealer.communicate()[1] for sealer in sealers]
    assert errors == [b"", b""]
    writer.close()
    log.seal(tmp_path)
    assert ids(log.read(tmp_path)) == written
    assert segments(tmp_path, ".log") == []


def test_several_writers_are_read_together(tmp_path: Path) -> None:
    first, second = LogWriter.claim(tmp_path), LogWriter.claim(tmp_path)
    written = [
        record(0, writer=first.writer),
        record(1, writer=second.writer),
        record(2, writer=first.writer),
    ]
    first.write([written[0], written[2]])
    second.write([written[1]])
    assert log.read(tmp_path).sort_by("id")["key"].to_pylist() == ["0", "1", "2"]
    assert [log.find(tmp_path, one.id) for one in written] == written


def test_a_large_window_comes_in_batches(tmp_path: Path) -> None:
    writer = LogWriter.claim(tmp_path)
    writer.write([record(number) for number in range(9_000)])
    for state in ("live", "sealed"):
        sizes = [batch.num_rows for batch in log.batches(tmp_path, columns=["id"])]
        assert sum(sizes) == 9_000
        assert max(sizes) <= 8_192
        if state == "live":
            writer.close()
            log.seal(tmp_path)


def test_inputs_unpack_into_typed_columns(filled: Path) -> None:
    table = log.read(filled)
    inputs = tables.unpack(table["inputs"], {"merchant_id": pa.int64(), "colour": pa.string()})
    assert inputs.to_pylist() == [{"merchant_id": number, "colour": None} for number in range(10)]
    scores = tables.unpack(table["scores"], {"Freezers": pa.float64()})
    assert scores["Freezers"].to_pylist() == [0.25] * 10


def test_inputs_of_another_type_are_said(filled: Path) -> None:
    with pytest.raises(Invalid, match="Leave refused records out"):
        tables.unpack(log.read(filled)["inputs"], {"title": pa.int64()})
    assert tables.unpack(pa.array([], pa.string()), {"title": pa.string()}).num_rows == 0


def test_duckdb_asks_the_log_directly(filled: Path) -> None:
    database = duckdb.connect()
    database.register("predictions", log.read(filled))
    counted = database.execute(
        "select endpoint, count(*) from predictions group by all order by all"
    ).fetchall()
    assert counted == [("category", 6), ("price", 4)]


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("name", SCHEMA.names)
def test_one_column_alone_is_read_as_among_all(tmp_path: Path, name: str, sealed: bool) -> None:
    records = [
        record(1),
        record(2, output=1.5, scores={}, features={"volume": (3, None)}),
        record(3, status="refused", output=None, error="title is missing", inputs={"odd": [1, {"a": None}]}),
    ]
    write(tmp_path, records).close()
    if sealed:
        log.seal(tmp_path)
    assert log.read(tmp_path, columns=[name])[name].to_pylist() == log.read(tmp_path)[name].to_pylist()
    assert log.read(tmp_path).to_pylist() == tables.to_batch(records).to_pylist()


def read_on(folder: Path, known: dict[str, int], start: int, end: int) -> tuple[list[str], dict[str, int]]:
    """Keys of what was at second `start` to `end`, and what the next reader passes by."""
    first, last = (START + timedelta(seconds=one) for one in (start, end))
    passed = log.Passed(known, until=last)
    found = [
        str(key)
        for batch in log.batches(folder, start=first, end=last, columns=["key"], passed=passed)
        for key in batch["key"].to_pylist()
    ]
    return found, passed.found


def at_s(second: int, **given: Any) -> PredictionRecord:
    return record(second, at=T0_US + second * 1_000_000, key=str(second), **given)


def test_a_reader_who_comes_again_finds_each_record_once_and_reads_no_byte_twice(tmp_path: Path) -> None:
    writers = [LogWriter.claim(tmp_path) for _ in range(2)]
    for second in (1, 2, 3):
        writers[second % 2].write([at_s(second)])
    first, passed = read_on(tmp_path, {}, 0, 10)
    for path in segments(tmp_path, ".log"):  # what was passed by is not looked at again
        assert passed[f"{path.parent.name}/{path.stem}"] == path.stat().st_size
        content = path.read_bytes()
        path.write_bytes(b"\0" * len(content))
    writers[0].write([at_s(11)])
    writers[1].write([at_s(12)])
    later, passed = read_on(tmp_path, passed, 10, 20)
    assert (sorted(first), sorted(later)) == (["1", "2", "3"], ["11", "12"])
    assert read_on(tmp_path, passed, 20, 30)[0] == []


def test_what_is_later_than_the_reader_asks_is_not_passed_by(tmp_path: Path) -> None:
    writer = LogWriter.claim(tmp_path)
    writer.write(
        [at_s(1), at_s(15), at_s(2)]
    )  # times may be given, and requests end in another order than they came
    first, passed = read_on(tmp_path, {}, 0, 10)
    writer.write([at_s(16), at_s(12)])
    second, passed = read_on(tmp_path, passed, 10, 20)
    assert (first, second) == (["1", "2"], ["15", "16", "12"])
    writer.close()
    log.seal(tmp_path)
    assert read_on(tmp_path, passed, 10, 20)[0] == second


def test_a_frame_that_was_torn_or_cut_off_again_is_read_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "log" / "00001" / "1757000000000.log"
    path.parent.mkdir(parents=True)
    whole = _frame(at_s(1)) + _frame(at_s(11))
    path.write_bytes(whole[:-5])
    first, passed = read_on(tmp_path, {}, 0, 10)
    path.write_bytes(whole)
    assert (first, read_on(tmp_path, passed, 10, 20)[0]) == (["1"], ["11"])
    path.write_bytes(_frame(at_s(12, inputs={"title": 500 * "a"})))  # no frame begins where one did
    assert read_on(tmp_path, passed, 10, 20)[0] == ["12"]


def test_sealed_segments_that_were_passed_by_are_not_opened_again(tmp_path: Path) -> None:
    writer = LogWriter.claim(tmp_path)
    for second in (1, 2, 15, 3):
        writer.write([at_s(second)])
        writer._next_segment()
    log.seal(tmp_path)
    first, passed = read_on(tmp_path, {}, 0, 10)
    for path in segments(tmp_path, ".parquet")[:2]:
        path.write_bytes(b"no Parquet")
    later, passed = read_on(tmp_path, passed, 10, 20)
    assert (first, later) == (["1", "2", "3"], ["15"])
    assert passed["00001"] == int(segments(tmp_path, ".parquet")[-1].stem)

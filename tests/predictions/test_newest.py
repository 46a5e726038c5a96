"""The newest predictions that fit, over live and sealed segments of several processes."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from everloop.clock import from_micros
from everloop.errors import Invalid
from everloop.predictions import PredictionRecord, PredictionSearch, log, newest_predictions
from everloop.predictions.segments import LogWriter, _frame
from tests.serving.records import T0_US, record

EVERY = PredictionSearch()


@dataclass(frozen=True)
class Log:
    """A log, and what was written to it, the newest first."""

    folder: Path
    every: list[PredictionRecord]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """900 predictions by three processes, two of them alive: a part is sealed, a part is not."""
    folder = tmp_path_factory.mktemp("home") / "serving"
    writers = [LogWriter.claim(folder, segment_bytes=8_000) for _ in range(3)]
    chance = random.Random(5)  # noqa: S311  (made-up traffic)
    every: list[PredictionRecord] = []
    for number in range(900):
        writer = chance.choice(writers)
        every.insert(0, told(number, writer.writer, chance))
        writer.write(every[:1])
        if number == 600:
            log.seal(folder)
        if number == 700:
            writers.pop(0).close()
    return Log(folder, every)


def told(number: int, writer: int, chance: random.Random) -> PredictionRecord:
    given: dict[str, Any] = {
        "version": 1 + (number > 450),
        "endpoint": chance.choice(["category", "price"]),
        "latency_us": chance.randrange(100, 9_000),
        "replay": chance.random() < 0.1,
        "shadow_of": "pred_1" if chance.random() < 0.1 else None,
    }
    if chance.random() < 0.1:
        given |= {"status": "failed", "output": None, "scores": {}, "error": "model_failed"}
    else:
        best = chance.choice(["Fridges", "Freezers"])
        given |= {"output": best, "scores": {best: chance.uniform(0.5, 1)}}
    return record(number, writer=writer, **given)


def hour(number: int) -> Any:
    return from_micros(T0_US) + timedelta(microseconds=number)


@pytest.mark.parametrize(
    "search",
    [
        EVERY,
        PredictionSearch(endpoint="price"),
        PredictionSearch(version=1),
        PredictionSearch(status="failed"),
        PredictionSearch(output="Freezers", score_below=0.6),
        PredictionSearch(key="333"),
        PredictionSearch(text="TITLE 12"),
        PredictionSearch(slower_than_ms=8.5),
        PredictionSearch(kind="shadow"),
        PredictionSearch(kind="replay", endpoint="category"),
        PredictionSearch(kind="live", status="ok"),
        PredictionSearch(start=hour(100), end=hour(300)),
        PredictionSearch(variant="canary"),
    ],
)
def test_page_by_page_what_fits_is_found_once_newest_first(written: Log, search: PredictionSearch) -> None:
    wanted = [one.id for one in written.every if search.fits(one)]
    found: list[str] = []
    before = None
    for _ in range(len(wanted) + 2):
        page = newest_predictions(written.folder, search, limit=37, before=before, is_simulation=True)
        found += [one.id for one in page.records]
        before = page.before
        if before is None:
            break
    assert found == wanted
    assert before is None


def test_a_record_is_found_as_it_was_written(written: Log) -> None:
    page = newest_predictions(written.folder, EVERY, limit=900)
    assert page.records == written.every


def test_some_ids_alone(written: Log) -> None:
    some = frozenset(one.id for one in written.every[::97])
    page = newest_predictions(written.folder, PredictionSearch(ids=some), limit=50)
    assert [one.id for one in page.records] == sorted(some, reverse=True)
    assert not newest_predictions(written.folder, PredictionSearch(ids=frozenset()), limit=50).records


def test_a_look_is_bounded_and_goes_on_where_it_ended(written: Log) -> None:
    rare = PredictionSearch(key="3")
    before, looks = None, 0
    while True:
        page = newest_predictions(written.folder, rare, limit=5, before=before, most_effort=50)
        looks += 1
        if page.records or page.before is None:
            break
        assert before is None or page.before < before
        before = page.before
    assert [one.key for one in page.records] == ["3"]


def test_outside_a_simulation_a_time_leads_to_its_segments(tmp_path: Path) -> None:
    folder = tmp_path / "serving"
    (folder / "log/00001").mkdir(parents=True)
    made = []
    for day in range(20):
        at_ms = T0_US // 1_000 + day * 86_400_000
        made.append(record(id=f"pred_{at_ms << 80:032x}", at=at_ms * 1_000))
        (folder / f"log/00001/{at_ms - 1}.log").write_bytes(_frame(made[-1]))
    span = PredictionSearch(start=from_micros(made[7].at), end=from_micros(made[9].at))
    page = newest_predictions(folder, span, limit=50)
    assert page.records == [made[8], made[7]]
    assert page.looked_at < 5
    assert page.before is None


def test_slow_answers_and_requests_of_several_rows_stand_where_their_ids_belong(tmp_path: Path) -> None:
    """They are written when the slowest row is answered: behind requests that were made later."""
    chance = random.Random(8)  # noqa: S311  (made-up traffic)
    writes: list[tuple[int, list[PredictionRecord]]] = []
    for number in range(1_500):
        made_ms = T0_US // 1_000 + chance.randrange(60_000)
        latencies_ms = [chance.choice([3, 40, 5_000]) for _ in range(chance.choice([1, 1, 2]))]
        rows = [
            record(
                id=f"pred_{made_ms << 80 | 2 * number + row:032x}",
                latency_us=latency_ms * 1_000,
                request=f"req_{number}" if len(latencies_ms) > 1 else None,
            )
            for row, latency_ms in enumerate(latencies_ms)
        ]
        writes.append((made_ms + max(latencies_ms), rows))
    in_order = [one for _, rows in sorted(writes, key=lambda one: one[0]) for one in rows]
    (tmp_path / "serving/log/00001").mkdir(parents=True)
    (tmp_path / f"serving/log/00001/{T0_US // 1_000}.log").write_bytes(b"".join(map(_frame, in_order)))
    found: list[str] = []
    page = newest_predictions(tmp_path / "serving", EVERY, limit=61)
    while page.before is not None:
        found += [one.id for one in page.records]
        page = newest_predictions(tmp_path / "serving", EVERY, limit=61, before=page.before)
    found += [one.id for one in page.records]
    assert found == sorted((one.id for one in in_order), reverse=True)


def test_sealing_meanwhile_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "serving"
    with_many = LogWriter.claim(folder, segment_bytes=4_000)
    made = [record(number) for number in range(200)]
    for one in made:
        with_many.write([one])
    first = newest_predictions(folder, EVERY, limit=30)
    log.seal(folder)
    second = newest_predictions(folder, EVERY, limit=30, before=first.before)
    assert [*first.records, *second.records] == made[::-1][:60]
    with_many.close()


def test_a_torn_tail_and_damage_are_passed_over(tmp_path: Path) -> None:
    folder = tmp_path / "serving"
    writer = LogWriter.claim(folder)
    made = [record(number) for number in range(5)]
    for one in made:
        writer.write([one])
    (segment,) = folder.glob("log/*/*.log")
    content = bytearray(segment.read_bytes())
    content[content.find(b"title 2") + 1] ^= 0xFF
    segment.write_bytes(bytes(content) + bytes(content[:50]))
    found = newest_predictions(folder, EVERY, limit=9).records
    assert [one.key for one in found] == ["4", "3", "1", "0"]
    writer.close()


def test_nothing_was_asked_yet(tmp_path: Path) -> None:
    folder = tmp_path / "serving"
    assert newest_predictions(folder, EVERY, limit=5).before is None
    LogWriter.claim(folder).close()
    page = newest_predictions(folder, EVERY, limit=5)
    assert (page.records, page.before) == ([], None)


def test_what_is_no_id_is_refused(written: Log) -> None:
    with pytest.raises(Invalid, match="it is the id of a prediction"):
        newest_predictions(written.folder, EVERY, limit=5, before="run_1")

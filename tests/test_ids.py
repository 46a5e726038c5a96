from __future__ import annotations

import threading
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everloop import clock, ids
from everloop.errors import Invalid


def test_ids_rise_within_a_process_even_when_made_at_once() -> None:
    made = [ids.new_id("run") for _ in range(5_000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_ids_from_many_threads_differ() -> None:
    made: list[str] = []
    threads = [
        threading.Thread(target=lambda: made.extend(ids.new_id("job") for _ in range(2_000)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 8_000


def test_an_id_is_a_uuid_version_7_behind_its_prefix() -> None:
    made = ids.new_id("mv")
    assert ids.prefix_of(made) == "mv"
    parsed = uuid.UUID(made.removeprefix("mv_"))
    assert parsed.version == 7
    assert parsed.variant == uuid.RFC_4122


def test_an_id_tells_when_it_was_made() -> None:
    before = clock.wall_ns() // 1_000_000
    made = ids.milliseconds_of(ids.new_id("run"))
    assert before <= made <= clock.wall_ns() // 1_000_000 + 1


@given(st.integers(min_value=0, max_value=2**ids.WRITER_BITS - 1))
def test_a_prediction_id_carries_its_writers_number(writer: int) -> None:
    assert ids.writer_of(ids.new_prediction_id(writer)) == writer


@pytest.mark.parametrize(
    "text", ["", "run", "run_123", "run_" + "g" * 32, "../run_" + "0" * 32, "RUN_" + "0" * 32]
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="not an everloop id"):
        ids.prefix_of(text)

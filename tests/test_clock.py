from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everloop import clock
from everloop.clock import SimulatedClock, SystemClock, from_micros, parse_moment, parse_time, to_micros
from everloop.errors import Invalid

START = datetime(2026, 9, 1, tzinfo=UTC)


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2200, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001  (hypothesis wants naive bounds)
def test_micros_round_trip_exactly(at: datetime) -> None:
    assert from_micros(to_micros(at)) == at


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(Invalid, match="no time zone"):
        to_micros(datetime(2026, 9, 1))  # noqa: DTZ001  (the mistake under test)


@pytest.mark.parametrize("text", ["yesterday", "2026-09-01", "2026-09-01T12:00:00", "", "12:00Z"])
def test_a_time_that_is_not_whole_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="2026-09-01T12:00:00Z"):
        parse_time(text)


@pytest.mark.parametrize(
    ("text", "is_end", "expected"),
    [
        ("2026-12-24", True, datetime(2026, 12, 25, tzinfo=UTC)),
        ("2026-12-24", False, datetime(2026, 12, 24, tzinfo=UTC)),
        ("2026-12-24T06:00:00+02:00", True, datetime(2026, 12, 24, 4, tzinfo=UTC)),
    ],
)
def test_a_person_may_give_a_day(text: str, is_end: bool, expected: datetime) -> None:
    assert parse_moment(text, is_end=is_end) == expected


@pytest.mark.parametrize("text", ["2026-12-32", "tomorrow", "2026-12-24T12:00"])
def test_a_day_that_does_not_exist_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="2026-09-01T12:00:00Z"):
        parse_moment(text)


def test_the_system_clock_is_the_wall_clock() -> None:
    assert abs(SystemClock().now() - clock.wall()) < timedelta(seconds=5)


def test_simulated_time_stands_still_until_moved(tmp_path: Path) -> None:
    simulated = SimulatedClock.create(tmp_path / "clock", at=START)
    assert simulated.now() == START
    simulated.advance(timedelta(days=2))
    assert simulated.now() == START + timedelta(days=2)


def test_simulated_time_never_goes_back(tmp_path: Path) -> None:
    simulated = SimulatedClock.create(tmp_path / "clock", at=START)
    with pytest.raises(Invalid, match="cannot go back"):
        simulated.set(START - timedelta(seconds=1))


def test_another_process_sees_simulated_time_move_at_once(tmp_path: Path) -> None:
    simulated = SimulatedClock.create(tmp_path / "clock", at=START)
    reader = (
        "import sys; from pathlib import Path; from everloop.clock import SimulatedClock\n"
        "c = SimulatedClock(Path(sys.argv[1]))\n"
        "for _ in sys.stdin: print(c.now().isoformat(), flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", reader, str(tmp_path / "clock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        for days in (1, 2):
            simulated.set(START + timedelta(days=days))
            child.stdin.write("now\n")
            child.stdin.flush()
            assert child.stdout.readline().strip() == simulated.now().isoformat()
        child.stdin.close()

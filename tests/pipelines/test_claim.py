"""Locks of runners, whose folders come and go."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from everloop.errors import StorageFailed
from everloop.pipelines.claim import claimed, here, is_dead


def test_only_one_has_a_folder_though_it_is_made_and_removed_all_the_time(tmp_path: Path) -> None:
    inside, together = threading.Semaphore(1), 0

    def claim(_: int) -> bool:
        nonlocal together
        with claimed(tmp_path / "runs" / "run_1" / "1") as is_ours:
            if is_ours:
                alone = inside.acquire(blocking=False)
                together += not alone
                assert not is_dead(here(), tmp_path / "runs" / "run_1" / "1")
                inside.release()
        return is_ours

    with ThreadPoolExecutor(4) as threads:
        had = list(threads.map(claim, range(2_000)))
    assert together == 0
    assert any(had)
    assert not (tmp_path / "runs" / "run_1").exists()


def test_what_dead_runners_left_is_removed_and_what_the_living_have_is_not(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "fit-1.log").write_text("printed by a process that was killed")
    with claimed(tmp_path / "2") as is_ours, claimed(tmp_path / "3") as is_ours_too:
        assert is_ours
        assert is_ours_too
        with claimed(tmp_path / "4"):
            pass
        assert sorted(one.name for one in tmp_path.iterdir()) == ["2", "3"]


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with (
        pytest.raises(StorageFailed, match="cannot be written: Not a directory"),
        claimed(tmp_path / "runs/1"),
    ):
        pass


def test_a_living_worker_with_another_home_on_this_machine_is_not_taken_for_dead(tmp_path: Path) -> None:
    host = here().rpartition(":")[0]
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert not is_dead(f"{host}:{os.getppid()}", tmp_path / "not in this home")
    assert is_dead(f"{host}:{ended.pid}", tmp_path / "not in this home")
    assert not is_dead(f"another-{host}:{ended.pid}", tmp_path / "not in this home")

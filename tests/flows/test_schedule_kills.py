"""Processes that look for due schedules are killed at random moments; every instant still puts exactly one job."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from everloop import jobs
from everloop.clock import SimulatedClock
from everloop.jobs import CatchUp
from everloop.workspace import Workspace
from tests.flows.running import wait_for

SCHEDULES, MINUTES, TICKERS = 20, 60, 3
PROGRAM = """
import sys, time
from everloop import jobs
from everloop.settings import load_settings
from everloop.workspace import open_workspace

ws = open_workspace(settings=load_settings(sys.argv[1], database_url=sys.argv[2] or None))
print("ready", flush=True)
while True:
    if jobs.schedules_due(ws):
        jobs.fire_due(ws)
    time.sleep(0.005)
"""


@pytest.mark.slow
def test_every_instant_fires_once_though_those_who_look_are_killed(any_ws: Workspace) -> None:
    ws = any_ws
    for number in range(SCHEDULES):
        schedule(ws, f"s{number}")
    chance = random.Random(7)  # noqa: S311  (moments of kills, not secrets)
    with ExitStack() as stack:
        tickers = [stack.enter_context(started(ws)) for _ in range(TICKERS)]
        for ticker in tickers:
            assert ticker.stdout is not None
            ticker.stdout.readline()
        for minute in range(MINUTES):
            assert isinstance(ws.clock, SimulatedClock)
            ws.clock.advance(timedelta(minutes=1))
            threading.Event().wait(chance.uniform(0, 0.05))
            if minute % 6 == 5:  # while the others go on, and the one that takes its place
                victim = chance.randrange(TICKERS)
                tickers[victim].send_signal(signal.SIGKILL)
                tickers[victim].wait()
                tickers[victim] = stack.enter_context(started(ws))
        wait_for(lambda: not jobs.schedules_due(ws), "all instants have fired")
        for ticker in tickers:
            ticker.send_signal(signal.SIGKILL)
    put = jobs.jobs_of(ws, limit=10_000)
    fired = Counter(job.reason for job in put)
    assert set(fired.values()) == {1}
    assert len(put) == SCHEDULES * MINUTES


def schedule(ws: Workspace, name: str) -> None:
    ws.write(
        lambda tx: jobs.schedule(
            ws, tx, name, cron="* * * * *", kind="work", payload={}, catch_up=CatchUp("all", 100)
        )
    )


def started(ws: Workspace) -> subprocess.Popen[str]:
    url = ws.settings.database_url
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(Path(ws.home).absolute()), url], stdout=subprocess.PIPE, text=True
    )

"""Workers are killed at random moments; every job still ends exactly once."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from everloop import jobs
from everloop.workspace import Workspace

JOBS = 40
PROGRAM = """
import sys, sqlalchemy as sa
from everloop import jobs
from everloop.settings import load_settings
from everloop.workspace import open_workspace

ws = open_workspace(settings=load_settings(sys.argv[1], database_url=sys.argv[2] or None))

def work(ws, lease):
    def change(tx):
        jobs.hold(tx, lease)
        tx.execute(sa.text("INSERT INTO effect VALUES (:job, :token)"), {"job": lease.job.id, "token": lease.token})
    ws.write(change)

print("ready", flush=True)
worker = jobs.Worker(ws, {"work": work}, lease_s=0.3)
while True:
    worker.run_until_idle()
"""


@pytest.mark.slow
def test_workers_killed_at_random_lose_no_job_and_keep_each_result_under_one_token(any_ws: Workspace) -> None:
    ws = any_ws
    ws.write(lambda tx: tx.execute(sa.text("CREATE TABLE effect (job TEXT, token INT)")))
    ids = [
        ws.write(lambda tx: jobs.put(ws, tx, "work", {}, reason="test", max_attempts=1000))
        for _ in range(JOBS)
    ]
    chance = random.Random(7)  # noqa: S311  (moments of kills, not secrets)
    for _ in range(200):
        if all(job.state == "done" for job in jobs.jobs_of(ws, limit=JOBS)):
            break
        with worker_process(ws) as child:
            assert child.stdout is not None
            child.stdout.readline()
            try:
                child.wait(chance.uniform(0.02, 0.5))
            except subprocess.TimeoutExpired:
                child.send_signal(signal.SIGKILL)
    ended = {job.id: job for job in jobs.jobs_of(ws, limit=JOBS)}
    assert sorted(ended) == sorted(ids)
    assert {job.state for job in ended.values()} == {"done"}
    with ws.read() as connection:
        effects = connection.execute(
            sa.text("SELECT job, max(token) AS token FROM effect GROUP BY job")
        ).all()
    assert {row.job for row in effects} == set(ids)
    assert all(ended[row.job].token >= row.token for row in effects)


def worker_process(ws: Workspace) -> subprocess.Popen[str]:
    url = ws.settings.database_url
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(Path(ws.home).absolute()), url], stdout=subprocess.PIPE, text=True
    )

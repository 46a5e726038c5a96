"""Triggers that wait for something: what fires them, once, with what, and how they settle first."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from everloop import data, events, governance, jobs, ledger, loop, pipelines, retraining, triggers
from everloop.errors import Conflict, Invalid
from everloop.retraining import Called, Found
from everloop.triggers import Trigger
from everloop.triggers.consider import decide
from everloop.triggers.records import Waiting
from everloop.workspace import Workspace
from tests.loop.living import Shop
from tests.triggers.made_up import applied, ended, later, look, run_jobs, standing, tell

NOW = datetime(2026, 9, 10, tzinfo=UTC)
AFTER_REPORT = "el.trigger(send, when=el.finished(report))"


def test_a_finished_pipeline_starts_another_once(any_ws: Workspace, tmp_path: Path) -> None:
    ws = any_ws
    applied(ws, tmp_path, AFTER_REPORT)
    assert not triggers.wants_firing(ws)
    loop.train(ws, loop.loaded(ws), "report", reason="a test")
    assert triggers.wants_firing(ws)
    (firing,) = look(ws)
    assert look(ws) == []
    (job,) = run_jobs(ws)
    assert (job.id, job.state) == (firing.job, "done")
    run = pipelines.pipeline_run(ws, str(firing.run))
    assert (run.pipeline, run.reason) == ("send", "trigger send: 1 run of report ended done")
    assert pipelines.result(ws, run.id) == "last: 1"


@pytest.mark.parametrize(("waits_for", "state"), [("failed", "failed"), ("any", "done"), ("any", "failed")])
def test_a_pipelines_end_counts_by_its_state(
    ws: Workspace, tmp_path: Path, waits_for: str, state: str
) -> None:
    applied(ws, tmp_path, f"el.trigger(send, when=el.finished(report, {waits_for!r}))")
    ended(ws, "report", state)
    assert len(look(ws)) == 1


def test_what_is_told_of_others_does_not_count(ws: Workspace, tmp_path: Path) -> None:
    applied(ws, tmp_path, AFTER_REPORT)
    ended(ws, "report", "failed")
    ended(ws, "broken")
    assert look(ws) == []
    assert standing(ws, "send").told == "not enough: 0 runs of report ended done"


def test_an_event_that_was_committed_late_counts_once(any_ws: Workspace, tmp_path: Path) -> None:
    ws = any_ws
    applied(ws, tmp_path, AFTER_REPORT)
    ended(ws, "report")
    before = ws.now()
    later(ws, seconds=30)
    assert len(look(ws)) == 1
    late = ended(ws, "report")
    ws.write(
        lambda tx: tx.execute(
            events.outbox.events.update().where(events.outbox.events.c.id == late).values(at=before)
        )
    )
    (second,) = look(ws)
    assert list(second.evidence.values()) == [{"count": 1, "findings": [late]}]
    assert look(ws) == []


def test_what_happened_before_a_trigger_was_declared_does_not_count(ws: Workspace, tmp_path: Path) -> None:
    applied(ws, tmp_path, "")
    ended(ws, "report")
    later(ws, seconds=1)
    applied(ws, tmp_path, AFTER_REPORT)
    assert look(ws) == []


def test_many_that_look_at_once_fire_once(any_ws: Workspace, tmp_path: Path) -> None:
    applied(any_ws, tmp_path, AFTER_REPORT)
    ended(any_ws, "report")
    threads = [threading.Thread(target=look, args=(any_ws,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(triggers.firings(any_ws)) == len(jobs.jobs_of(any_ws)) == 1


def test_the_registry_starts_a_pipeline(shop: Shop, tmp_path: Path) -> None:
    """Registered, promoted, released and rolled back, as the rooms tell it."""
    shop.later(minutes=1)
    applied(
        shop.ws,
        tmp_path,
        """
from types import SimpleNamespace
kind = SimpleNamespace(name="kind")
el.trigger(send, name="on-registered", when=el.registered(kind, 2))
el.trigger(send, name="on-promoted", when=el.promoted(kind, "production"))
el.trigger(send, name="on-released", when=el.released(kind))
el.trigger(send, name="on-rollback", when=el.rolled_back(kind))
""",
    )
    ws = shop.ws
    tell(ws, "registry.registered", "kind")
    tell(ws, "registry.registered", "kind_of")
    tell(ws, "registry.promoted", "kind", stage="staging")
    assert look(ws) == []
    assert standing(ws, "on-registered").told == "not enough: 1 versions of kind registered (needs 2)"
    tell(ws, "registry.registered", "kind")
    tell(ws, "rollout.rolled_back", "kind")
    from tests.loop import living  # noqa: PLC0415

    living.release(ws, "kind@2")
    fired = {firing.trigger: firing.reason for firing in look(ws)}
    assert fired == {
        "on-registered": "2 versions of kind registered (needs 2)",
        "on-promoted": "1 versions of kind promoted to production",
        "on-released": "1 versions of kind released",
        "on-rollback": "1 rollbacks on kind",
    }


def test_conditions_of_data_and_labels_can_be_combined_with_events(shop: Shop, tmp_path: Path) -> None:
    from tests.loop import shop as made_up  # noqa: PLC0415

    applied(
        shop.ws,
        tmp_path,
        """
from types import SimpleNamespace
goods = SimpleNamespace(name="goods")
el.trigger(send, when=el.arrived(goods, 5) & el.finished(report))
""",
    )
    ended(shop.ws, "report")
    assert look(shop.ws) == []
    shop.later(minutes=1)
    data.ingest(shop.ws, "goods", made_up.goods(shop.ws, 5, first=900).drop_columns(["kind"]))
    (firing,) = look(shop.ws)
    assert firing.reason == "5 rows new or changed in goods (needs 5) and 1 run of report ended done"


def test_it_is_told_why_a_trigger_fired_down_to_the_events(ws: Workspace, tmp_path: Path) -> None:
    applied(ws, tmp_path, AFTER_REPORT)
    event = ended(ws, "report")
    (firing,) = look(ws)
    told = governance.why(ws, firing.id)
    assert "because: 1 run of report ended done" in told.answer
    assert told.because[1] == "finished report done: it happened"
    assert set(told.go_on) == {event, firing.job, firing.run}
    assert firing.id in governance.why(ws, str(firing.job)).go_on


def test_a_policy_of_retraining_may_wait_for_events_too(ws: Workspace) -> None:
    condition = retraining.Finished("report", "done")
    ws.write(lambda tx: retraining.set_policy(ws, tx, "kind", condition=condition, cooldown=timedelta()))
    ended(ws, "report")
    (decision,) = retraining.consider(ws)
    assert retraining.consider(ws) == []
    assert "finished report done: it happened" in governance.why(ws, decision.id).because


QUIET = Trigger("t", "p", {}, {}, Called(), quiet=timedelta(seconds=60), longest_wait=timedelta(seconds=150))


@pytest.mark.parametrize(
    ("count", "held_s", "quiet_s", "seen", "fires", "told"),
    [
        (1, 0, 0, None, False, "waits for quiet until 2026-09-10 00:01:00 UTC: 1 calls"),
        (1, 59, 59, 1, False, "waits for quiet"),
        (1, 60, 60, 1, True, "1 calls"),
        (
            2,
            100,
            100,
            1,
            False,
            "waits for quiet until 2026-09-10 00:00:50",
        ),  # of the longest wait, 50 s are left
        (9, 150, 1, 8, True, "9 calls"),
        (0, 70, 70, 1, False, "not enough"),
    ],
)
def test_a_condition_settles_before_it_fires(
    count: int, held_s: int, quiet_s: int, seen: int | None, fires: bool, told: str
) -> None:
    waiting = (
        None
        if seen is None
        else Waiting(NOW - timedelta(seconds=held_s), NOW - timedelta(seconds=quiet_s), {"called": seen})
    )
    verdict = decide(QUIET, {Called(): Found(count)}, now=NOW, last_at=None, waiting=waiting)
    assert verdict.fire == fires
    assert told in verdict.reason


def test_a_burst_of_events_starts_one_run_when_it_is_over(any_ws: Workspace, tmp_path: Path) -> None:
    ws = any_ws
    applied(ws, tmp_path, "el.trigger(send, when=el.finished(report), quiet_s=60, longest_wait_s=600)")
    for _ in range(5):
        ended(ws, "report")
        assert look(ws) == []
        later(ws, seconds=30)
    assert "waits for quiet" in standing(ws, "send").told
    later(ws, seconds=30)
    (firing,) = look(ws)
    assert firing.reason == "5 runs of report ended done"


def test_a_burst_that_does_not_end_is_not_waited_out(ws: Workspace, tmp_path: Path) -> None:
    applied(ws, tmp_path, "el.trigger(send, when=el.finished(report), quiet_s=60, longest_wait_s=120)")
    fired = []
    for _ in range(9):
        ended(ws, "report")
        fired += look(ws)
        later(ws, seconds=30)
    assert [one.reason for one in fired] == ["5 runs of report ended done"]


def test_a_cool_down_is_waited_out_and_what_came_meanwhile_counts(ws: Workspace, tmp_path: Path) -> None:
    applied(ws, tmp_path, "el.trigger(send, when=el.finished(report), cooldown_h=1)")
    ended(ws, "report")
    assert len(look(ws)) == 1
    later(ws, minutes=10)
    ended(ws, "report")
    assert look(ws) == []
    assert "cooling down until 2026-09-01 01:00:00" in standing(ws, "send").told
    later(ws, minutes=50)
    assert len(look(ws)) == 1


def test_a_paused_trigger_waits_and_says_for_whom(any_ws: Workspace, tmp_path: Path) -> None:
    ws = any_ws
    applied(ws, tmp_path, "el.trigger(send, cron='0 3 * * *', when=el.finished(report))")
    triggers.pause(ws.acting_as("alice"), "send", reason="the receiver is down")
    ended(ws, "report")
    later(ws, days=1)
    assert not triggers.wants_firing(ws)
    assert (look(ws), jobs.fire_due(ws)) == ([], [])
    applied(ws, tmp_path, "el.trigger(send, cron='0 3 * * *', when=el.finished(report), priority=1)")
    assert standing(ws, "send").told == "paused by alice: the receiver is down"
    with pytest.raises(Conflict, match="by alice: the receiver is down"):
        triggers.pause(ws, "send", reason="again")
    triggers.resume(ws.acting_as("bob"), "send")
    assert len(look(ws)) == 1
    assert jobs.fire_due(ws) == []
    later(ws, days=1)
    assert len(jobs.fire_due(ws)) == 1
    acts = {(one.actor, one.act) for one in ledger.entries(ws)}
    assert {("alice", "trigger.pause"), ("bob", "trigger.resume"), ("bob", "schedule.resume")} <= acts


def test_a_schedule_runs_any_pipeline_with_its_instant(any_ws: Workspace, tmp_path: Path) -> None:
    ws = any_ws
    applied(
        ws,
        tmp_path,
        "el.trigger(report, cron='0 3 * * *', params={'month': '{instant}'}, catch_up=el.all_missed(at_most=2))",
    )
    later(ws, days=4)
    assert len(jobs.fire_due(ws)) == 2
    made = [pipelines.result(ws, str(job.result["run"])) for job in run_jobs(ws)]
    assert made == ["2026-09-04T03:00:00+00:00: 3", "2026-09-03T03:00:00+00:00: 3"]
    assert standing(ws, "report").last_at == datetime(2026, 9, 4, 3, tzinfo=UTC)


def test_what_a_loop_file_no_longer_declares_starts_nothing_more(any_ws: Workspace, tmp_path: Path) -> None:
    ws = any_ws
    applied(ws, tmp_path, "el.trigger(report, cron='0 3 * * *')\n" + AFTER_REPORT + "\nel.limit(report, 1)")
    applied(ws, tmp_path, "")
    ended(ws, "report")
    later(ws, days=1)
    assert (look(ws), jobs.fire_due(ws), triggers.standings(ws), jobs.all_lanes(ws)) == ([], [], [], [])


def test_a_job_that_is_refused_is_told_with_what_was_in_its_way(ws: Workspace, tmp_path: Path) -> None:
    applied(ws, tmp_path, AFTER_REPORT + "\nel.limit(send, 1, when_full='refuse')")
    for _ in range(2):
        ended(ws, "report")
        later(ws, minutes=1)
        look(ws)
    refused, started = triggers.firings(ws, "send")
    assert started.job is not None
    assert refused.job is None
    assert f"{started.job} is there" in str(refused.refused)


@pytest.mark.parametrize(
    ("declared", "told"),
    [
        ("el.trigger(report, params={'moth': 'May'})", "Did you mean 'month'"),
        ("el.trigger(report, params={'rows': 'three'})", "takes rows as int and got 'three'"),
        ("el.trigger(report, cron='daily')", "not a cron expression"),
        ("el.trigger(report, cron='0 3 * * *', time_zone='Mars')", "not a time zone"),
        ("el.trigger(report, cron='0 3 * * *', catch_up='some')", "it is 'skip', 'latest' or el.all_missed"),
        ("el.trigger(report, when=el.called(), quiet_s=60, longest_wait_s=10)", "State a longer wait"),
        ("el.trigger(report, when=el.finished(report))", "starts again when it has finished"),
        (
            "el.trigger(report, when=el.finished(send))\nel.trigger(send, when=el.finished(report))",
            "would never stop",
        ),
        ("el.trigger(report)\nel.trigger(report)", "declares the trigger 'report' twice"),
        ("el.trigger(report, priority=1.5)", "the priority is 1.5"),
        ("el.trigger(report, when=el.finished(send, 'over'))", "one of done, failed, any"),
        (
            "el.retrain(el.model('kind', report), when=el.called())",
            "only a trigger can be called",
        ),
        ("el.trigger(report, cron='0 3 * * *', catch_up=el.all_missed(at_most=0))", "1 to 1,000"),
        ("el.limit(report)", "it limits nothing"),
        ("el.limit(report, 1, when_full='wait')", "'queue', 'refuse' or 'cancel_oldest'"),
        ("el.limit(report, 0)", "1 or more"),
    ],
)
def test_a_trigger_that_cannot_do_what_it_says_is_refused(
    ws: Workspace, tmp_path: Path, declared: str, told: str
) -> None:
    with pytest.raises(Invalid, match=told):
        applied(ws, tmp_path, declared)
    assert triggers.standings(ws) == []

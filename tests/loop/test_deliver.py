"""Training and delivering: each once, also after a death in between."""

from __future__ import annotations

import shutil

import pytest

from everloop import background, governance, jobs, loop, pipelines, registry, rollout, serving
from everloop.errors import GateFailed, NotFound
from everloop.ledger import entries
from tests.loop import living
from tests.loop.living import Shop
from tests.registry.versions import check


def live(shop: Shop) -> dict[str, float]:
    return {one.version: one.weight for one in rollout.live(shop.ws, "kind")}


def test_what_nobody_approved_stays(shop: Shop) -> None:
    assert not loop.has_approved(shop.ws)
    assert loop.deliver(shop.ws) == []
    with pytest.raises(GateFailed, match="asks for the approval of 1 person"):
        loop.prepare_release(shop.ws, registry.version(shop.ws, "kind@2"))
    assert live(shop) == {"kind@1": 100}


def test_what_was_approved_is_rolled_out_once(any_shop: Shop) -> None:
    shop = any_shop
    living.approve(shop.ws, "kind@2")
    assert loop.has_approved(shop.ws)
    (started,) = loop.deliver(shop.ws)
    assert loop.deliver(shop.ws) == []
    assert live(shop) == {"kind@1": 50, "kind@2": 50}
    assert rollout.rollout_of(shop.ws, started).reason == "kind@2 passed its gates and was approved by alice"


def test_the_compiled_plan_is_compared_on_the_test_rows_of_the_run(shop: Shop) -> None:
    living.approve(shop.ws, "kind@2")
    made = loop.prepare_release(shop.ws, registry.version(shop.ws, "kind@2"))
    compiled = made.manifest.compiled
    assert compiled is not None
    assert compiled.is_used, compiled.reason
    assert compiled.real_rows > 10


def test_a_death_between_release_and_rollout_is_made_good_by_the_next_look(shop: Shop) -> None:
    living.release(shop.ws, "kind@2")  # and then the process died
    assert loop.has_approved(shop.ws)
    loop.deliver(shop.ws)
    assert live(shop) == {"kind@1": 50, "kind@2": 50}
    assert len(registry.releases(shop.ws, "kind")) == 2


def test_a_version_that_was_rolled_back_is_left_to_people(shop: Shop) -> None:
    living.approve(shop.ws, "kind@2")
    (started,) = loop.deliver(shop.ws)
    rollout.roll_back(shop.ws, started, reason="wrong")
    assert not loop.has_approved(shop.ws)
    assert loop.deliver(shop.ws) == []


def test_a_version_that_is_loaded_or_mirrored_does_not_wait_for_itself(shop: Shop) -> None:
    plan = rollout.blue_green()
    shop.ws.write(lambda tx: rollout.define_endpoint(shop.ws, tx, "kind", model="kind", canary=plan))
    living.approve(shop.ws, "kind@2")
    assert len(loop.deliver(shop.ws)) == 1
    assert live(shop) == {"kind@1": 100}
    assert not loop.has_approved(shop.ws)


def test_the_stage_names_what_is_live_after_a_rollback_and_when_a_person_brings_it_back(
    any_shop: Shop,
) -> None:
    shop = any_shop
    alice = shop.ws.acting_as("alice")
    living.approve(shop.ws, "kind@2")
    (started,) = loop.deliver(shop.ws)
    assert registry.stages(shop.ws, "kind") == {"production": 2}
    rollout.roll_back(alice, started, reason="wrong")
    assert registry.stages(shop.ws, "kind") == {"production": 1}
    assert registry.version(shop.ws, "kind@1").archived_at is None
    assert registry.version(shop.ws, "kind@2").archived_at is not None
    act = next(one for one in entries(shop.ws, actor="alice") if one.act == "registry.promote")
    assert (act.subject.id, act.detail["name"]) == ("kind@1", "production")
    assert act.detail["reason"] == "kind@2 was rolled back on kind: alice decided: wrong"
    again = rollout.start(alice, "kind", "kind@2", reason="mended", again=True)
    assert registry.stages(shop.ws, "kind") == {"production": 1}, "nothing is decided yet"
    rollout.promote_now(alice, again.id, reason="seen enough")
    assert registry.stages(shop.ws, "kind") == {"production": 2}


def test_the_stage_stays_while_the_version_taken_back_answers_elsewhere(shop: Shop) -> None:
    other = rollout.canary(100)
    shop.ws.write(lambda tx: rollout.define_endpoint(shop.ws, tx, "other", model="kind", canary=other))
    living.release(shop.ws, "kind@2")
    rollout.start(shop.ws, "other", "kind@2", reason="a test")
    made = rollout.start(shop.ws, "kind", "kind@2", reason="a test")
    rollout.roll_back(shop.ws, made.id, reason="wrong")
    assert registry.stages(shop.ws, "kind") == {"production": 2}


def test_a_version_that_was_rolled_back_elsewhere_is_left_to_people_here_too(shop: Shop) -> None:
    rollout.create_endpoint(shop.ws, "pilot", "kind", canary=rollout.all_at_once())
    rollout.start(shop.ws, "pilot", "kind@1", reason="a test")
    living.release(shop.ws, "kind@2")
    made = rollout.start(shop.ws, "pilot", "kind@2", reason="a test")
    rollout.roll_back(shop.ws, made.id, reason="wrong")
    assert loop.deliver(shop.ws) == []
    assert live(shop) == {"kind@1": 100}
    mark = governance.version_card(shop.ws, "kind@2")["rollbacks"]
    assert [(one["endpoint"], one["reason"]) for one in mark] == [("pilot", "tester decided: wrong")]


def test_a_version_that_a_person_replaced_by_an_older_one_stays_away(shop: Shop) -> None:
    living.approve(shop.ws, "kind@2")
    (started,) = loop.deliver(shop.ws)
    rollout.promote_now(shop.ws, started, reason="a test")
    back = rollout.start(shop.ws, "kind", "kind@1", reason="the older one was better")
    rollout.promote_now(shop.ws, back.id, reason="a test")
    assert not loop.has_approved(shop.ws)
    assert loop.deliver(shop.ws) == []
    assert live(shop) == {"kind@1": 100}


def test_a_version_that_a_split_was_ended_without_is_left_to_people(shop: Shop) -> None:
    living.release(shop.ws, "kind@2")
    rollout.split_traffic(
        shop.ws, "kind", {"kind@1": 50, "kind@2": 50}, sticky=False, reason="which is better"
    )
    rollout.end_split(shop.ws, "kind", keep="kind@1", reason="it is")
    assert loop.deliver(shop.ws) == []
    assert live(shop) == {"kind@1": 100}


def test_a_version_that_cannot_be_released_keeps_no_other_endpoint_waiting(shop: Shop) -> None:
    code = shop.ws.blobs.put(b"flavors: {python_function: {loader_module: mine}}")
    untrusted = registry.register(
        shop.ws, "aside", run=None, files={"MLmodel": code}, signature=None, metrics={}
    )
    check(shop.ws, untrusted)
    rollout.create_endpoint(shop.ws, "aside", "aside", canary=rollout.canary(100))
    living.approve(shop.ws, "kind@2")
    assert len(loop.deliver(shop.ws)) == 1
    assert live(shop) == {"kind@1": 50, "kind@2": 50}
    with pytest.raises(GateFailed, match="everloop models trust aside@1"):
        loop.deliver(shop.ws)


def test_one_rollout_at_a_time_the_next_waits(shop: Shop) -> None:
    living.approve(shop.ws, "kind@2")
    (started,) = loop.deliver(shop.ws)
    found = loop.loaded(shop.ws)
    assert loop.train(shop.ws, found, "train", params={"picky": False}, reason="third").version == "kind@3"
    living.approve(shop.ws, "kind@3")
    assert loop.deliver(shop.ws) == []
    rollout.promote_now(shop.ws, started, reason="a test")
    assert len(loop.deliver(shop.ws)) == 1


def test_a_run_that_is_repeated_makes_one_version(shop: Shop) -> None:
    found = loop.loaded(shop.ws)
    once = loop.train(shop.ws, found, "train", reason="a test", run_id="run_" + "0" * 32)
    again = loop.train(shop.ws, found, "train", reason="a test", run_id="run_" + "0" * 32)
    assert once == again
    assert len(registry.versions(shop.ws, "kind")) == 3


def test_a_run_conducted_from_outside_ends_with_the_same_gated_version(shop: Shop) -> None:
    train = loop.loaded(shop.ws).pipeline("train")
    run = pipelines.begin_run(shop.ws, train, key="night-7", params={"picky": False}, reason="a test")
    for step in run.plan["steps"]:
        pipelines.run_step(shop.ws, "night-7", step["name"])
    ended = loop.end_training(shop.ws, "night-7")
    before = registry.version(shop.ws, "kind@1")
    assert (ended.version, ended.passed) == ("kind@3", True)
    assert registry.version(shop.ws, "kind@3").metrics == before.metrics
    assert loop.end_training(shop.ws, "night-7") == ended


def test_a_scheduled_training_with_nothing_new_is_skipped(shop: Shop) -> None:
    put = shop.ws.write(lambda tx: jobs.put(shop.ws, tx, "train", {"model": "kind"}, reason="schedule"))
    assert background.run_jobs(shop.ws) == 1
    job = jobs.job(shop.ws, put)
    assert "labels and code are those of kind@2" in job.result["skipped"]


def test_a_job_for_a_model_that_is_declared_no_more_fails_and_says_so(shop: Shop) -> None:
    put = shop.ws.write(
        lambda tx: jobs.put(shop.ws, tx, "train", {"model": "gone"}, reason="a test", max_attempts=1)
    )
    background.run_jobs(shop.ws)
    job = jobs.job(shop.ws, put)
    assert job.state == "failed"
    assert "declares no model 'gone' any more" in str(job.error)


def test_an_unknown_pipeline_is_told_with_the_known_ones(shop: Shop) -> None:
    with pytest.raises(NotFound, match="it has train"):
        loop.train(shop.ws, loop.loaded(shop.ws), "trian", reason="a test")


def test_a_rollout_that_another_machine_began_brings_its_files_here(shop: Shop) -> None:
    before = serving.read_routes(shop.folder)
    for name in ("releases", "code", "online"):
        shutil.rmtree(shop.folder / name)
    (shop.folder / "routes.json").unlink()
    background.turn(shop.ws)
    assert serving.read_routes(shop.folder) == before
    release = rollout.live(shop.ws, "kind")[0].release
    assert serving.read_manifest(shop.folder, release).id == release


def test_lost_serving_files_are_written_again(shop: Shop) -> None:
    before = serving.read_routes(shop.folder)
    for name in ("releases", "code", "online"):
        shutil.rmtree(shop.folder / name)
    (shop.folder / "routes.json").unlink()
    (release,) = loop.restore(shop.ws)
    assert release == rollout.live(shop.ws, "kind")[0].release
    assert serving.read_routes(shop.folder) == before
    manifest = serving.read_manifest(shop.folder, release)
    for view in manifest.features:
        assert serving.online_path(shop.folder, view).exists()
    assert loop.restore(shop.ws) == []


def test_a_version_goes_through_the_stages_of_its_model(shop: Shop) -> None:
    stages = [registry.stage("staging", approve=registry.people(0)), registry.stage("production", soak_h=24)]
    registry.define(shop.ws, "kind", stages=stages)
    assert loop.has_approved(shop.ws)
    assert loop.deliver(shop.ws) == []
    assert registry.stages(shop.ws, "kind") == {"production": 1, "staging": 2}
    assert not loop.has_approved(shop.ws)
    living.approve(shop.ws, "kind@2")
    shop.later(hours=23)
    assert loop.deliver(shop.ws) == []
    shop.later(hours=1)
    assert len(loop.deliver(shop.ws)) == 1
    assert registry.stages(shop.ws, "kind")["production"] == 2
    assert live(shop) == {"kind@1": 50, "kind@2": 50}

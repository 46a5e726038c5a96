"""A run is done again from what is on record, and its verdict says whether the same came of it."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from everloop import events, ledger, registry, tracking
from everloop.errors import Invalid, NotReady, StepFailed
from everloop.ledger import Node
from everloop.pipelines import (
    Inline,
    PipelineRun,
    Progress,
    pipeline,
    pipeline_run,
    reproduce,
    run_pipeline,
    step,
    store,
    verdicts_on,
    why,
)
from everloop.pipelines.place import look_at
from everloop.pipelines.plan import Plan
from everloop.pipelines.run import run_again
from everloop.settings import child_environment
from everloop.storage import Tx
from everloop.workspace import Workspace
from tests.pipelines.conftest import UserProject
from tests.pipelines.test_training import train

__all__ = ["train"]  # the fixture of a training over real rows and labels

LOOP = """
    import os
    import random
    from pathlib import Path

    import numpy

    from everloop.pipelines import pipeline, step

    print("a loop file that talks when it is imported")
    SCALE = int(os.environ.get("SCALE", "1"))

    @step
    def drawn() -> list:
        return [random.random(), float(numpy.random.random())]

    @step
    def noise(by: float) -> float:
        return 0.5 + by * random.SystemRandom().random()

    @step
    def scaled(value: float) -> dict:
        return {"loss": value * SCALE, "unit": "nats"}

    @step
    def read(name: str) -> str:
        return Path(name).read_text()

    @pipeline
    def settled() -> dict:
        return scaled(noise(0.0))

    @pipeline
    def seeded() -> list:
        return drawn()

    @pipeline
    def noisy(by: float) -> dict:
        return scaled(noise(by))

    @pipeline
    def reads() -> str:
        return read("note.txt")
"""


@pytest.fixture
def loop(project: UserProject) -> Any:
    project.write({"loop": LOOP})
    return project.load()


def ran(ws: Workspace, body: Any, **params: Any) -> PipelineRun:
    return run_pipeline(ws, body, params=params, reason="test", executor=Inline())


def test_a_training_gives_the_same_model_bit_for_bit(ws: Workspace, train: Any) -> None:
    original = ran(ws, train)
    found = reproduce(ws, original.id)
    assert (found.verdict, found.differences, found.failure) == ("identical", (), None)
    steps = 4 if train.name == "train" else 5
    assert [one.is_same for one in found.steps] == [True] * steps
    assert found.sentence == f"The rerun gave the same bits in all {steps} steps."


def test_a_rerun_is_a_run_of_its_own_kind_with_lineage_and_nothing_comes_of_it(
    ws: Workspace, train: Any
) -> None:
    original = ran(ws, train)
    found = reproduce(ws, original.id)
    rerun = tracking.run(ws, found.rerun)
    assert (rerun.kind, rerun.status) == ("rerun", "finished")
    assert rerun.tags["everloop.verdict"].startswith("identical: ")
    assert Node("run", original.id) in {edge.source for edge in ledger.upstream(ws, Node("run", rerun.id))}
    assert verdicts_on(ws, original.id) == {rerun.id: rerun.tags["everloop.verdict"]}
    assert registry.models(ws) == []
    assert [one.subject.id for one in events.newest(ws, kind="pipeline.")] == [original.id]
    assert [one.id for one in tracking.runs(ws, kind="pipeline")] == [original.id]


def test_a_rerun_neither_takes_from_the_cache_nor_adds_to_it(any_ws: Workspace, loop: Any) -> None:
    ws = any_ws
    original = ran(ws, loop.noisy, by=1.0)
    rerun = pipeline_run(ws, reproduce(ws, original.id).rerun)
    assert [(one.state, one.key) for one in rerun.steps] == [("done", None)] * 2
    assert (
        why(ws, rerun.id, "noise").sentence == f"noise ran: its run repeats {original.id}, beside the cache."
    )
    again = ran(ws, loop.noisy, by=1.0)
    assert [one.made_by for one in again.steps] == [one.id for one in original.steps]
    reproduce(ws, again.id)
    assert why(ws, ran(ws, loop.noisy, by=2.0).id, "noise").compared_with == again.steps[0].id


def test_seeded_random_numbers_come_again_in_another_process(ws: Workspace, loop: Any) -> None:
    assert reproduce(ws, ran(ws, loop.seeded).id).verdict == "identical"


def test_unseeded_randomness_within_the_tolerance_is_equal(ws: Workspace, loop: Any) -> None:
    found = reproduce(ws, ran(ws, loop.noisy, by=1e-4).id)
    assert (found.verdict, found.first_different) == ("equal", "noise")
    (number,) = found.numbers
    assert (number.step, number.name, number.is_within) == ("scaled", "loss", True)


def test_unseeded_randomness_beyond_the_tolerance_is_different_and_named(ws: Workspace, loop: Any) -> None:
    found = reproduce(ws, ran(ws, loop.noisy, by=1e-4).id, tolerance=1e-12)
    assert found.verdict == "different"
    assert (
        "from step noise on. Nothing that is on record differs: step noise uses something that is not"
        in found.sentence
    )


def test_code_that_reads_the_environment_at_import_is_named(
    ws: Workspace, loop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = ran(ws, loop.settled)
    monkeypatch.setenv("SCALE", "3")
    found = reproduce(ws, original.id)
    assert (found.verdict, found.first_different) == ("different", "scaled")
    assert found.sentence.endswith("On record differ: code loop:SCALE went from 1 to 3.")


def test_other_threads_are_named_when_they_did_not_matter(
    ws: Workspace, loop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    original = ran(ws, loop.settled)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    found = reproduce(ws, original.id)
    assert found.verdict == "identical"
    assert found.sentence.endswith("That hardware OMP_NUM_THREADS went from 1 to 2 did not matter.")


def test_a_file_that_is_not_captured_is_missed_in_the_fresh_place(
    ws: Workspace, loop: Any, project: UserProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.root)
    Path("note.txt").write_text("hello")
    found = reproduce(ws, ran(ws, loop.reads).id)
    assert (found.verdict, found.first_different) == ("different", "read")
    assert "No such file or directory: 'note.txt'" in (found.failure or "")
    assert tracking.run(ws, found.rerun).status == "failed"


def test_the_code_stays_where_it_is_asked_for(ws: Workspace, loop: Any, tmp_path: Path) -> None:
    found = reproduce(ws, ran(ws, loop.settled).id, keep=tmp_path / "kept")
    assert found.folder == str(tmp_path / "kept")
    assert "SystemRandom" in (tmp_path / "kept" / "code" / "loop.py").read_text()


def test_a_folder_in_use_is_refused(ws: Workspace, loop: Any, tmp_path: Path) -> None:
    original = ran(ws, loop.settled)
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "mine").touch()
    with pytest.raises(Invalid, match="there and not empty"):
        reproduce(ws, original.id, keep=tmp_path / "used")


def test_a_run_that_is_not_done_has_nothing_to_compare_with(
    ws: Workspace, loop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StepFailed) as failed:
        ran(ws, loop.reads)
    with pytest.raises(NotReady, match="is failed; only a run that is done"):
        reproduce(ws, failed.value.run_id)


def test_a_pipeline_without_a_file_cannot_be_reproduced(ws: Workspace) -> None:
    @step
    def one() -> int:
        return 1

    @pipeline
    def inside() -> int:
        return one()

    original = ran(ws, inside)
    with pytest.raises(Invalid, match="its code is in no file"):
        reproduce(ws, original.id)


def installed(folder: Path, version: str, shift: float) -> Path:
    """A package `steadyhand` as pip unpacks it: what it answers depends on its version."""
    folder.mkdir()
    (folder / "steadyhand.py").write_text(f"def shift():\n    return {shift}\n")
    described = folder / f"steadyhand-{version}.dist-info"
    described.mkdir()
    (described / "METADATA").write_text(f"Metadata-Version: 2.1\nName: steadyhand\nVersion: {version}\n")
    return folder


PACKAGED = """
    import steadyhand

    from everloop.pipelines import pipeline, step

    @step
    def shifted() -> float:
        return steadyhand.shift()

    @pipeline
    def train() -> float:
        return shifted()
"""
RUN = """
import sys
sys.path.insert(0, sys.argv[1])
import loop
from everloop.pipelines import Inline, run_pipeline
from everloop.workspace import open_workspace
with open_workspace() as ws:
    print(run_pipeline(ws, loop.train, reason="test", executor=Inline()).id)
"""


def packed(folder: Path, wheel: Path) -> None:
    """What `installed` made, as a wheel."""
    (described,) = folder.glob("*.dist-info")
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in [folder / "steadyhand.py", described / "METADATA"]:
            archive.write(file, file.relative_to(folder))
        archive.writestr(
            f"{described.name}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{described.name}/RECORD", "".join(f"{name},,\n" for name in archive.namelist()))


def everloop(ws: Workspace, packages: Path, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        env=child_environment(ws.settings, PYTHONPATH=str(packages), **settings),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def packaged(ws: Workspace, project: UserProject, tmp_path: Path) -> str:
    """A run, made with steadyhand 1.0."""
    project.write({"loop": PACKAGED})
    done = everloop(ws, installed(tmp_path / "old", "1.0", 0.5), "-c", RUN, str(project.root))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_package_in_another_version_is_named_and_the_answer_is_no(
    ws: Workspace, packaged: str, tmp_path: Path
) -> None:
    newer = installed(tmp_path / "new", "2.0", 0.75)
    done = everloop(ws, newer, "-m", "everloop", "--json", "reproduce", packaged)
    assert done.returncode == 3, done.stderr
    told = json.loads(done.stdout)
    assert told["verdict"] == "different"
    assert told["differences"] == [
        {"what": "environment", "name": "steadyhand", "before": "1.0", "after": "2.0"}
    ]
    assert told["sentence"].endswith("On record differ: environment steadyhand went from 1.0 to 2.0.")


def test_a_result_of_before_there_were_seeds_is_named(ws: Workspace, loop: Any) -> None:
    early = ran(ws, loop.noisy, by=1.0)
    ws.write(lambda tx: forget_seed(tx, early))
    cached = ran(ws, loop.noisy, by=1.0)
    found = reproduce(ws, cached.id)
    assert found.verdict == "different"
    assert found.sentence.endswith(f"It was made by {early.id}, of before seeds were set.")


def forget_seed(tx: Tx, run: PipelineRun) -> None:
    plan = {name: value for name, value in run.plan.items() if name not in ("seed", "repeats")}
    store.update_run(tx, run.id, {"plan": plan})


def test_data_with_another_content_than_was_pinned_is_named(ws: Workspace, train: Any) -> None:
    original = ran(ws, train)
    pins = {name: vars(pinned) for name, pinned in original.pins.items()}
    pins["listings"] = {**pins["listings"], "digest": "0" * 64}
    ws.write(lambda tx: store.update_run(tx, original.id, {"pins": pins}))
    (difference,) = reproduce(ws, original.id).differences
    assert (difference.what, difference.name, difference.before) == ("data", "listings@1", "0" * 64)


def test_a_negative_tolerance_is_refused(ws: Workspace, loop: Any) -> None:
    with pytest.raises(Invalid, match="a number from 0 on"):
        reproduce(ws, ran(ws, loop.settled).id, tolerance=-1.0)


def test_a_rerun_that_is_cut_off_is_cancelled(ws: Workspace, loop: Any) -> None:
    original = ran(ws, loop.settled)

    def interrupt(progress: Progress) -> None:
        if progress.kind == "step_started":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reproduce(ws, original.id, on_progress=interrupt)
    (rerun,) = tracking.runs(ws, kind="rerun")
    assert (pipeline_run(ws, rerun.id).state, rerun.status) == ("cancelled", "killed")


def test_a_package_that_is_gone_is_named_with_what_it_broke(ws: Workspace, packaged: str) -> None:
    found = reproduce(ws, packaged)
    assert found.verdict == "different"
    assert "'steadyhand'" in (found.failure or "")
    assert found.sentence.endswith("On record differ: environment steadyhand is gone.")


@pytest.mark.long  # all packages of this environment are got once
def test_an_environment_that_nobody_has_any_more_is_rebuilt_from_kept_wheels_with_the_same_result(
    ws: Workspace, packaged: str, tmp_path: Path
) -> None:
    index = tmp_path / "index"
    index.mkdir()
    packed(tmp_path / "old", index / "steadyhand-1.0-py3-none-any.whl")
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    kept = everloop(ws, nothing, "-m", "everloop", "runs", "wheels", packaged, PIP_FIND_LINKS=str(index))
    assert kept.returncode == 0, kept.stderr
    closed = {
        "UV_OFFLINE": "1",
        "UV_NO_INDEX": "1",
        "PIP_NO_INDEX": "1",
        "UV_CACHE_DIR": str(tmp_path / "cache"),
    }
    here = everloop(ws, nothing, "-m", "everloop", "reproduce", packaged, **closed)
    assert here.returncode == 3, here.stderr  # steadyhand is gone
    done = everloop(ws, nothing, "-m", "everloop", "--json", "reproduce", packaged, "--rebuild", **closed)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["verdict"] == "identical"


def test_the_steps_of_a_rerun_name_the_environment_of_their_place(
    ws: Workspace, loop: Any, tmp_path: Path
) -> None:
    original = ran(ws, loop.settled)
    code = tracking.check_out(ws, str(original.code), tmp_path / "code")
    place = look_at(ws, Plan.from_json(original.plan), code, python=sys.executable, variables={})
    other = replace(place.environment, digest="e" * 64)
    tracking.keep_environment(ws, other)
    rerun = run_again(ws, original, replace(place, environment=other))
    assert rerun.environment == other.digest
    assert {one.parts["environment"] for one in rerun.steps} == {other.digest}

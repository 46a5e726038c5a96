"""Doing a run again from what is on record, and saying whether the same came of it."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from everloop import data, jobs, labels, tracking
from everloop.errors import Invalid, NotFound, NotReady, StepFailed
from everloop.jobs import Lease
from everloop.ledger import Node, downstream
from everloop.pipelines import store
from everloop.pipelines.ingredients import (
    Difference,
    differences,
    hardware_differences,
    software_differences,
)
from everloop.pipelines.place import Place, look_at
from everloop.pipelines.plan import Plan, leaves
from everloop.pipelines.reading import outputs_of, pipeline_run, step_run
from everloop.pipelines.records import OnProgress, Pinned, PipelineRun, Stored
from everloop.pipelines.results import Results
from everloop.pipelines.run import REPEATED, run_again
from everloop.pipelines.step_environments import environment_of
from everloop.pipelines.touched import listed
from everloop.pipelines.verdict import (
    Judged,
    NumberDifference,
    Numbers,
    StepOutputs,
    Verdict,
    judge,
    numbers_in,
)
from everloop.workspace import Workspace

DEFAULT_TOLERANCE = 0.001
REPRODUCE = "reproduce"  # the kind of job that does a run again
_VERDICT_TAG = "everloop.verdict"
_TAG_LENGTH = 8_000
_SHOWN = 5  # differences in the sentence; the record has all


@dataclass(frozen=True)
class Reproduction:
    """What came of doing a run again.

    `steps` compare the outputs in the order of the plan, `numbers` are those that differ, `differences` are what is on
    record of both runs and differs, whether or not it mattered. `first_different` is the first step with another
    output. `failure` is the rerun's error. `sentence` says it in words.
    """

    run: str
    rerun: str
    verdict: Verdict
    sentence: str
    tolerance: float
    steps: tuple[StepOutputs, ...]
    numbers: tuple[NumberDifference, ...]
    differences: tuple[Difference, ...]
    first_different: str | None
    failure: str | None
    folder: str | None


def reproduce(
    ws: Workspace,
    run_id: str,
    *,
    tolerance: float = DEFAULT_TOLERANCE,
    rebuild: bool = False,
    keep: Path | None = None,
    on_progress: OnProgress | None = None,
) -> Reproduction:
    """Run a finished run's plan once more in a fresh folder, in processes of its own, without the cache; compare.

    The code is the run's as captured, data and labels are as pinned. The rerun is recorded as a run of the kind
    `rerun` with lineage from the original and the verdict as a tag; no model version comes of it and no event.

    Parameters
    ----------
    tolerance
        How far numbers may be apart for the verdict `equal`; see `judge`.
    rebuild
        If the environment is another one now, build the recorded one (`tracking.rebuild`), with the recorded settings
        for threads and the hash seed. Otherwise the run is repeated by this Python.
    keep
        An empty or new folder in which code and environment stay; None: a temporary one.

    Raises
    ------
    NotFound
    NotReady
        The run is not done, or a package of its environment cannot be had.
    Invalid
        Its code is not in files, `keep` is in use, or the tolerance is no number from 0 on.
    """
    original = pipeline_run(ws, run_id)
    _check(original, tolerance)
    plan = Plan.from_json(original.plan)
    machine = tracking.machine_of(tracking.run(ws, original.id))
    with _folder(keep) as folder:
        place = _place(ws, original, plan, folder, variables=_variables(machine) if rebuild else None)
        found = _made_of(ws, original, plan, place, machine)
        rerun, failure = _run_again(ws, original, place, on_progress)
        outputs, numbers = _came_of(ws, plan, original, rerun)
    judged = judge(outputs, numbers, tolerance=tolerance)
    first = judged.differing[0] if judged.differing else None
    ended = Reproduction(
        run=original.id,
        rerun=rerun.id,
        verdict=judged.verdict,
        sentence=_sentence(
            judged,
            found,
            failure,
            _unsettled(ws, original, first, machine),
            tolerance=tolerance,
            steps=len(outputs),
        ),
        tolerance=tolerance,
        steps=outputs,
        numbers=judged.numbers,
        differences=found,
        first_different=first,
        failure=failure,
        folder=None if keep is None else str(keep.resolve()),
    )
    tracking.log_tags(ws, rerun.id, {_VERDICT_TAG: f"{ended.verdict}: {ended.sentence}"[:_TAG_LENGTH]})
    return ended


def ask_to_reproduce(ws: Workspace, run_id: str, *, reason: str, tolerance: float = DEFAULT_TOLERANCE) -> str:
    """Put the job that reproduces a run, for a caller that cannot wait for it, and return its id.

    Raises as `reproduce` for a run that cannot be, and Invalid when the reason is empty.
    """
    if not reason.strip():
        raise Invalid(
            "the reason is empty; whoever reads the job later needs one. Say why the run is done again."
        )
    _check(pipeline_run(ws, run_id), tolerance)
    payload = {"run": run_id, "tolerance": tolerance, "by": ws.actor}
    # one attempt: a rerun that was cut off is over, and the next one is a run of its own
    return ws.write(lambda tx: jobs.put(ws, tx, REPRODUCE, payload, reason=reason.strip(), max_attempts=1))


def reproduce_job(ws: Workspace, lease: Lease) -> dict[str, str]:
    """The job behind `ask_to_reproduce`, done as whoever asked."""
    asked = lease.job.payload
    ended = reproduce(ws.acting_as(str(asked["by"])), str(asked["run"]), tolerance=float(asked["tolerance"]))
    return {"rerun": ended.rerun, "verdict": ended.verdict, "sentence": ended.sentence}


def verdicts_on(ws: Workspace, run_id: str) -> dict[str, str]:
    """What reruns of a run said of it, by the rerun's id, oldest first; one that was cut off said nothing."""
    again = [
        edge.target.id
        for edge in downstream(ws, Node("run", run_id))
        if edge.role == REPEATED and edge.source.id == run_id
    ]
    told = {rerun: tracking.run(ws, rerun).tags.get(_VERDICT_TAG) for rerun in again}
    return {rerun: verdict for rerun, verdict in told.items() if verdict is not None}


def _check(original: PipelineRun, tolerance: float) -> None:
    if original.state != "done":
        raise NotReady(
            f"run {original.id} is {original.state}; only a run that is done has results to be compared with. "
            "'everloop runs list' shows others."
        )
    if original.code is None:
        raise Invalid(
            f"run {original.id} was started from a notebook or inside a function, so that its code is in no file. "
            "Write the pipeline in a file; runs of it can be reproduced."
        )
    if not tolerance >= 0:
        raise Invalid(f"the tolerance is {tolerance}; it is a number from 0 on. Give one, such as 0.001.")


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="everloop-reproduce-", ignore_cleanup_errors=True) as name:
            yield Path(name).resolve()
        return
    if keep.exists() and not (keep.is_dir() and not any(keep.iterdir())):
        raise Invalid(
            f"{keep} is there and not empty; a run is reproduced in a fresh folder. Name a new one."
        )
    keep.mkdir(parents=True, exist_ok=True)
    yield keep.resolve()


def _place(
    ws: Workspace, original: PipelineRun, plan: Plan, folder: Path, *, variables: dict[str, str] | None
) -> Place:
    """The original's code with this Python; with `variables`, and its environment where that is another one."""
    code = tracking.check_out(ws, str(original.code), folder / "code")
    place = look_at(ws, plan, code, python=sys.executable, variables=variables or {})
    if variables is not None and place.environment.digest != original.environment:
        kept = tracking.kept_wheels(ws, original.environment)
        python = tracking.rebuild(
            tracking.environment(ws, original.environment),
            folder / "environment",
            wheels=None if kept is None else kept.folder,
        )
        # what this process was told to look for packages in is not the environment that was built
        place = look_at(ws, plan, code, python=python, variables={**variables, "PYTHONPATH": ""})
    tracking.keep_environment(ws, place.environment)
    return place


def _variables(machine: tracking.Machine | None) -> dict[str, str]:
    """The settings of threads and of the hash seed that a run had, as far as they are on record."""
    return {} if machine is None else {**machine.threads, "PYTHONHASHSEED": machine.hash_seed}


def _run_again(
    ws: Workspace, original: PipelineRun, place: Place, on_progress: OnProgress | None
) -> tuple[PipelineRun, str | None]:
    try:
        return run_again(ws, original, place, on_progress=on_progress), None
    except StepFailed as error:
        rerun = pipeline_run(ws, error.run_id)
        return rerun, rerun.error


def _made_of(
    ws: Workspace, original: PipelineRun, plan: Plan, place: Place, machine: tracking.Machine | None
) -> tuple[Difference, ...]:
    """What is on record of the original and differs from what the rerun is made of."""
    recorded = tracking.environment(ws, original.environment)
    return (
        *_code(ws, plan, place),
        *software_differences(recorded, place.environment),
        *_own_environments(ws, original, plan),
        *_gone(ws, original.pins),
        *hardware_differences(machine, place.machine),
    )


def _own_environments(ws: Workspace, original: PipelineRun, plan: Plan) -> Iterator[Difference]:
    """What differs in the environments that steps have of their own: all but what their lock files say."""
    before = {one.node: one.parts for one in original.steps}
    looked_at = set()
    for step in plan.steps:
        now = environment_of(ws, plan, step)
        recorded = before.get(step.name, {}).get("environment")
        if now is not None and recorded is not None and recorded not in looked_at:
            looked_at.add(recorded)
            yield from software_differences(tracking.environment(ws, recorded), now)


def _code(ws: Workspace, plan: Plan, place: Place) -> list[Difference]:
    """The code that steps reach, where it is other code in the rerun: what is read at import can be."""
    before: dict[str, str] = {}
    after: dict[str, str] = {}
    with ws.read() as connection:
        for digest in {step.source for step in plan.steps}:
            before |= store.source_parts(connection, digest)
    for parts in place.sources.values():
        after |= parts
    return differences("code", before, after) if place.problem is None else []


def _gone(ws: Workspace, pins: Mapping[str, Pinned]) -> Iterator[Difference]:
    """Pinned inputs that are not there any more, or not with the content they had."""
    for pinned in pins.values():
        before = pinned.digest or pinned.ref
        if pinned.kind == "dataset_version":
            after = _there(lambda ref: data.version(ws, ref).digest, pinned.ref)
            if after is None or pinned.digest not in ("", after):
                yield Difference("data", pinned.ref, before, after)
        elif (
            pinned.kind == "label_snapshot"
            and _there(lambda ref: labels.find_snapshot(ws, ref).digest, pinned.ref) is None
        ):
            yield Difference("labels", pinned.ref, before, None)


def _there(digest_of: Callable[[str], str], ref: str) -> str | None:
    try:
        return digest_of(ref)
    except NotFound:
        return None


def _came_of(
    ws: Workspace, plan: Plan, original: PipelineRun, rerun: PipelineRun
) -> tuple[tuple[StepOutputs, ...], list[Numbers]]:
    before, after = outputs_of(original), outputs_of(rerun)
    made = [step.name for step in plan.steps if step.name in before or step.name in after]
    outputs = tuple(StepOutputs(name, _digest(before.get(name)), _digest(after.get(name))) for name in made)
    returned = {leaf["node"] for leaf in leaves([plan.output]) if "node" in leaf}
    results = Results(ws.blobs, Path(tempfile.gettempdir()))
    numbers = [
        _numbers(results, name, before[name], after.get(name))
        for name in made
        if name in before and (before[name].metrics or name in returned)
    ]
    return outputs, numbers


def _numbers(results: Results, step: str, before: Stored, after: Stored | None) -> Numbers:
    if after is None:
        return Numbers(step, None, None)
    if before.digest == after.digest:
        return Numbers(step, None, None, is_same=True)
    if before.kind == after.kind == "json":
        (old, old_rest), (new, new_rest) = (numbers_in(results.bring(one)) for one in (before, after))
        return Numbers(step, old, new, rest_is_same=old_rest == new_rest)
    return Numbers(step, before.metrics or None, after.metrics or None)


def _digest(stored: Stored | None) -> str | None:
    return None if stored is None else stored.digest


def _sentence(
    ended: Judged,
    found: Sequence[Difference],
    failure: str | None,
    unsettled: str,
    *,
    tolerance: float,
    steps: int,
) -> str:
    """The verdict in words, and what it may come from."""
    if ended.verdict == "identical":
        other = f" That {_listed(found)} did not matter." if found else ""
        return f"The rerun gave the same bits in all {steps} steps.{other}"
    first = ended.differing[0]
    if failure is not None:
        came = f"The rerun failed: {failure.splitlines()[0]}"
    elif ended.verdict == "equal":
        came = f"All numbers are within {tolerance:g}; the bits differ from step {first} on."
    else:
        came = f"The results differ, from step {first} on."
    if found:
        return f"{came} On record differ: {_listed(found)}."
    return (
        f"{came} Nothing that is on record differs: step {first} uses something that is not, such as random numbers of its "
        f"own, the time, a file or the network.{unsettled}"
    )


def _unsettled(
    ws: Workspace, original: PipelineRun, first: str | None, machine: tracking.Machine | None
) -> str:
    """What was left to chance in the original, as far as that is known of its first step that differs."""
    made_by = next((one.made_by for one in original.steps if one.node == first and one.made_by), None)
    if made_by is not None:  # a result from the cache is an earlier run's
        made = step_run(ws, made_by)
        if made.touched:
            return f" Undeclared, it {listed(made.touched)}."
        maker = pipeline_run(ws, made.run)
        if maker.plan.get("seed") is None:
            return f" It was made by {maker.id}, of before seeds were set."
    if machine is not None and machine.hash_seed == "random":
        return " PYTHONHASHSEED was not set, so that sets of texts had another order."
    return ""


def _listed(found: Sequence[Difference]) -> str:
    shown = "; ".join(one.sentence for one in found[:_SHOWN])
    return f"{shown}; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else shown

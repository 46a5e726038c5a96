"""`/`: is the loop healthy, what needs a person now, what happened last."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from everloop import (
    data,
    events,
    feedback,
    jobs,
    labels,
    monitoring,
    pipelines,
    registry,
    retraining,
    rollout,
    serving,
    tracking,
)
from everloop.errors import NotFound
from everloop.monitoring import Finding
from everloop.rollout import Endpoint, Rollout
from everloop.web.visits import Shown, Visit
from everloop.web.words import ago, count, percent, place_of
from everloop.workspace import Workspace

Tone = Literal["ok", "attention", "failed", "live", "quiet"]
_MOST_ITEMS = 8  # of one kind in the inbox
_HELD_LOOKS = 3  # looks in a row at which the judge held before a person is told
_DAY = timedelta(hours=24)


@dataclass(frozen=True)
class Stage:
    """One of the eight: its state in a word, what happened last, what comes next."""

    name: str
    state: str
    tone: Tone
    last: str
    at: datetime | None
    next: str
    link: str | None


@dataclass(frozen=True)
class Need:
    """Something that waits for a person, with the page where one acts."""

    kind: str
    what: str
    why: str
    at: datetime
    link: str
    act: str
    tone: Tone


@dataclass(frozen=True)
class _Seen:
    """What several stages and the inbox look at, read once."""

    endpoints: list[Endpoint]
    open_rollouts: list[Rollout]
    waiting: list[registry.ModelVersion]
    findings: list[Finding]
    reviews: dict[str, int]


def view(visit: Visit) -> Shown:
    ws = visit.ws
    endpoints = rollout.endpoints(ws)
    seen = _Seen(
        endpoints=endpoints,
        open_rollouts=rollout.rollouts(ws, states=("running", "paused"), limit=20),
        waiting=registry.waiting_for_approval(ws),
        findings=open_findings(ws, endpoints),
        reviews=feedback.open_reviews(ws),
    )
    return {
        "stages": [
            _data(ws),
            _labels(ws),
            _training(ws),
            _registry(ws, seen),
            _rollout(ws, seen),
            _serving(ws, seen),
            _monitoring(ws, seen),
            _feedback(ws, seen),
        ],
        "needs": sorted(_needs(ws, seen), key=lambda one: one.at, reverse=True),
        "happened": [{"event": one, "link": _place_of_event(one)} for one in events.newest(ws, limit=12)],
        "endpoints": endpoints,
    }


def open_findings(ws: Workspace, endpoints: list[Endpoint]) -> list[Finding]:
    """What was found of versions that answer now: with the version, the finding goes; the newest of each kind."""
    newest: dict[tuple[str, str], Finding] = {}
    for endpoint in endpoints:
        live = {one.version for one in endpoint.variants}
        for one in monitoring.findings(ws, endpoint.name, limit=50):
            if live & set(one.versions):
                newest.setdefault((one.endpoint, one.kind), one)
    return list(newest.values())


def _data(ws: Workspace) -> Stage:
    known = data.datasets(ws)
    newest = [version for one in known for version in data.versions(ws, one.name, limit=1)]
    if not newest:
        begin = "everloop data ingest NAME FILE" if known else "everloop apply loop.py"
        return Stage("Data", "empty", "quiet", "No dataset has a version yet.", None, begin, None)
    last = max(newest, key=lambda one: one.created_at)
    told = f"{last.ref}: {count(last.rows)} rows by {last.operation['kind']}"
    return Stage(
        "Data",
        "ready",
        "ok",
        told,
        last.created_at,
        f"{len(newest)} dataset{'s' if len(newest) > 1 else ''}; more rows make the next version",
        f"/trace/{last.ref}",
    )


def _labels(ws: Workspace) -> Stage:
    newest = [event for one in labels.label_sets(ws) for event in labels.history(ws, one.name, limit=1)]
    if not newest:
        begin = "everloop labels import NAME FILE"
        return Stage("Labels", "empty", "quiet", "Nobody has given a label yet.", None, begin, None)
    last = max(newest, key=lambda one: one.recorded_at)
    told = f"{last.annotator} said {last.value} of row {last.key} ({last.source})"
    waiting = sum(len(feedback.waiting(ws, one.name, limit=1)) for one in labels.label_sets(ws))
    upcoming = "Some labels wait for their rows" if waiting else "The next training resolves a snapshot"
    return Stage("Labels", "ready", "ok", told, last.recorded_at, upcoming, "/review")


def _training(ws: Workspace) -> Stage:
    upcoming = _next_training(ws)
    last = next(iter(tracking.runs(ws, kind="pipeline", limit=1)), None)
    if last is None:
        return Stage("Training", "never ran", "quiet", "No pipeline has run yet.", None, upcoming, None)
    tones: dict[str, tuple[str, Tone]] = {"running": ("running", "live"), "finished": ("done", "ok")}
    state, tone = tones.get(last.status, (last.status, "failed"))
    name = pipelines.pipeline_run(ws, last.id).pipeline
    told = f"{name} {'is running' if last.status == 'running' else last.status}"
    at = last.ended_at or last.started_at
    return Stage("Training", state, tone, told, at, upcoming, f"/pipelines/runs/{last.id}")


def _next_training(ws: Workspace) -> str:
    schedules = [one for one in jobs.list_schedules(ws) if one.kind == retraining.TRAIN]
    if schedules:
        first = min(schedules, key=lambda one: one.next_at)
        return f"By schedule {ago(first.next_at, ws.now())}"
    return "When the retraining policy says so" if retraining.policies(ws) else "everloop run PIPELINE"


def _registry(ws: Workspace, seen: _Seen) -> Stage:
    newest = [version for one in registry.models(ws) for version in registry.versions(ws, one.name, limit=1)]
    if not newest:
        told = "No version was registered yet."
        return Stage("Gates", "empty", "quiet", told, None, "Training registers the first", None)
    last = max(newest, key=lambda one: one.created_at)
    link = place_of(last.ref, "model_version")
    told = f"{last.ref} was registered by {last.author}"
    if seen.waiting:
        many = len(seen.waiting)
        state = "approval" if many == 1 else f"{many} approvals"
        return Stage(
            "Gates",
            f"waits for {state}",
            "attention",
            told,
            last.created_at,
            "A person approves or rejects",
            place_of(seen.waiting[0].ref, "model_version"),
        )
    if registry.may_be_released(ws, last.ref):
        upcoming = (
            "A person rolls it out again"
            if rollout.rollbacks(ws, last.ref)
            else "Rolled out where it is newer"
        )
        return Stage("Gates", "passed", "ok", told, last.created_at, upcoming, link)
    upcoming = "It stays where it is until its obstacles are gone"
    return Stage("Gates", "blocked", "attention", told, last.created_at, upcoming, link)


def _rollout(ws: Workspace, seen: _Seen) -> Stage:
    last = next(iter(rollout.history(ws, without_looks=True, limit=1)), None)
    if last is None:
        told = "Nothing was rolled out yet."
        return Stage("Rollout", "none yet", "quiet", told, None, "An approved version goes live", None)
    told = f"{last.act.replace('_', ' ')} on {last.endpoint}: {last.reason}"
    if not seen.open_rollouts:
        tone: Tone = "failed" if last.act == "rolled_back" else "ok"
        state = "rolled back" if last.act == "rolled_back" else "steady"
        link = f"/endpoints/{last.endpoint}"
        return Stage("Rollout", state, tone, told, last.at, "The next approved version", link)
    one = seen.open_rollouts[0]
    if one.state == "paused":
        return Stage(
            "Rollout",
            "paused",
            "attention",
            told,
            last.at,
            "A person resumes or ends it",
            f"/rollouts/{one.id}",
        )
    upcoming = (
        f"{one.stages[min(one.stage + 1, len(one.stages) - 1)].weight:g} % {one.stages[one.stage].leaves}"
    )
    return Stage(
        "Rollout", f"canary {one.weight:g} %", "live", told, last.at, upcoming, f"/rollouts/{one.id}"
    )


def _serving(ws: Workspace, seen: _Seen) -> Stage:
    live = [one for one in seen.endpoints if one.variants]
    link = f"/endpoints/{live[0].name}" if live else None
    if not live:
        return Stage(
            "Serving", "nothing live", "quiet", "No endpoint answers yet.", None, "A first rollout", None
        )
    recent = [
        one
        for endpoint in live
        for one in monitoring.traffic(ws, endpoint.name, start=ws.now() - _DAY, end=ws.now())
    ]
    asked = sum(one.asked for one in recent)
    failed = sum(one.failed for one in recent)
    told = f"{count(asked)} requests in 24 h" + (f", {percent(failed / asked)} failed" if asked else "")
    workers = serving.workers(ws.home / "serving")
    if not workers:
        upcoming = "Start it: everloop up, or everloop serve"
        return Stage("Serving", "down", "failed", told, None, upcoming, link)
    newest = max(workers, key=lambda one: one.seen_at)
    if newest.error:
        return Stage("Serving", "in trouble", "failed", newest.error, None, "See the server's log", link)
    if unwritable := next((one.log_error for one in workers if one.log_error), None):
        return Stage("Serving", "without its log", "failed", unwritable, None, "It goes on by itself", link)
    many = f"{len(workers)} process{'es' if len(workers) > 1 else ''}"
    upcoming = "Every change of routes, at once"
    return Stage("Serving", "live", "live", f"{told}, {many}", None, upcoming, link)


def _monitoring(ws: Workspace, seen: _Seen) -> Stage:
    at = monitoring.next_look_at(ws)
    if at is None:
        told = "Nothing is watched yet."
        return Stage("Monitoring", "off", "quiet", told, None, "Declare watch=[el.drift(), ...]", None)
    upcoming = f"A look {ago(at, ws.now())}"
    if not seen.findings:
        newest = next(iter(monitoring.findings(ws, limit=1)), None)
        told = newest.message if newest else "Nothing was found."
        link = f"/endpoints/{newest.endpoint}#findings" if newest else None
        return Stage("Monitoring", "quiet", "ok", told, newest.at if newest else None, upcoming, link)
    last = max(seen.findings, key=lambda one: one.at)
    many = len(seen.findings)
    state = f"{many} finding{'s' if many > 1 else ''}"
    return Stage(
        "Monitoring",
        state,
        "attention",
        last.message,
        last.at,
        upcoming,
        f"/endpoints/{last.endpoint}#findings",
    )


def _feedback(ws: Workspace, seen: _Seen) -> Stage:
    last = next(iter(retraining.decisions(ws, limit=1)), None)
    told = last.reason if last else "Nothing has called for a retrain yet."
    at = last.at if last else None
    training = jobs.jobs_of(ws, kind=retraining.TRAIN, states=("running", "waiting"), limit=1)
    if training:
        return Stage("Feedback", "retraining", "live", told, at, "Gates, then a person, then a canary", None)
    outlook = retraining.outlook(ws)
    upcoming = outlook[0].verdict.reason if outlook else "Declare el.retrain(model, when=...)"
    if waiting := sum(seen.reviews.values()):
        return Stage("Feedback", f"{count(waiting)} to review", "attention", told, at, upcoming, "/review")
    state = "watching" if outlook else "by hand"
    return Stage("Feedback", state, "ok" if outlook else "quiet", told, at, upcoming, "/review")


def _needs(ws: Workspace, seen: _Seen) -> Iterator[Need]:
    yield from _stuck(ws, seen)
    for version in seen.waiting[:_MOST_ITEMS]:
        yield Need(
            "approval",
            f"May {version.ref} go live?",
            f"Its gates passed; {version.author} made it.",
            version.created_at,
            f"/models/{version.model}/{version.number}",
            "Decide",
            "attention",
        )
    for one in sorted(seen.findings, key=lambda one: one.at, reverse=True)[:_MOST_ITEMS]:
        yield Need(
            "finding",
            f"{one.endpoint}: {one.kind.replace('_', ' ')}",
            one.message,
            one.at,
            f"/endpoints/{one.endpoint}#{one.id}",
            "Look",
            "attention",
        )
    for rolling in seen.open_rollouts[:_MOST_ITEMS]:
        if waits := _waits(ws, rolling):
            yield Need(
                "rollout",
                waits[0],
                waits[1],
                rolling.started_at,
                f"/rollouts/{rolling.id}",
                "Decide",
                "attention",
            )
    for endpoint, waiting in seen.reviews.items():
        oldest = feedback.review_queue(ws, endpoint, limit=1)
        if oldest:
            yield Need(
                "review",
                f"{count(waiting)} answer{'s' if waiting > 1 else ''} of {endpoint} wait{'' if waiting > 1 else 's'} for a reviewer",
                "Accuracy is measured on them, and corrections wait for a word.",
                oldest[0].created_at,
                f"/review?endpoint={endpoint}",
                "Review",
                "attention",
            )


def _stuck(ws: Workspace, seen: _Seen) -> Iterator[Need]:
    """Where the loop does not go on by itself: a training that failed, a version that is blocked or came back."""
    for job in jobs.jobs_of(ws, kind=retraining.TRAIN, limit=1):
        if job.state == "failed":
            what = f"Training of {job.payload.get('model', 'a model')} failed"
            yield Need(
                "training",
                what,
                job.error or job.reason,
                job.put_at,
                _place_of_job(ws, job),
                "Look",
                "failed",
            )
    for model in registry.models(ws):
        for newest in registry.versions(ws, model.name, limit=1):
            obstacles = {one.kind: one.message for one in registry.readiness(ws, newest.ref).obstacles}
            obstacles.pop("approvals", None)
            obstacles.pop("soak", None)  # time takes care of it
            if obstacles and "rejected" not in obstacles:  # who rejected it knows
                what, why = f"{newest.ref} is blocked", " ".join(obstacles.values())
                link = f"/models/{newest.model}/{newest.number}"
                yield Need("blocked", what, why, newest.created_at, link, "Look", "failed")
    for endpoint in seen.endpoints:
        for last in rollout.rollouts(ws, endpoint_name=endpoint.name, limit=1):
            if last.state == "rolled_back" and last.ended_at is not None:
                yield Need(
                    "rolled back",
                    f"{last.version} was rolled back on {last.endpoint}",
                    last.outcome or "",
                    last.ended_at,
                    f"/rollouts/{last.id}",
                    "Look",
                    "failed",
                )


def _place_of_job(ws: Workspace, job: jobs.Job) -> str:
    """The run that a training job made, or the job itself where it failed before."""
    run = job.id.replace("job_", "run_")
    try:
        return f"/pipelines/runs/{tracking.run(ws, run).id}"
    except NotFound:
        return f"/api/jobs/{job.id}"


def _waits(ws: Workspace, one: Rollout) -> tuple[str, str] | None:
    """What a rollout that does not move by itself says, and why."""
    looks = rollout.history(ws, rollout=one.id, limit=_HELD_LOOKS)
    if one.state == "paused":
        return f"{one.version} is paused at {one.weight:g} % of {one.endpoint}", looks[
            0
        ].reason if looks else ""
    if len(looks) == _HELD_LOOKS and all(look.act == "look" for look in looks):
        return f"{one.version} is on hold at {one.weight:g} % of {one.endpoint}", looks[0].reason
    return None


def _place_of_event(one: events.Event) -> str | None:
    if one.payload.get("rollout"):
        return f"/rollouts/{one.payload['rollout']}"
    if one.payload.get("finding"):
        return f"/endpoints/{one.subject.id}#{one.payload['finding']}"
    return place_of(one.subject.id, one.subject.kind)

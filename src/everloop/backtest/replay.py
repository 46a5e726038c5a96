"""Going through the days: rows are asked about, labels come in when they became known, the loop does what it does."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from everloop import background, data, events, feedback, labels, loop, registry, rollout, serving
from everloop.backtest.history import History
from everloop.backtest.results import Asked, Backtest, summary, weeks_of
from everloop.clock import SimulatedClock, from_micros
from everloop.errors import GateFailed, Invalid
from everloop.labels import NewLabel, Value
from everloop.loop import Loop
from everloop.predictions import PredictionRecord
from everloop.serving import LocalServer, Question
from everloop.settings import Settings
from everloop.workspace import Workspace, open_workspace

_STEP = timedelta(hours=6)  # how often a canary is looked at and labels come in
_PAGE = 2_000
_MOST_TURNS = 200  # of background work after a step; far more than it ever takes
_TOLD = (
    "monitoring.",
    "retraining.",
    "rollout.",
    "registry.gated",
)  # kinds of events that a backtest is about

OnDay = Callable[[datetime, int, str], None]
"""Told after each day: the day's end, how many rows it had, and which version is live."""


def run(
    history: History,
    found: Loop,
    home: Path,
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    on_day: OnDay | None = None,
) -> Backtest:
    """Replay a history in a new simulated workspace `home`.

    What is known at `start` trains the first version. From then on each row is asked about at its own time, in a
    request of its own, labels come in when they became known, as corrections where they are of a row that was asked
    about, and reviews are answered as soon as the answer is known. A version that passes its gates is approved at
    once; canary, judge, watches and triggers are those of the loop file. Where its stages ask for a time in them, nobody
    is there to be asked until the first version has spent it: rows and labels come in, and the replay begins after it.

    Parameters
    ----------
    start, end
        The days that are replayed: by default from the midnight by which half of the labels are known, to the last row.

    Raises
    ------
    Invalid
        No label, or no row, is known before `start`, or no row comes after it.
    GateFailed
        The version that is trained at the start does not pass its gates, or is not live before the end.
    """
    start = history.middle if start is None else start
    end = history.end if end is None else min(end, history.end)
    _check_period(history, start, end)
    # settings of its own: neither the database nor the webhook that the environment names are a replay's to use
    settings = Settings(home=home.absolute(), actor="backtest")
    with (
        open_workspace(settings=settings, simulation_from=start) as ws,
        LocalServer(ws.home, ws.blobs, ws.clock, model_python=ws.settings.model_python) as server,
    ):
        replay = _Replay(ws, server, history)
        replay.begin(found, start, latest=end)
        start = day = ws.now()
        while day < end:
            day = min(day + timedelta(days=1), end)
            before = len(replay.records)
            replay.go_to(day)
            if on_day is not None:
                on_day(day, len(replay.records) - before, replay.live)
        asked = replay.judged()
        told = [one for kind in _TOLD for one in events.newest(ws, kind=kind, limit=1_000_000)]
        return Backtest(
            endpoint=history.endpoint.name,
            start=start,
            end=end,
            first_version=replay.first_version,
            weeks=tuple(weeks_of(asked, start=start)),
            whole=summary(asked, start=start),
            events=tuple(sorted(told, key=lambda one: one.id)),
            home=home,
        )


def _check_period(history: History, start: datetime, end: datetime) -> None:
    first_row, first_label = from_micros(int(history.times[0])), history.given[0][0]
    if first_label >= history.end:
        raise Invalid(
            f"every label became known after the last row, the first at {_day(first_label)}: they were imported in one go, "
            "and nobody can say what was known on which day. Say how long after its row a label is known: "
            "--labels-after-days 3."
        )
    if max(first_row, first_label) >= start:
        raise Invalid(
            f"nothing can be learned by {_day(start)}: the first row is of {_day(first_row)}, the first label became known "
            f"at {_day(first_label)}. Begin later with --from."
        )
    if end <= start:
        raise Invalid(
            f"no day is left to replay: the last row is of {_day(history.end)}, before {_day(start)}. Begin earlier with --from."
        )


def _day(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M}"


class _Replay:
    def __init__(self, ws: Workspace, server: LocalServer, history: History) -> None:
        self.ws = ws
        self.records: list[PredictionRecord] = []  # one for each row asked about, in their order
        self.first_version = ""
        self._server = server
        self._history = history
        self._keys = history.keys
        self._position = {key: position for position, key in enumerate(self._keys)}
        self._asked_from = 0  # the first row that is asked about
        self._arrived = 0  # so many rows are in the dataset
        self._given = 0  # so many labels have become known
        self._predictions: dict[str, str] = {}  # by key, of answered rows
        self._known: dict[str, Value] = {}  # the last word on each key so far

    @property
    def live(self) -> str:
        """The version that answers, the canary's last."""
        return ", ".join(one.version for one in self._endpoint().variants)

    def begin(self, found: Loop, start: datetime, *, latest: datetime) -> None:
        """Learn what is known at the start, and put the first version live, which takes as long as its stages ask for."""
        loop.apply(self.ws, found)
        self._ingest(self._history.rows_between(None, start))
        self._take_labels(start)
        model = self._history.endpoint.model
        trained = loop.train(self.ws, found, model.pipeline.name, reason="the backtest begins")
        if trained.version is None or not trained.passed:
            raise GateFailed(_not_live(self.ws, trained, start))
        self._settle()
        last = min(start + sum((one.soak + _STEP for one in model.stages), timedelta(0)), latest)
        while not self._endpoint().variants:
            if self.ws.now() >= last:
                raise GateFailed(_not_live(self.ws, trained, start))
            self._go_on(last)
        self._asked_from = self._arrived
        self.first_version = self._endpoint().variants[0].version

    def go_to(self, end: datetime) -> None:
        """Replay what happened from now to `end`."""
        while self.ws.now() < end:
            self._go_on(end)

    def _go_on(self, end: datetime) -> None:
        """Replay the next hours. Nobody is asked before a version is live."""
        now = self.ws.now()
        then = min(now + _STEP, end)
        rows = self._history.rows_between(now, then)
        if self.first_version:
            self._ask(rows)
        self._ingest(rows)
        self._set_clock(then)
        self._take_labels(then)
        self._review()
        self._settle()

    def judged(self) -> list[Asked]:
        """Every row that was asked about, beside what the first version says and what its label is in the end."""
        if self._given < len(self._history.given):
            self._set_clock(max(self.ws.now(), self._history.given[-1][0] + timedelta(microseconds=1)))
            self._take_labels(self.ws.now())
        snapshot = labels.read_snapshot(
            self.ws,
            labels.snapshot(self.ws, self._history.labels.name, rule=self._history.labels.rule).digest,
        )
        truth = dict(zip(snapshot["key"].to_pylist(), snapshot["label"].to_pylist(), strict=True))
        asked = slice(self._asked_from, self._asked_from + len(self.records))
        rows = self._history.rows.slice(asked.start, len(self.records))
        without: list[Any] = loop.score(self.ws, self.first_version, rows)["output"].to_pylist()
        return [
            Asked(
                at=from_micros(record.at),
                version=f"{record.model}@{record.version}",
                with_loop=record.output if record.status == "ok" else None,
                without=alone,
                truth=truth.get(key),
            )
            for record, alone, key in zip(self.records, without, self._keys[asked], strict=True)
        ]

    def _ask(self, rows: slice) -> None:
        if rows.start == rows.stop:
            return
        manifest = serving.read_manifest(self.ws.home / "serving", self._endpoint().variants[0].release)
        names = [field.name for field in manifest.signature.inputs]
        inputs = self._history.rows.slice(rows.start, rows.stop - rows.start).select(names).to_pylist()
        questions = [
            Question({name: _as_json(value) for name, value in one.items()}, key, from_micros(int(at)))
            for one, key, at in zip(inputs, self._keys[rows], self._history.times[rows], strict=True)
        ]
        records = self._server.ask(self._history.endpoint.name, questions)
        self.records += records
        self._predictions |= {str(one.key): one.id for one in records if one.status == "ok"}

    def _ingest(self, rows: slice) -> None:
        if rows.start < rows.stop:
            data.ingest(
                self.ws,
                self._history.dataset.name,
                self._history.rows.slice(rows.start, rows.stop - rows.start),
            )
        self._arrived = rows.stop

    def _take_labels(self, until: datetime) -> None:
        """Labels that became known before `until`: a correction where the row was asked about, else a plain label."""
        first = self._given
        while self._given < len(self._history.given) and self._history.given[self._given][0] < until:
            self._given += 1
        # a replay that ends early leaves rows out, of which labels are known all the same
        due = [
            label
            for _, label in self._history.given[first : self._given]
            if self._position[str(label.key)] < self._arrived
        ]
        self._known |= {str(one.key): one.value for one in due}
        schema = labels.schema(self.ws, self._history.labels.name)
        corrections = [one for one in due if str(one.key) in self._predictions]
        if corrections:
            self._correct(corrections)
        plain = [
            one
            for one in due
            if str(one.key) not in self._predictions or schema.report_rule(one.annotator) != "accept"
        ]
        for start in range(0, len(plain), _PAGE):
            labels.record(self.ws, self._history.labels.name, plain[start : start + _PAGE])

    def _correct(self, said: list[NewLabel]) -> None:
        told = pa.table(
            {
                "prediction": [self._predictions[str(one.key)] for one in said],
                "value": [one.value for one in said],
                "reporter": [one.annotator for one in said],
                "at": pa.array([one.at for one in said], pa.timestamp("us", tz="UTC")),
            }
        )
        feedback.import_corrections(
            self.ws,
            told,
            endpoint=self._history.endpoint.name,
            prediction_id="prediction",
            reporter_column="reporter",
            at="at",
        )

    def _review(self) -> None:
        waiting = feedback.review_queue(self.ws, limit=1_000_000)
        answers = {one.id: self._known[one.key] for one in waiting if one.key in self._known}
        if answers:
            feedback.answer_reviews(self.ws, answers, reviewer="backtest")

    def _settle(self) -> None:
        """Let the loop do all that it has to do at this moment."""
        for _ in range(_MOST_TURNS):
            done = background.turn(self.ws) + background.run_jobs(self.ws) + self._approve()
            self._server.follow()
            if not done:
                return

    def _approve(self) -> int:
        waiting = registry.waiting_for_approval(self.ws)
        for version in waiting:
            model = registry.model(self.ws, version.model)
            rules = [model.approval, *(one.approval for one in model.stages if one.approval is not None)]
            for number in range(max(rule.people for rule in rules)):
                who = self.ws.acting_as(f"backtest-{number + 1}")
                registry.approve(who, version.ref, reason="it passed its gates; a backtest approves at once")
        return len(waiting)

    def _set_clock(self, at: datetime) -> None:
        assert isinstance(self.ws.clock, SimulatedClock), "a replay is a simulation"  # noqa: S101
        self.ws.clock.set(at)

    def _endpoint(self) -> rollout.Endpoint:
        return rollout.endpoint(self.ws, self._history.endpoint.name)


def _not_live(ws: Workspace, trained: loop.Trained, start: datetime) -> str:
    told = [
        one.message
        for one in registry.readiness(ws, str(trained.version)).obstacles
        if one.kind != "approvals"
    ]
    return (
        f"what was known at {_day(start)} makes no version that may go live: {' '.join(told)} "
        "Begin later, when more is known, or look at the gates of the loop file."
    )


def _as_json(value: Any) -> Any:
    """A value as a request carries it: images and binaries as base64, times as ISO 8601."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.isoformat() if isinstance(value, datetime) else value

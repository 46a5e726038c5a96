"""What happened in a run, written so that a kill loses nothing and a replaced runner can write nothing.

Each change begins by checking the run's fencing token, in the same transaction. A change is kill-safe (it survives the
death of the process, not a power cut, whose price is a recomputation); the last one of a run is power-safe, and as the
database writes in order, it makes those before it so too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from everloop.errors import LostLease
from everloop.ids import new_id
from everloop.ledger import Node, link
from everloop.pipelines import store
from everloop.pipelines.plan import PlannedStep, leaves
from everloop.pipelines.records import Pinned, Share, Stored, Touched
from everloop.pipelines.tracked import track_in
from everloop.storage import Tx
from everloop.workspace import Workspace


@dataclass(frozen=True)
class TrackedModel:
    """The tracking run of a model that a step made: its id, experiment and name."""

    run: str
    experiment: str
    name: str


@dataclass(frozen=True)
class Ended:
    """How an attempt ended; `output` is None when it failed, unless it is optional.

    `members` are the step runs that a map gathers. `anyway` says that it began after the run had failed.
    """

    step_run: str
    output: Stored | None
    seconds: float
    error: str | None = None
    log: str | None = None
    model: TrackedModel | None = None
    members: Sequence[str] = ()
    anyway: bool = False
    touched: Sequence[Touched] = ()


@dataclass(frozen=True)
class Begun:
    """An attempt that begins, or (with `cached`) a result taken over from the step run `made_by`, or a step skipped.

    `key` is None when its result is not for the cache. `look` says that nobody has looked yet whether it is known.
    """

    step: PlannedStep
    attempt: int
    key: str | None
    parts: Mapping[str, Any]
    cached: Stored | None = None
    made_by: str | None = None
    look: bool = False
    is_skipped: bool = False
    id: str = field(default_factory=lambda: new_id("step"))

    def since(self, now: datetime) -> datetime | None:
        """From when on a known result may be; None: of any age."""
        limit_s = self.step.cache_for_s
        return None if limit_s is None else now - timedelta(seconds=limit_s)


@dataclass(frozen=True)
class Journal:
    """The right to write on one run, under one token; with a `share` on one of its steps, beside other processes."""

    ws: Workspace
    run: str
    token: int
    share: Share | None = None

    def advance(
        self,
        *,
        ended: Sequence[Ended] = (),
        begun: Sequence[Begun] = (),
        made: Mapping[str, str],
        pins: Mapping[str, Pinned],
    ) -> dict[str, tuple[str, Stored]]:
        """Write what ended and what begins, with the lineage of what begins, in one transaction.

        `made` gives by node the step run that made its result. Returns by id what was to be looked for and is known,
        with who made it: that did not begin.

        Raises
        ------
        LostLease
            Another process took the run over or it was cancelled; nothing was written.
        """

        def change(tx: Tx) -> dict[str, tuple[str, Stored]]:
            self._hold(tx)
            at = self.ws.now()
            for attempt in ended:
                self._end(tx, attempt, at)
            looked = {
                one.id: store.made_under(tx.connection, one.key, since=one.since(at))
                for one in begun
                if one.look and one.key
            }
            known = {name: found for name, found in looked.items() if found is not None}
            really = [one for one in begun if one.id not in known]
            store.insert_step_runs(tx, [self._row(one, at) for one in really])
            for one in really:
                if one.cached is None and not one.is_skipped:
                    self._link_inputs(tx, one, made, pins, at)
            return known

        return self.ws.write(change, power_safe=False)

    def finish(self, *, then: Callable[[Tx], None], **values: Any) -> None:
        """Write the run's end, power-safe, and whatever `then` adds in the same transaction. Raises LostLease.

        A map that another step's failure kept from ending ends as interrupted.
        """

        def change(tx: Tx) -> None:
            self._hold(tx)
            store.interrupt(tx, self.run, ended_at=self.ws.now())
            store.update_run(tx, self.run, {**values, "ended_at": self.ws.now(), "lease_until": None})
            then(tx)

        self.ws.write(change)

    def release(self) -> None:
        """Give the lease, or the share, back without ending the run, so that it can be resumed at once."""

        def change(tx: Tx) -> None:
            if self.share is not None:
                store.drop_shares(tx, self.run, [self.share.holder])
            elif store.is_held(tx, self.run, token=self.token):
                store.update_run(tx, self.run, {"lease_until": None})

        self.ws.write(change, power_safe=False)

    def pause(self) -> None:
        """Write that nothing runs any more of a run that was to be paused, and give the lease back. Raises LostLease."""

        def change(tx: Tx) -> None:
            self._hold(tx)
            store.interrupt(tx, self.run, ended_at=self.ws.now())  # maps that are open
            store.update_run(tx, self.run, {"state": "paused", "lease_until": None})

        self.ws.write(change)

    def renew(self, until: Callable[[datetime], datetime]) -> str | None:
        """Push the lease's end out; the run's state, None when it is no longer ours."""

        def change(tx: Tx) -> str | None:
            end = until(tx.wall())
            is_ours = self.share is None or store.renew_share(tx, self.share, until=end)
            return store.renew(tx, self.run, token=self.token, until=end) if is_ours else None

        return self.ws.write(change, power_safe=False)

    def _hold(self, tx: Tx) -> None:
        is_held = store.is_held(tx, self.run, token=self.token)
        if not is_held or (self.share is not None and not store.is_shared(tx, self.share)):
            what = self.share.node if self.share is not None and self.share.node else "it"
            raise LostLease(
                f"run {self.run} is no longer this process's under token {self.token}: another took {what} over, or the run "
                "was cancelled. Nothing of this change was kept."
            )

    def _end(self, tx: Tx, one: Ended, at: datetime) -> None:
        values = {
            "state": "failed" if one.error is not None else "ran_anyway" if one.anyway else "done",
            "output": store.stored_json(one.output),
            "made_by": None if one.output is None else one.step_run,
            "tracking_run": one.model.run if one.model else None,
            "log": one.log,
            "error": one.error,
            "seconds": one.seconds,
            "ended_at": at,
            "touched": [vars(touched) for touched in one.touched] or None,
        }
        if (model := one.model) is not None:
            track_in(self.ws, tx, model.run, parent=self.run, experiment=model.experiment, name=model.name)
        if not store.end_step_run(tx, one.step_run, token=self.token, values=values):
            raise LostLease(f"step run {one.step_run} does not run under token {self.token} any more.")
        for member in one.members:
            link(tx, Node("step", member), Node("step", one.step_run), role="item", at=at)

    def _row(self, one: Begun, at: datetime) -> dict[str, Any]:
        is_cached = one.cached is not None
        has_ended = is_cached or one.is_skipped
        return {
            "id": one.id,
            "run": self.run,
            "node": one.step.name,
            "attempt": one.attempt,
            "step": one.step.step,
            "state": "skipped" if one.is_skipped else "cached" if is_cached else "running",
            "token": self.token,
            "key": one.key,
            "parts": dict(one.parts),
            "output": store.stored_json(one.cached),
            "made_by": one.made_by,
            "started_at": at,
            "ended_at": at if has_ended else None,
            "seconds": 0.0 if has_ended else None,
        }

    def _link_inputs(
        self, tx: Tx, one: Begun, made: Mapping[str, str], pins: Mapping[str, Pinned], at: datetime
    ) -> None:
        """Edges from what an attempt is given to the attempt, with the parameter's name as the role."""
        target = Node("step", one.id)
        for parameter, binding in one.step.bindings.items():
            for source in _inputs_of(binding, made, pins):
                link(tx, source, target, role=parameter[:60], at=at)


def _inputs_of(binding: Any, made: Mapping[str, str], pins: Mapping[str, Pinned]) -> Iterable[Node]:
    for leaf in leaves([binding]):
        if "node" in leaf and leaf["node"] in made:
            yield Node("step", made[leaf["node"]])
        elif "of" in leaf:
            yield Node("step", made[leaf["of"]])
        elif "source" in leaf:
            pinned = pins[leaf["source"]]
            yield Node(pinned.kind, pinned.ref)

"""How long predictions are kept, and taking a person's out of the log: governed acts on what serving wrote."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from everloop import clock, feedback, ledger, predictions, rollout, serving
from everloop.errors import Invalid
from everloop.governance.shipping import forget_parts
from everloop.ids import milliseconds_of
from everloop.ledger import Node, audit
from everloop.settings import secret_value
from everloop.storage import Tx
from everloop.workspace import Workspace

EXPIRE, ERASE = "predictions.expire", "predictions.erase"
_EVERY = timedelta(hours=1)
_MOST_ACTS = 1_000  # of removal, that a lost prediction is looked for in


@dataclass(frozen=True)
class Expiry:
    """What an endpoint's policy removes: sealed records from before a moment, of so many segments."""

    endpoint: str
    keep_days: float
    before: datetime
    rows: int
    segments: int
    oldest: datetime | None


@dataclass(frozen=True)
class Erased:
    """How many predictions of a person were found in the log; `segments` were written again, others are when they are sealed.

    `reports` corrections, outcomes, values and review items lost the person's key.
    """

    predictions: int
    segments: int
    reports: int


def expire_predictions(ws: Workspace, *, dry_run: bool = False) -> list[Expiry]:
    """Remove what endpoints keep no longer, by their policies; a dry run only says what that is. Each removal is audited.

    Only sealed segments are looked at: a record goes up to an hour after it has become too old, as long as it takes to seal.
    Corrections and outcomes stay, and say of their prediction what they were told then.
    """
    folder = ws.home / "serving"
    days = {one.name: one.log.keep_days for one in rollout.endpoints(ws) if one.log.keep_days is not None}
    before = {name: ws.now() - timedelta(days=kept) for name, kept in days.items()}
    old = predictions.expired(folder, before)
    if not dry_run:
        # from the index first: what is not here and is in the index is taken for lost, and brought back
        forget_parts(ws, _whole(old))
        predictions.expire(folder, before)
    found = []
    for name, kept in sorted(days.items()):
        spans = [one.span for one in old if one.endpoint == name]
        oldest = min((span.first for span in spans), default=None)
        found.append(Expiry(name, kept, before[name], sum(span.rows for span in spans), len(spans), oldest))
    if not dry_run:
        ws.write(lambda tx: _audit_expiry(ws, tx, [one for one in found if one.rows]))
        _marker(ws).parent.mkdir(parents=True, exist_ok=True)
        _marker(ws).write_text(ws.now().isoformat())
    return found


def has_expiring(ws: Workspace) -> bool:
    """Whether an endpoint keeps its predictions for a time only, and nobody looked at this home's within the last hour."""
    try:
        looked_at = clock.parse_time(_marker(ws).read_text())
    except (FileNotFoundError, Invalid):
        looked_at = None
    if looked_at is not None and ws.now() - looked_at < _EVERY:
        return False
    return any(one.log.keep_days is not None for one in rollout.endpoints(ws))


def erase_predictions(ws: Workspace, names: Collection[str], *, reason: str, dry_run: bool = False) -> Erased:
    """Take what was asked under some keys, or in some predictions by their ids, out of this home's log, and the keys out of what
    was said of it. Audited.

    The records stay as such, without key, inputs, features and error text. What is being written reads as erased at once; its bytes
    are rewritten when the segment is sealed, within `log_segment_s`. The audit entry has hashes, not the keys.

    Raises
    ------
    Invalid
        Nobody is named.
    """
    names = sorted({name for name in names if name})
    if not names:
        raise Invalid("nobody is named to be erased; give keys or ids of predictions.")
    folder = ws.home / "serving"
    count, reports = predictions.matching(folder, names), feedback.with_keys(ws, names)
    if dry_run:
        return Erased(count, 0, reports)
    key = predictions.log_key(folder, secret_value(ws.settings, "PREDICTION_LOG_KEY"))
    written = predictions.erase(folder, names, key)
    after = {"predictions": count, "segments": len(written), "reports": reports}
    asked = sorted(predictions.hashed(name, key) for name in names)

    def record(tx: Tx) -> None:
        feedback.forget_keys(tx, names)
        audit(ws, tx, ERASE, Node("workspace", ws.id), after=after, reason=reason, asked=asked)

    ws.write(record)
    return Erased(count, len(written), reports)


def why_not_logged(ws: Workspace, prediction_id: str) -> str:
    """What may have become of a prediction that the log does not have: the id tells when it was made, on the machine's clock."""
    made_at = clock.from_micros(milliseconds_of(prediction_id) * 1_000)
    said = []
    for endpoint in rollout.endpoints(ws):
        acts = ledger.entries(ws, subject=Node("endpoint", endpoint.name), limit=_MOST_ACTS)
        removals = [
            one
            for one in acts
            if one.act == EXPIRE and (ws.is_simulation or made_at.isoformat() < one.detail["older_than"])
        ]
        if removals:
            first = removals[-1]
            said.append(
                f"the policy of endpoint {endpoint.name} (keep_days={first.detail['keep_days']:g}) removed what was from before "
                f"{first.detail['older_than'][:16]}, on {first.at:%Y-%m-%d %H:%M}"
            )
    sampled = [one for one in rollout.endpoints(ws) if predictions.uniform(prediction_id) >= one.log.sample]
    said += [
        f"endpoint {one.name} keeps {100 * one.log.sample:g} % of what it answers, and this one is not among them"
        for one in sampled
    ]
    unlogged = {
        name: count
        for worker in serving.workers(ws.home / "serving")
        for name, count in worker.unlogged.items()
    }
    said += [
        f"endpoint {name} answered {count:,} predictions without a log" for name, count in unlogged.items()
    ]
    if not said:
        return "it was never answered here, or its log is on another machine"
    return "; or ".join(said)


def _audit_expiry(ws: Workspace, tx: Tx, removed: Collection[Expiry]) -> None:
    for one in removed:
        after = {"rows": one.rows, "segments": one.segments}
        audit(
            ws,
            tx,
            EXPIRE,
            Node("endpoint", one.endpoint),
            after=after,
            keep_days=one.keep_days,
            older_than=one.before.isoformat(),
            rows=one.rows,
        )


def _whole(old: Sequence[predictions.Old]) -> list[Path]:
    """The files of which nothing stays."""
    going: dict[Path, int] = {}
    for one in old:
        going[one.path] = going.get(one.path, 0) + one.span.rows
    return [path for path, rows in going.items() if predictions.rows_in(path) == rows]


def _marker(ws: Workspace) -> Path:
    return ws.home / "serving" / "log" / "expired"

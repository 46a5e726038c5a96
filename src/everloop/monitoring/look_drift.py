"""Drift of a window's inputs and answers from what the version that gave them was trained on."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from everloop import data, labels, pipelines, predictions, serving
from everloop.monitoring import store, traffic_hours
from everloop.monitoring.comparison import DriftReport, SeriesDrift, compare
from everloop.monitoring.look_accuracy import accuracy_in_words
from everloop.monitoring.records import DriftWatch, Finding, FindingKind, Measure, every_of, window_of
from everloop.monitoring.reference import Profile, Reference, learn_reference, profile_of
from everloop.monitoring.seen import Seen, Window, in_percent, read_window, sampled
from everloop.serving import Manifest
from everloop.workspace import Workspace

PIECE = "piece:drift"
_MOST_PIECES = 10_000
ANSWER = "answer"  # the column of labels in the reference, of predictions in the window
_TYPES: dict[str, pa.DataType] = {
    "string": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
}
_NOT_KEPT = "its values are not in the prediction log"
_SHOWN = 4  # moved parts that a message names


def look_at_drift(ws: Workspace, watch: DriftWatch, window: Window) -> Seen:
    """Compare each version's answered requests with its own training rows, if there are enough of them.

    Rows are counted once, in pieces as long as the watch's step: what a window has in common with the one before is added up.
    """
    pieces = _pieces(ws, watch, window)
    added = _added(pieces)
    if (
        added is None
    ):  # kept with other chances, or with other columns hidden: only the rows themselves compare
        added = _profiles(ws, window), window.chance
    measures = [one.measure for one in pieces if one.is_new]
    findings: list[Finding] = []
    profiles, chance = added
    for release, (version, profile) in sorted(profiles.items(), key=lambda one: -one[1][1].n_rows):
        reference = reference_of(ws, serving.read_manifest(ws.home / "serving", release))
        if profile.n_rows < watch.least_rows or reference is None:
            continue
        hidden = [name for name in reference.bins.columns if name not in profile.columns]
        report = compare(
            reference.without(hidden, why=_NOT_KEPT), profile, effect_at_least=watch.effect_at_least
        )
        measures += _measures(window, version, report)
        findings += _findings(ws, window, version, report, of=sampled(chance))
    return Seen(tuple(measures), tuple(findings))


_Profiles = dict[str, tuple[str, Profile]]  # by release: its version, and what it answered


@dataclass(frozen=True)
class _Piece:
    """What was counted of a part of a window. A new one is kept if nothing can come to it any more."""

    measure: Measure
    profiles: _Profiles
    is_new: bool

    @property
    def chance(self) -> float:
        return 1.0 if self.measure.value is None else self.measure.value


def _pieces(ws: Workspace, watch: DriftWatch, window: Window) -> list[_Piece]:
    """The window in pieces: those that are kept, and between them new ones."""
    with ws.read() as connection:
        rows = store.measures_between(
            connection, window.endpoint, names=(PIECE,), start=window.start, limit=_MOST_PIECES
        )
    known = [row for row in rows if window.start <= row.start and row.end <= window.end]
    settled = ws.now() - traffic_hours.late(ws)
    cuts = {
        window.end - number * every_of(watch) for number in range(1 + window_of(watch) // every_of(watch))
    }
    pieces, at = [], window.start
    for row in sorted(known, key=lambda row: row.start):
        pieces += _new_pieces(ws, window, at, row.start, cuts={*cuts, settled}, settled=settled)
        pieces.append(_Piece(row, _read(row), is_new=False))
        at = row.end
    return pieces + _new_pieces(ws, window, at, window.end, cuts={*cuts, settled}, settled=settled)


def _new_pieces(
    ws: Workspace, window: Window, start: datetime, end: datetime, *, cuts: set[datetime], settled: datetime
) -> list[_Piece]:
    ends = sorted(one for one in {*cuts, end} if start < one <= end)
    found = []
    for first, last in zip([start, *ends], ends, strict=False):
        part = read_window(ws, window.endpoint, start=first, end=last)
        profiles = _profiles(ws, part)
        detail = {release: [version, one.as_dict()] for release, (version, one) in profiles.items()}
        chance = part.chance if part.predictions.num_rows else None
        measure = Measure(window.endpoint, PIECE, "", first, last, chance, None, None, 0, detail)
        found.append(_Piece(measure, profiles, is_new=last <= settled))
    return found


def _profiles(ws: Workspace, window: Window) -> _Profiles:
    found: _Profiles = {}
    for version, release, rows in window.by_version():
        answered = rows.filter(pc.equal(rows["status"], pa.scalar("ok")))
        manifest = serving.read_manifest(ws.home / "serving", release)
        reference = reference_of(ws, manifest) if answered.num_rows else None
        if reference is not None:
            current = _current(answered, manifest, reference)
            hidden = [name for name in reference.bins.columns if name not in current.column_names]
            found[release] = version, profile_of(current, reference.without(hidden, why=_NOT_KEPT).bins)
    return found


def _added(pieces: Sequence[_Piece]) -> tuple[_Profiles, float] | None:
    """The pieces together, and the chance with which each row was kept; None if they do not add up."""
    chances = {one.chance for one in pieces if one.profiles}
    added: _Profiles = {}
    for piece in pieces:
        for release, (version, profile) in piece.profiles.items():
            known = added.get(release)
            if known is not None and known[1].bins_id != profile.bins_id:
                return None
            added[release] = version, profile if known is None else known[1] + profile
    return None if len(chances) > 1 else (added, min(chances, default=1.0))


def _read(row: Measure) -> _Profiles:
    detail = row.detail or {}
    return {release: (version, Profile.from_dict(one)) for release, (version, one) in detail.items()}


def reference_of(ws: Workspace, manifest: Manifest) -> Reference | None:
    """What a release's training rows looked like, and what it would answer on them; computed once, kept as a blob.

    None for a release that does not say what it was trained on.
    """
    if manifest.data_version is None or manifest.label_snapshot is None:
        return None
    with ws.read() as connection:
        known = store.reference_blob(connection, manifest.id)
    if known is not None:
        return Reference.from_dict(json.loads(ws.blobs.get(known)))
    reference = learn_reference(_training_rows(ws, manifest))
    blob = ws.blobs.put(json.dumps(reference.as_dict()).encode())
    ws.write(lambda tx: store.insert_reference(tx, manifest.id, blob, ws.now()))
    return reference


def _training_rows(ws: Workspace, manifest: Manifest) -> pa.Table:
    assert manifest.data_version is not None, "the caller looked"  # noqa: S101
    assert manifest.label_snapshot is not None, "the caller looked"  # noqa: S101
    truth = labels.read_snapshot(ws, manifest.label_snapshot).select([data.ROW_ID, "label"])
    names = [field.name for field in manifest.signature.inputs if field.type in _TYPES]
    known = set(data.version(ws, manifest.data_version).schema.names)
    rows = data.read(ws, manifest.data_version, columns=[name for name in names if name in known])
    joined = rows.join(truth, keys=data.ROW_ID, join_type="inner")
    held_out = None if manifest.run is None else pipelines.held_out_answers(ws, manifest.run)
    answers = expected_answers(joined["label"].to_pylist(), held_out)
    return joined.select([name for name in rows.column_names if name != data.ROW_ID]).append_column(
        ANSWER, pa.array(answers, pa.string())
    )


def expected_answers(labels: Sequence[str | None], held_out: pa.Table | None) -> list[str]:
    """What a model would answer on rows with these labels, in no order: as often as on held-out rows of each label.

    A model's own habit is no drift: one that calls every tenth lamp a bulb does so in the reference, too. A label
    without held-out rows is taken to be answered rightly.

    Examples
    --------
    >>> held_out = pa.table({"label": ["lamp"] * 10, "predicted": ["lamp"] * 9 + ["bulb"]})
    >>> Counter(expected_answers(["lamp"] * 20 + ["tea"], held_out))
    Counter({'lamp': 18, 'bulb': 2, 'tea': 1})
    """
    answered: defaultdict[str, Counter[str]] = defaultdict(Counter)
    if held_out is not None:
        for label, predicted in zip(
            held_out["label"].to_pylist(), held_out["predicted"].to_pylist(), strict=True
        ):
            answered[str(label)][str(predicted)] += 1
    expected: list[str] = []
    for label, n in Counter(map(str, labels)).items():
        expected += _in_shares(answered[label] or Counter({label: 1}), n)
    return expected


def _in_shares(answers: Counter[str], n: int) -> list[str]:
    """`n` answers in the given shares, the largest remainders rounded up."""
    total = answers.total()
    counts = {name: n * count // total for name, count in answers.items()}
    rest = sorted(answers, key=lambda name: (-(n * answers[name] % total), name))
    for name in rest[: n - sum(counts.values())]:
        counts[name] += 1
    return [name for name, count in counts.items() for _ in range(count)]


def _current(answered: pa.Table, manifest: Manifest, reference: Reference) -> pa.Table:
    """The window's inputs and answers in the reference's columns, but for inputs whose values the log does not keep."""
    types = {field.name: _TYPES[field.type] for field in manifest.signature.inputs if field.type in _TYPES}
    wanted = {name: kind for name, kind in types.items() if name in reference.bins.columns}
    kept = predictions.readable(answered["inputs"], wanted)
    return predictions.unpack(answered["inputs"], kept).append_column(ANSWER, answered["output"])


def _measures(window: Window, version: str, report: DriftReport) -> list[Measure]:
    return [
        window.measure(
            f"drift:{one.name}",
            one.effect,
            n=one.n_current,
            version=version,
            detail={"q_value": one.q_value, "psi": one.psi, "verdict": one.verdict},
        )
        for one in report.series
    ]


def _findings(ws: Workspace, window: Window, version: str, report: DriftReport, *, of: str) -> list[Finding]:
    answers = [one for one in report.drifted if one.column == ANSWER]
    inputs = [one for one in report.drifted if one.column != ANSWER]
    kinds: list[tuple[FindingKind, str, list[SeriesDrift]]] = [
        ("prediction_drift", "answers", answers),
        ("input_drift", "inputs", inputs),
    ]
    return [
        window.finding(
            kind,
            f"The {what} of {version} drifted in {report.n_current:,} predictions{of}: "
            f"{'; '.join(in_words(one) for one in moved[:_SHOWN])}. {accuracy_in_words(ws, window)}",
            detail={"about": sorted({one.column for one in moved}), "report": report.as_dict()},
            versions=(version,),
        )
        for kind, what, moved in kinds
        if moved
    ]


def in_words(one: SeriesDrift) -> str:
    """What moved and by how much, as a person reads it."""
    if one.changes:
        parts = ", ".join(
            f"{change.value if change.value is not None else 'others'} {in_percent(change.reference)} to {in_percent(change.current)}"
            for change in one.changes[:3]
        )
        return f"{one.name}: {parts}" if one.column != ANSWER else parts
    if one.medians is not None and one.medians[0] != one.medians[1]:
        return f"{one.name}: median {one.medians[0]:.3g} to {one.medians[1]:.3g}"
    return f"{one.name}: {in_percent(one.effect)} of the rows moved"

"""Drift of a window's inputs and answers from what the version that gave them was trained on."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from math import floor, inf, log2

import pyarrow as pa
import pyarrow.compute as pc

from everloop import data, labels, pipelines, predictions, serving
from everloop.monitoring import store, traffic_hours
from everloop.monitoring.bins import CategoryBins
from everloop.monitoring.comparison import DriftReport, SeriesDrift, compare
from everloop.monitoring.look_accuracy import accuracy_in_words
from everloop.monitoring.records import DriftWatch, Finding, FindingKind, Measure, every_of, window_of
from everloop.monitoring.reference import Profile, Reference, learn_reference, profile_of
from everloop.monitoring.seen import Seen, Window, in_percent, sampled
from everloop.serving import Manifest
from everloop.workspace import Workspace

PIECE = "piece:drifted"
_MOST_PIECES = 10_000
_ENOUGH = 20_000.0  # rows, where nothing asks for more
_COLUMNS = ["id", "at", "release", "inputs", "output", "status", "replay", "shadow_of", "probability"]
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
    Of a large window a sample is counted (`_Sample`).
    """
    with ws.read() as connection:
        rows = store.measures_between(
            connection, window.endpoint, names=(PIECE,), start=window.start, limit=_MOST_PIECES
        )
    known = [_Piece.read(row) for row in rows if window.start <= row.start and row.end <= window.end]
    sample = _Sample(ws, watch, window, known)
    pieces = _pieces(sample, known)
    added = _added(pieces)
    if added is None:
        # kept with other chances, or with other columns hidden: only the rows themselves compare
        thinner = sample.smaller(pieces)
        added = thinner.count(thinner.rows(window.start, window.end), window.start, window.end).profiles
    measures = [one.measure(window.endpoint) for one in pieces if one.is_new]
    findings: list[Finding] = []
    for release, of in sorted(added.items(), key=lambda one: -one[1].profile.n_rows):
        reference = sample.reference(release)
        if of.profile.n_rows < watch.least_rows or reference is None:
            continue
        hidden = [name for name in reference.bins.columns if name not in of.profile.columns]
        report = compare(
            reference.without(hidden, why=_NOT_KEPT), of.profile, effect_at_least=watch.effect_at_least
        )
        measures += _measures(window, of, report)
        findings += _findings(ws, window, of, report)
    return Seen(tuple(measures), tuple(findings))


@dataclass(frozen=True)
class _Answered:
    """What a release answered in some time: a sample that was asked for with one chance, in which each row is with `chance`."""

    version: str
    asked: float
    chance: float
    profile: Profile

    def __add__(self, other: _Answered) -> _Answered:
        return replace(self, profile=self.profile + other.profile)


@dataclass(frozen=True)
class _Piece:
    """What was counted of a part of a window, by release. A new one is kept if nothing can come to it any more."""

    start: datetime
    end: datetime
    profiles: Mapping[str, _Answered]
    is_new: bool = False

    @classmethod
    def read(cls, row: Measure) -> _Piece:
        found = {
            release: _Answered(version, asked, chance, Profile.from_dict(profile))
            for release, (version, asked, chance, profile) in (row.detail or {}).items()
        }
        return cls(row.start, row.end, found)

    def measure(self, endpoint: str) -> Measure:
        told = {
            release: [one.version, one.asked, one.chance, one.profile.as_dict()]
            for release, one in self.profiles.items()
        }
        return Measure(endpoint, PIECE, "", self.start, self.end, None, None, None, 0, told)


class _Sample:
    """Which rows a look counts: of each release so many that what is found of them holds for all.

    That is at least 20,000 (`_ENOUGH`); 200 over the square of the least effect, with which a distance is known to a tenth of that effect (the
    95 % band of Kolmogorov-Smirnov is 1.36 over the root of the rows); and 50 for each value that is counted one by one, since
    few rows of many values always seem to differ (total variation by 0.4 times the root of values over rows). What has up to
    three times as many is counted whole. Chances are powers of a half, and one that was taken is kept while there are neither too
    few rows nor more than three times enough, so that pieces add up.
    """

    def __init__(self, ws: Workspace, watch: DriftWatch, window: Window, known: Sequence[_Piece]) -> None:
        self.ws = ws
        self.watch = watch
        self.window = window
        self._before = {release: one.asked for piece in known for release, one in piece.profiles.items()}
        self._requests = traffic_hours.answered(ws, window.endpoint, start=window.start, end=window.end)
        self._references: dict[str, Reference | None] = {}
        self._chances: dict[str, float] = {}

    def smaller(self, pieces: Sequence[_Piece]) -> _Sample:
        """One that reads of each release what these pieces have in common."""
        found = _Sample(self.ws, self.watch, self.window, ())
        found._references = self._references
        for piece in pieces:
            for release, one in piece.profiles.items():
                found._chances[release] = min(found._chances.get(release, 1.0), one.chance)
        return found

    def reference(self, release: str) -> Reference | None:
        if release not in self._references:
            self._references[release] = reference_of(self.ws, self._manifest(release))
        return self._references[release]

    def chance(self, release: str) -> float:
        """With which each prediction of a release is asked for."""
        if release not in self._chances:
            self._chances[release] = self._choose(release) if release else 1.0
        return self._chances[release]

    def fits(self, piece: _Piece) -> bool:
        return all(one.asked == self.chance(release) for release, one in piece.profiles.items())

    def rows(self, start: datetime, end: datetime) -> pa.Table:
        """What was drawn of what was answered in [start, end)."""
        table = predictions.read(
            self.ws.home / "serving",
            endpoint=self.window.endpoint,
            start=start,
            end=end,
            columns=_COLUMNS,
            chances=self.chance,
        )
        own = pc.and_(pc.invert(table["replay"]), table["shadow_of"].is_null())
        return table.filter(pc.and_(own, pc.equal(table["status"], pa.scalar("ok"))))

    def count(self, rows: pa.Table, start: datetime, end: datetime) -> _Piece:
        """Those of the rows that are of [start, end)."""
        at = rows["at"]
        first, last = (pa.scalar(one, at.type) for one in (start, end))
        answered = rows.filter(pc.and_(pc.greater_equal(at, first), pc.less(at, last)))
        profiles = {}
        for release in sorted(map(str, answered["release"].unique().to_pylist())):
            if self.reference(release) is not None:
                own = answered.filter(pc.equal(answered["release"], pa.scalar(release)))
                profiles[release] = self._count(release, own)
        return _Piece(start, end, profiles)

    def _count(self, release: str, rows: pa.Table) -> _Answered:
        manifest, reference, asked = self._manifest(release), self.reference(release), self.chance(release)
        assert reference is not None, "the caller looked"  # noqa: S101
        chance = min(asked, float(pc.min(rows["probability"]).as_py()))  # the log itself may have kept fewer
        current = _current(rows.filter(pa.array(predictions.drawn(rows, chance))), manifest, reference)
        hidden = [name for name in reference.bins.columns if name not in current.column_names]
        profile = profile_of(current, reference.without(hidden, why=_NOT_KEPT).bins)
        return _Answered(f"{manifest.model}@{manifest.version}", asked, chance, profile)

    def _choose(self, release: str) -> float:
        manifest = self._manifest(release)
        requests = self._requests.get(f"{manifest.model}@{manifest.version}", 0.0)
        reference = self.reference(release) if requests > _ENOUGH else None
        if reference is None:
            return 1.0
        enough, before = rows_enough(reference, self.watch.effect_at_least), self._before.get(release, 1.0)
        if enough <= requests * before <= 3.0 * enough:
            return before
        return min(1.0, 2.0 ** -floor(log2(requests / (1.25 * enough))))

    def _manifest(self, release: str) -> Manifest:
        return serving.read_manifest(self.ws.home / "serving", release)


def rows_enough(reference: Reference, effect_at_least: float) -> float:
    """Of how many rows a sample tells what all would (see `_Sample`)."""
    series = [bins for column in reference.bins.columns.values() for bins in column.series.values()]
    values = max((len(bins.kept) for bins in series if isinstance(bins, CategoryBins)), default=0)
    for_the_effect = 200.0 / effect_at_least**2 if effect_at_least else inf
    return max(_ENOUGH, for_the_effect, 50.0 * values)


def _pieces(sample: _Sample, known: Sequence[_Piece]) -> list[_Piece]:
    """The window in pieces: those that are kept, counted again where another chance is asked for now, and between them new ones."""
    ws, window = sample.ws, sample.window
    settled = ws.now() - traffic_hours.late(ws)
    steps = range(1 + window_of(sample.watch) // every_of(sample.watch))
    cuts = {settled, *(window.end - number * every_of(sample.watch) for number in steps)}

    def new(start: datetime, end: datetime) -> Iterator[_Piece]:
        if start >= end:
            return
        rows = sample.rows(start, end)  # once for all: each reading looks at every file of the log
        ends = sorted(one for one in {*cuts, end} if start < one <= end)
        for first, last in zip([start, *ends], ends, strict=False):
            yield replace(sample.count(rows, first, last), is_new=last <= settled)

    pieces: list[_Piece] = []
    at = window.start
    for piece in sorted(known, key=lambda one: one.start):
        pieces += new(at, piece.start)
        pieces += [piece] if sample.fits(piece) else new(piece.start, piece.end)
        at = piece.end
    return [*pieces, *new(at, window.end)]


def _added(pieces: Sequence[_Piece]) -> Mapping[str, _Answered] | None:
    """The pieces together; None if they do not add up."""
    added: dict[str, _Answered] = {}
    for piece in pieces:
        for release, one in piece.profiles.items():
            known = added.get(release)
            if known is None:
                added[release] = one
            elif (known.chance, known.profile.bins_id) == (one.chance, one.profile.bins_id):
                added[release] = known + one
            else:
                return None
    return added


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


def _measures(window: Window, of: _Answered, report: DriftReport) -> list[Measure]:
    return [
        window.measure(
            f"drift:{one.name}",
            one.effect,
            n=one.n_current,
            version=of.version,
            detail={"q_value": one.q_value, "psi": one.psi, "verdict": one.verdict},
        )
        for one in report.series
    ]


def _findings(ws: Workspace, window: Window, of: _Answered, report: DriftReport) -> list[Finding]:
    answers = [one for one in report.drifted if one.column == ANSWER]
    inputs = [one for one in report.drifted if one.column != ANSWER]
    kinds: list[tuple[FindingKind, str, list[SeriesDrift]]] = [
        ("prediction_drift", "answers", answers),
        ("input_drift", "inputs", inputs),
    ]
    return [
        window.finding(
            kind,
            f"The {what} of {of.version} drifted in {report.n_current:,} predictions{sampled(of.chance, report.n_current)}: "
            f"{'; '.join(in_words(one) for one in moved[:_SHOWN])}. {accuracy_in_words(ws, window)}",
            detail={
                "about": sorted({one.column for one in moved}),
                "report": report.as_dict(),
                "chance": of.chance,
            },
            versions=(of.version,),
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

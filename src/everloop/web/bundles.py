"""Steps of a large run folded into few boxes: those that are alike beside each other, and those in a row."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

MOST = 60  # boxes that are read without folding
_ALIKE = 3
_ROW = 5


@dataclass(frozen=True)
class Bundle:
    """What is drawn as one box. `id` is its first member's name; of a single one, `kind` is `one`."""

    id: str
    kind: Literal["one", "alike", "row"]
    members: tuple[str, ...]
    before: tuple[str, ...]


class _Boxes:
    """The graph while it is folded: boxes by id in an order in which each stands after those before it."""

    def __init__(self, names: Sequence[str], before: Mapping[str, Sequence[str]]) -> None:
        self.bundles = {name: Bundle(name, "one", (name,), tuple(before.get(name, ()))) for name in names}

    def after(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {name: [] for name in self.bundles}
        for name, bundle in self.bundles.items():
            for one in bundle.before:
                found[one].append(name)
        return found

    def fold(self, kind: Literal["alike", "row"], ids: Sequence[str]) -> None:
        """Put boxes into one in the first's place."""
        first, inside = ids[0], set(ids)
        taken = [self.bundles[one] for one in ids]
        members = tuple(name for one in taken for name in one.members)
        before = dict.fromkeys(one for box in taken for one in box.before if one not in inside)
        folded = Bundle(first, kind, members, tuple(before))
        self.bundles = {
            name: folded if name == first else _redirected(bundle, inside, first)
            for name, bundle in self.bundles.items()
            if name == first or name not in inside
        }


def folded(
    names: Sequence[str],
    before: Mapping[str, Sequence[str]],
    *,
    like: Mapping[str, str],
    inputs: Collection[str] = (),
    opened: Collection[str] = (),
) -> list[Bundle]:
    """The boxes to draw, at most `MOST` as far as folding gets there; `like` says what boxes must share to be alike.

    Parameters
    ----------
    names
        In an order in which each stands after those `before` it.
    inputs
        Names that are no steps: a row may read one all along.
    opened
        Ids of folded boxes that are shown member by member; `all` opens every one.

    >>> before = {f"fit-{i}": ["split"] for i in range(99)}
    >>> [(one.id, len(one.members)) for one in folded(["split", *before], before, like=dict.fromkeys(before, "fit"))]
    [('split', 1), ('fit-0', 99)]
    """
    boxes = _Boxes(names, before)
    signs = {name: like.get(name, name) for name in names}
    while len(boxes.bundles) > MOST and "all" not in opened:
        found = [one for one in _alike(boxes, signs) if one[0] not in opened]
        kind: Literal["alike", "row"] = "alike"
        if not found:
            kind = "row"
            found = [one for one in _rows(boxes, inputs) if one[0] not in opened]
        if not found:
            break
        for ids in found:
            sign = " ".join(dict.fromkeys(signs[one] for one in ids))
            signs[ids[0]] = f"{kind} of {sign}"
            boxes.fold(kind, ids)
    return list(boxes.bundles.values())


def _alike(boxes: _Boxes, signs: Mapping[str, str]) -> list[list[str]]:
    """Boxes of one sign between the same others, folded ones too."""
    after = boxes.after()
    found: dict[tuple[str, frozenset[str], frozenset[str]], list[str]] = {}
    for name, bundle in boxes.bundles.items():
        key = (signs[name], frozenset(bundle.before), frozenset(after[name]))
        found.setdefault(key, []).append(name)
    return [ids for ids in found.values() if len(ids) >= _ALIKE]


def _rows(boxes: _Boxes, inputs: Collection[str]) -> list[list[str]]:
    """Rows: each takes from the one before it, and nobody else does. Of the only one, the two ends stay."""
    after = boxes.after()
    following: dict[str, str] = {}
    for name, bundle in boxes.bundles.items():
        own = [one for one in bundle.before if one not in inputs]
        if len(own) == 1 and after[own[0]] == [name]:
            following[own[0]] = name
    rows, inside = [], set(following.values())
    for name in [one for one in following if one not in inside]:
        row = [name]
        while row[-1] in following:
            row.append(following[row[-1]])
        if len(row) >= _ROW:
            rows.append(row)
    return [row[1:-1] for row in rows] if len(rows) == 1 else rows


def _redirected(bundle: Bundle, inside: Collection[str], to: str) -> Bundle:
    if not any(one in inside for one in bundle.before):
        return bundle
    before = dict.fromkeys(to if one in inside else one for one in bundle.before)
    return Bundle(bundle.id, bundle.kind, bundle.members, tuple(before))

"""Where the boxes of a directed graph stand: in layers from left to right, none over another, wires between them.

The usual four parts (Sugiyama, Tagawa, Toda, 1981): layers by the longest way, a place in the wire's layer for each
layer that it crosses, an order within layers by the mean of the neighbours, and heights as near to the neighbours' as
the order allows. All wires of one box share their way, so that a data set that everything reads is one line with branches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

BOX = (180, 50)  # width and height in px
_GAP_X = 36
_GAP_Y = 14
_LANE = 12  # height of a wire that passes through a layer
_SWEEPS = 6
_MARGIN = 12

_Spot = tuple[str, int]  # a box in its layer, or its wire in a later one


@dataclass(frozen=True)
class Drawing:
    """Boxes by their upper left corners, wires as SVG paths, and the size of it all in px."""

    width: int
    height: int
    boxes: Mapping[str, tuple[int, int]]
    wires: tuple[tuple[str, str, str], ...]


def drawn(names: Sequence[str], before: Mapping[str, Sequence[str]]) -> Drawing:
    """Lay out boxes given with each after those `before` it; names that are no box are passed over.

    >>> drawn(["a", "b"], {"b": ["a"]}).boxes
    {'a': (12, 12), 'b': (228, 12)}
    """
    known = set(names)
    before = {name: [one for one in before.get(name, ()) if one in known] for name in names}
    layer = _layers(names, before)
    columns, joined = _with_lanes(names, before, layer)
    _order(columns, joined)
    centre = _heights(columns, joined, layer)
    top = min((at - _size(spot, layer) / 2 for spot, at in centre.items()), default=0)
    at = {spot: round(y - top) + _MARGIN for spot, y in centre.items()}
    boxes = {name: (_x(layer[name]), at[name, layer[name]] - BOX[1] // 2) for name in names}
    wires = tuple(
        (one, name, _path(one, name, layer, at)) for name in names for one in dict.fromkeys(before[name])
    )
    height = max((y + BOX[1] for _, y in boxes.values()), default=0)
    lowest = max(at.values(), default=0)
    return Drawing(
        _x(max(layer.values(), default=0)) + BOX[0] + _MARGIN, max(height, lowest) + _MARGIN, boxes, wires
    )


def _layers(names: Sequence[str], before: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """The longest way to each; what begins a way stands just before what needs it first."""
    layer: dict[str, int] = {}
    for name in names:
        layer[name] = 1 + max((layer[one] for one in before[name]), default=-1)
    first: dict[str, int] = {}
    for name in names:
        for one in before[name]:
            first[one] = min(first.get(one, layer[name]), layer[name])
    return {name: first[name] - 1 if not before[name] and name in first else layer[name] for name in names}


def _with_lanes(
    names: Sequence[str], before: Mapping[str, Sequence[str]], layer: Mapping[str, int]
) -> tuple[list[list[_Spot]], list[tuple[_Spot, _Spot]]]:
    """The spots of each layer, and which of neighbouring layers are joined."""
    columns: list[list[_Spot]] = [[] for _ in range(max(layer.values(), default=0) + 1)]
    for name in names:
        columns[layer[name]].append((name, layer[name]))
    joined: dict[tuple[_Spot, _Spot], None] = {}
    lanes: set[_Spot] = set()
    for name in names:
        for one in before[name]:
            last = (one, layer[one])
            for middle in range(layer[one] + 1, layer[name]):
                spot = (one, middle)
                if spot not in lanes:
                    lanes.add(spot)
                    columns[middle].append(spot)
                joined[last, spot] = None
                last = spot
            joined[last, (name, layer[name])] = None
    return columns, list(joined)


def _order(columns: list[list[_Spot]], joined: Sequence[tuple[_Spot, _Spot]]) -> None:
    """Sort each layer by the mean place of the neighbours, forwards and backwards."""
    left, right = _neighbours(joined)
    place = {spot: float(i) for column in columns for i, spot in enumerate(column)}
    for sweep in range(_SWEEPS):
        beside = right if sweep % 2 else left
        for column in reversed(columns) if sweep % 2 else columns:
            wanted = {
                spot: _mean([place[one] for one in beside.get(spot, ())], place[spot]) for spot in column
            }
            column.sort(key=lambda spot: wanted[spot])
            place.update({spot: float(i) for i, spot in enumerate(column)})


def _heights(
    columns: list[list[_Spot]], joined: Sequence[tuple[_Spot, _Spot]], layer: Mapping[str, int]
) -> dict[_Spot, float]:
    """The middle of each spot: near its neighbours' and apart from those above and below.

    Boxes stay with boxes and wires with wires: else a chain that reads one data set all along drifts off the line.
    """
    left, right = _neighbours(joined)
    centre: dict[_Spot, float] = {}
    for column in columns:
        centre.update(_apart(column, [0.0] * len(column), layer))
    for sweep in range(_SWEEPS):
        beside = right if sweep % 2 else left
        for column in reversed(columns) if sweep % 2 else columns:
            wanted = [_wanted(spot, beside.get(spot, ()), centre, layer) for spot in column]
            centre.update(_apart(column, wanted, layer))
    return centre


def _wanted(
    spot: _Spot, beside: Sequence[_Spot], centre: Mapping[_Spot, float], layer: Mapping[str, int]
) -> float:
    is_box = layer[spot[0]] == spot[1]
    alike = [one for one in beside if (layer[one[0]] == one[1]) == is_box]
    return _mean([centre[one] for one in alike or beside], centre[spot])


def _apart(column: Sequence[_Spot], wanted: Sequence[float], layer: Mapping[str, int]) -> dict[_Spot, float]:
    """The heights nearest to the wanted ones (least squares) in this order and far enough from each other.

    By pooling adjacent violators (Barlow et al., 1972): without the room that each needs, it is a rising sequence.
    """
    offsets: list[float] = []
    bottom = 0.0
    for spot in column:
        size = _size(spot, layer)
        offsets.append(bottom + size / 2)
        bottom += size + _GAP_Y
    blocks: list[tuple[float, int]] = []  # mean and number
    for want, offset in zip(wanted, offsets, strict=True):
        blocks.append((want - offset, 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (a, n), (b, m) = blocks[-2:]
            blocks[-2:] = [((a * n + b * m) / (n + m), n + m)]
    levels = [mean for mean, number in blocks for _ in range(number)]
    return {spot: level + offset for spot, level, offset in zip(column, levels, offsets, strict=True)}


def _neighbours(
    joined: Sequence[tuple[_Spot, _Spot]],
) -> tuple[dict[_Spot, list[_Spot]], dict[_Spot, list[_Spot]]]:
    left: dict[_Spot, list[_Spot]] = {}
    right: dict[_Spot, list[_Spot]] = {}
    for one, other in joined:
        left.setdefault(other, []).append(one)
        right.setdefault(one, []).append(other)
    return left, right


def _path(source: str, target: str, layer: Mapping[str, int], at: Mapping[_Spot, int]) -> str:
    """From the right side of a box to the left side of another, level through each layer in between."""
    x, y = _x(layer[source]) + BOX[0], at[source, layer[source]]
    parts = [f"M{x} {y}"]
    for middle in range(layer[source] + 1, layer[target] + 1):
        end = (target if middle == layer[target] else source, middle)
        half = _GAP_X // 2
        parts.append(f"C{x + half} {y} {x + half} {at[end]} {x + _GAP_X} {at[end]}")
        x, y = x + _GAP_X, at[end]
        if middle < layer[target]:
            x += BOX[0]
            parts.append(f"H{x}")
    return "".join(parts)


def _x(layer: int) -> int:
    return _MARGIN + layer * (BOX[0] + _GAP_X)


def _size(spot: _Spot, layer: Mapping[str, int]) -> int:
    return BOX[1] if layer[spot[0]] == spot[1] else _LANE


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise

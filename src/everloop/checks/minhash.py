"""Which texts are nearly the same as one of many others: MinHash finds candidates, their exact similarity decides.

The similarity of two texts is that of their sets of five-letter pieces (Jaccard: shared / all pieces). MinHash: Broder,
On the resemblance and containment of documents, SEQUENCES 1997; banding: Leskovec, Rajaraman and Ullman, Mining of Massive
Datasets, 3rd edition, section 3.4. A pair of similarity s shares at least one of 12 bands of 5 hashes with probability
1 - (1 - s^5)^12: .99 at .8, .9998 at .9; at .5 it is .32, which the exact similarity sorts out again.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from everloop.checks.columns import NULL, Column, Floats, Values, codes

BANDS, HASHES = 12, 5
_PIECE = 5  # bytes of UTF-8: letters, where letters are Latin
LONGEST = 2_000  # bytes of a text that are looked at
_AT_ONCE = 2_000  # texts hashed together, so that their pieces stay in the processor's cache
_A_BUCKET = 8  # texts of one bucket that become candidates: where there are more they are of one template, and any tells
_TRIED = 3  # candidates of a text whose similarity is computed: those that share most bands with it
_AT_A_TIME = 16_000_000  # pieces of pairs whose similarities are computed together: 128 MB
_THREADS = 2

_random = np.random.default_rng(1)
_FACTORS = _random.integers(0, 2**31, BANDS * HASHES).astype(np.uint32) * np.uint32(2) + np.uint32(1)
_SUMMANDS = _random.integers(0, 2**32, BANDS * HASHES).astype(np.uint32)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: Knuth's multiplicative hash
_MIX = np.uint32(0x85EBCA6B)

Places = npt.NDArray[np.int64]
_Keys = npt.NDArray[np.uint32]  # (BANDS, n_texts)
_Pieces = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Near:
    """Per text its most similar one among the others: the place there (-1 without one) and the similarity."""

    place: Places  # (n_texts,)
    similarity: Floats  # (n_texts,)


def nearest(texts: Column, among: Column, *, at_least: float) -> Near:
    """For each text the most similar of the others, if it is that similar; null and empty texts are like none.

    Both are normalised already. The same texts give the same answer: the hash functions come from a fixed seed.
    """
    (left, wanted), (right, others) = (codes(column) for column in (texts, among))
    first = np.zeros(len(others), np.int64)
    first[right[right != NULL][::-1]] = np.flatnonzero(right != NULL)[::-1]
    found, similarity = _nearest(wanted, others, at_least)
    known = left != NULL
    place = np.full(len(left), NULL, np.int64)
    value = np.zeros(len(left))
    place[known] = found[left[known]]
    value[known] = similarity[left[known]]
    place[place != NULL] = first[place[place != NULL]]
    return Near(place, value)


def _nearest(wanted: Values, others: Values, at_least: float) -> tuple[Places, Floats]:
    """As `nearest`, for distinct texts."""
    place, similarity = np.full(len(wanted), NULL, np.int64), np.zeros(len(wanted))
    if len(wanted) == 0 or len(others) == 0:
        return place, similarity
    mine, theirs = _candidates(_band_keys(wanted), _band_keys(others))
    sizes = _sizes(wanted)[mine] + _sizes(others)[theirs]
    portions = np.flatnonzero(np.diff(np.cumsum(sizes) // _AT_A_TIME)) + 1
    both = zip(np.split(mine, portions), np.split(theirs, portions), strict=True)
    found = np.concatenate([_similarities(wanted, one, others, other) for one, other in both])
    order = np.argsort(found, kind="stable")  # the last assignment to a text wins: the most similar
    order = order[found[order] >= at_least]
    place[mine[order]], similarity[mine[order]] = theirs[order], found[order]
    return place, similarity


def _band_keys(texts: Values) -> _Keys:
    ranges = [(start, min(len(texts), start + _AT_ONCE)) for start in range(0, len(texts), _AT_ONCE)]
    with ThreadPoolExecutor(_THREADS) as threads:
        return np.concatenate(
            list(threads.map(lambda one: _keys_of(texts.slice(one[0], one[1] - one[0])), ranges)), axis=1
        )


def _keys_of(texts: Values) -> _Keys:
    """A number per band and text, (BANDS, n_texts) uint32: the smallest hashes of its pieces, five of them as one."""
    pieces, starts = _pieces(texts)
    hashes = ((pieces * _GOLDEN) >> np.uint64(32)).astype(np.uint32)
    keys = np.zeros((BANDS, len(texts)), np.uint32)
    own, least = np.empty_like(hashes), np.empty(len(texts), np.uint32)
    for number, (factor, summand) in enumerate(zip(_FACTORS, _SUMMANDS, strict=True)):
        np.multiply(hashes, factor, out=own)
        np.add(own, summand, out=own)
        np.minimum.reduceat(own, starts, out=least)
        keys[number // HASHES] = (keys[number // HASHES] ^ least) * _MIX
        keys[number // HASHES] ^= keys[number // HASHES] >> np.uint32(15)
    return keys


def _pieces(texts: Values) -> tuple[_Pieces, Places]:
    """Every five bytes in a row of every text, as numbers, and where each text's begin.

    A text of fewer bytes is one piece, filled up with zeros.
    """
    offsets, content = _bytes(texts)
    sizes = np.minimum(np.diff(offsets), LONGEST)
    number = np.maximum(sizes - _PIECE + 1, 1)
    starts = np.concatenate([[0], np.cumsum(number)[:-1]])
    padded = np.concatenate([content, np.zeros(_PIECE, np.uint8)]).astype(np.uint64)
    windows = padded[: len(content) + 1].copy()
    for step in range(1, _PIECE):
        windows |= padded[step : len(content) + 1 + step] << np.uint64(8 * step)
    places = np.arange(int(number.sum())) + np.repeat(offsets[:-1] - starts, number)
    pieces = windows[places]
    short = sizes < _PIECE
    pieces[starts[short]] &= (np.uint64(1) << (np.uint64(8) * sizes[short].astype(np.uint64))) - np.uint64(1)
    return pieces, starts


def _sizes(texts: Values) -> Places:
    """How many pieces each text has, about."""
    sizes: Places = np.minimum(np.diff(_bytes(texts)[0]), LONGEST)
    return sizes


def _bytes(texts: Values) -> tuple[Places, npt.NDArray[np.uint8]]:
    """The texts' UTF-8 one after the other, and where each begins."""
    plain: Any = texts.cast(pa.large_string())
    _, offsets, content = plain.buffers()
    begins = np.frombuffer(offsets, np.int64)[plain.offset : plain.offset + len(plain) + 1]
    size = int(begins[-1] - begins[0])
    if size == 0:
        return begins - begins[0], np.zeros(0, np.uint8)
    return begins - begins[0], np.frombuffer(content, np.uint8)[begins[0] : begins[-1]]


def _candidates(wanted: _Keys, others: _Keys) -> tuple[Places, Places]:
    """Pairs (of the wanted, of the others) that share a band, those of each text that share most bands."""
    found = [_share(*band) for band in zip(wanted, others, strict=True)]
    mine, theirs = (np.concatenate([pair[side] for pair in found]) for side in (0, 1))
    pairs, bands = np.unique(mine * others.shape[1] + theirs, return_counts=True)
    mine, theirs = pairs // others.shape[1], pairs % others.shape[1]
    order = np.lexsort((theirs, -bands, mine))
    mine, theirs = mine[order], theirs[order]
    keep = _rank(mine) < _TRIED
    return mine[keep], theirs[keep]


def _share(wanted: npt.NDArray[np.uint32], others: npt.NDArray[np.uint32]) -> tuple[Places, Places]:
    """Pairs with the same number in one band; of many others in a bucket the first few."""
    is_wanted = np.zeros(
        2**22, np.bool_
    )  # most of the others are in no bucket of the wanted: told without a search
    is_wanted[wanted & np.uint32(2**22 - 1)] = True
    maybe = np.flatnonzero(is_wanted[others & np.uint32(2**22 - 1)])
    maybe = maybe[np.argsort(others[maybe], kind="stable")]
    maybe = maybe[_rank(others[maybe]) < _A_BUCKET]
    keys = others[maybe]
    begins, ends = (np.searchsorted(keys, wanted, side=side) for side in ("left", "right"))
    number = ends - begins
    mine = np.repeat(np.arange(len(wanted)), number)
    theirs = np.arange(len(mine)) + np.repeat(begins - (np.cumsum(number) - number), number)
    return mine, maybe[theirs]


def _rank(ordered: npt.NDArray[Any]) -> Places:
    """The how manieth of its value each is, in an array in which equal values stand together."""
    begins = (
        np.flatnonzero(np.diff(ordered, prepend=ordered[:1] + 1) != 0)
        if len(ordered)
        else np.zeros(0, np.int64)
    )
    sizes = np.diff(begins, append=len(ordered))
    return np.arange(len(ordered)) - np.repeat(begins, sizes)


def _similarities(wanted: Values, mine: Places, others: Values, theirs: Places) -> Floats:
    """The exact similarity of each pair, (n_pairs,) float64: pieces in both over pieces in either."""
    sides = [_numbered(texts.take(places)) for texts, places in ((wanted, mine), (others, theirs))]
    own = [
        np.bincount((side >> np.uint64(8 * _PIECE)).astype(np.int64), minlength=len(mine)) for side in sides
    ]
    both = np.sort(np.concatenate(sides))
    shared = both[1:][both[1:] == both[:-1]] >> np.uint64(8 * _PIECE)
    in_both = np.bincount(shared.astype(np.int64), minlength=len(mine))
    similarity: Floats = in_both / (own[0] + own[1] - in_both)
    return similarity


def _numbered(texts: Values) -> _Pieces:
    """The distinct pieces of each text, with its number in the bits above them."""
    pieces, starts = _pieces(texts)
    number = np.diff(starts, append=len(pieces))
    pieces |= np.repeat(np.arange(len(texts), dtype=np.uint64), number) << np.uint64(8 * _PIECE)
    pieces.sort()  # np.unique takes ten times as long for these
    distinct: _Pieces = pieces[np.diff(pieces, prepend=pieces[:1] + np.uint64(1)) != 0]
    return distinct

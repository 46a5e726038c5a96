"""The simulated marketplace: what `everloop demo` runs on when no real data is given."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path

from everloop.demo.arrivals import MONTH_1_START, NEW_MERCHANTS_BY_WEEK, Arrival, Town, products_needed
from everloop.demo.categories import CATEGORIES, NODES
from everloop.demo.dice import Dice
from everloop.demo.files import COLUMNS, write
from everloop.demo.listings import Desk, Progress, Row
from everloop.demo.merchants import found_merchants
from everloop.demo.products import stock_shelves
from everloop.demo.reports import BY_SELLERS, DELAY_H, REPORTED, SELLERS_WRONG, reports_on
from everloop.demo.seasons import SEASONAL, WINTER_BY_WEEK
from everloop.demo.seed_labels import CONFLICTS, DUPLICATES, WRONG_LABELS, flawed_labels, originals_of

MARK = "simulation.json"
"""Name of the file that says that a folder holds a simulation, which one, and whether it is finished."""


@dataclass(frozen=True)
class Sizes:
    """Rows of the files and numbers of merchants; `month_2` is a multiple of 4, its weeks being alike."""

    seed_labelled: int
    seed_validation: int
    seed_unlabelled: int
    month_1: int
    month_2: int
    repeated_titles: int
    established_merchants: int
    new_merchants: int


FULL = Sizes(5_000, 900, 3_000, 4_500, 5_200, 1_200, 150, 60)
FAST = Sizes(1_650, 300, 1_000, 1_500, 1_720, 400, 60, 24)


@dataclass(frozen=True)
class Figures:
    """What is true of the simulated marketplace by construction; shares are from 0 to 1."""

    class_column: str = "category"
    levels: tuple[str, ...] = ("department", "family", "category")
    seasonal: tuple[str, ...] = SEASONAL
    season_by_week: tuple[float, ...] = WINTER_BY_WEEK
    new_merchants_by_week: tuple[float, ...] = NEW_MERCHANTS_BY_WEEK
    seed_labels_wrong: float = WRONG_LABELS + CONFLICTS
    seed_conflicts: float = CONFLICTS
    seed_duplicates: float = DUPLICATES
    reported: float = REPORTED
    reports_by_sellers: float = BY_SELLERS
    sellers_wrong: float = SELLERS_WRONG
    delay_h: tuple[float, float] = DELAY_H


@dataclass(frozen=True)
class Shape:
    """The shape of the story that the marketplace is calibrated for: accuracies of text and image together."""

    month_1_at_least: float = 0.92
    week_4_at_most: float = 0.72
    retrained_at_least: float = 0.85
    gain_at_least: float = 0.12


@dataclass(frozen=True)
class Marketplace:
    """A simulated marketplace on disk. `rows` counts those of each file, by name."""

    folder: Path
    seed: int
    sizes: Sizes
    rows: Mapping[str, int]
    figures: Figures = field(default_factory=Figures)
    shape: Shape = field(default_factory=Shape)


def generate(
    folder: Path, *, seed: int = 7, fast: bool = False, on_progress: Progress | None = None
) -> Marketplace:
    """Write a simulated marketplace into `folder`, in the layout of the real one (see `files.COLUMNS`).

    The same seed and size give the same bytes with the same versions of numpy, pillow and pyarrow. `fast` makes a
    third of everything.

    Raises
    ------
    FileExistsError
        The folder holds a file of the same name that no simulation wrote; nothing is changed then.
    """
    sizes = FAST if fast else FULL
    folder.mkdir(parents=True, exist_ok=True)
    _refuse_foreign_files(folder)
    _mark(folder, seed, sizes, is_finished=False)
    files = _files(seed, sizes, on_progress or _in_silence)
    for name in COLUMNS:
        write(folder, name, files[name])
    _mark(folder, seed, sizes, is_finished=True)
    return Marketplace(folder, seed, sizes, {name: len(files[name]) for name in COLUMNS})


def _files(seed: int, sizes: Sizes, on_progress: Progress) -> dict[str, Sequence[Mapping[str, object]]]:
    """The rows of every file."""
    town = _town(seed, sizes)
    desk = Desk(seed, total=_listings(sizes), on_progress=on_progress)
    seed_arrivals = town.everybody(town.seed("seed_labelled", originals_of(sizes.seed_labelled)))
    seed_labelled, seed_truth = _labelled_seed(seed, desk, seed_arrivals, rows=sizes.seed_labelled)
    unlabelled = desk.rows("seed_unlabelled", town.seed("seed_unlabelled", sizes.seed_unlabelled))
    month_1 = desk.rows("month_1", town.month_1(sizes.month_1))
    arrivals_2 = town.month_2(sizes.month_2)
    month_2 = desk.rows("month_2", arrivals_2)
    repeated = town.seed("repeated_titles", sizes.repeated_titles // 4)
    return {
        "seed_labelled": seed_labelled,
        "seed_labelled_truth": seed_truth,
        "seed_validation": desk.rows(
            "seed_validation", town.seed("seed_validation", sizes.seed_validation, held=True)
        ),
        "seed_unlabelled": unlabelled,
        "seed_unlabelled_truth": unlabelled,
        "month_1": month_1,
        "month_1_truth": month_1,
        "month_2": month_2,
        "month_2_truth": month_2,
        "corrections_month_2": _corrections(seed, arrivals_2, month_2),
        "taxonomy": [asdict(one) | {"category_id": one.id, "category": one.name} for one in CATEGORIES],
        "taxonomy_tree": [asdict(node) for node in NODES],
        "repeated_titles": desk.repeated("repeated_titles", repeated, rows=sizes.repeated_titles),
        "examples": [next(row for row in month_1 if row["category"] == one.name) for one in CATEGORIES],
    }


def _town(seed: int, sizes: Sizes) -> Town:
    counts = products_needed(
        seed=sizes.seed_labelled,
        validation=sizes.seed_validation,
        month_1=sizes.month_1,
        month_2=sizes.month_2,
    )
    established, new = found_merchants(seed, established=sizes.established_merchants, new=sizes.new_merchants)
    return Town(seed, established, new, shelves=stock_shelves(seed, counts))


def _listings(sizes: Sizes) -> int:
    """How many listings there are in all files; each has a number of its own."""
    seed = sizes.seed_labelled + sizes.seed_validation + sizes.seed_unlabelled
    return seed + sizes.month_1 + sizes.month_2 + sizes.repeated_titles


def _labelled_seed(
    seed: int, desk: Desk, arrivals: Sequence[Arrival], *, rows: int
) -> tuple[list[Row], list[Row]]:
    """The seed as people labelled it, and the truth about it, both in order of arrival."""
    dice = Dice(seed, "copies of the seed")
    originals = desk.rows("seed_labelled", arrivals)
    labelled = []
    for one in flawed_labels(seed, [arrival.category for arrival in arrivals], rows=rows):
        row = originals[one.listing]
        if one.flaw in ("duplicate", "conflict"):
            end = MONTH_1_START.replace(tzinfo=None) - timedelta(seconds=1)
            row = desk.copied(
                row, received_at=min(end, row["received_at"] + timedelta(hours=1 + dice.below(72)))
            )
        labelled.append((row | {"category": one.label.name}, row | {"flaw": one.flaw}))
    labelled.sort(key=lambda pair: pair[0]["received_at"])
    return [row for row, _ in labelled], [truth for _, truth in labelled]


def _corrections(seed: int, arrivals: Sequence[Arrival], listings: Sequence[Row]) -> list[Row]:
    return [
        {
            "listing_id": listings[one.listing]["listing_id"],
            "category": one.category.name,
            "corrected_at": one.corrected_at.replace(tzinfo=None),
            "reporter": one.reporter,
        }
        for one in reports_on(seed, arrivals)
    ]


def _in_silence(name: str, done: int, total: int) -> None:
    pass


def _mark(folder: Path, seed: int, sizes: Sizes, *, is_finished: bool) -> None:
    about = {"simulated": True, "finished": is_finished, "seed": seed, "rows": asdict(sizes)}
    (folder / MARK).write_text(json.dumps(about, indent=1) + "\n")


def _refuse_foreign_files(folder: Path) -> None:
    foreign = [name for name in COLUMNS if (folder / f"{name}.parquet").exists()]
    if foreign and not (folder / MARK).exists():
        raise FileExistsError(
            f"{folder} holds {foreign[0]}.parquet but no {MARK}; a simulation replaces only files that a simulation "
            "wrote. Give another folder, or move those files away."
        )

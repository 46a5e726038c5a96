"""The simulated marketplace: what `everloop demo` runs on when no real data is given."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

from everloop.demo.arrivals import MONTH_1_START, Arrival, Town
from everloop.demo.categories import CATEGORIES, NODES
from everloop.demo.dice import Dice
from everloop.demo.files import COLUMNS, write
from everloop.demo.listings import Desk, Progress, Row
from everloop.demo.merchants import found_merchants
from everloop.demo.reports import reports_on
from everloop.demo.seed_labels import flawed_labels, originals_of

MARK = "simulation.json"
"""Name of the file that says that a folder holds a simulation, and which one."""


@dataclass(frozen=True)
class Sizes:
    """Rows of the files and numbers of merchants.

    `reported` is the share of month 2 that somebody reports on, whatever a model said about it.
    """

    seed_labelled: int
    seed_validation: int
    seed_unlabelled: int
    month_1: int
    month_2: int
    repeated_titles: int
    established_merchants: int
    new_merchants: int
    reported: float

    @property
    def listings(self) -> int:
        """How many there are in all files; each has a number of its own."""
        seed = self.seed_labelled + self.seed_validation + self.seed_unlabelled
        return seed + self.month_1 + self.month_2 + self.repeated_titles


FULL = Sizes(5_000, 900, 3_000, 4_500, 5_200, 1_200, 150, 400, 0.26)
FAST = Sizes(1_650, 300, 1_000, 1_500, 1_720, 400, 60, 160, 0.5)


@dataclass(frozen=True)
class Figures:
    """What the story has to show on a marketplace; accuracies are shares of right answers.

    Those of week 4 are of listings that nobody ever reported on, by the first model and by one retrained on the
    reports that had come in before the week began.
    """

    month_1_at_least: float
    week_4_without_at_most: float
    week_4_with_at_least: float
    gain_at_least: float


FIGURES = Figures(0.95, 0.72, 0.82, 0.12)
FAST_FIGURES = Figures(0.93, 0.72, 0.80, 0.12)
"""With a third of the listings, and half of them reported on: what is learnt from is less, and so is what is judged."""


def generate(
    folder: Path, *, seed: int = 7, fast: bool = False, on_progress: Progress | None = None
) -> dict[str, int]:
    """Write a simulated marketplace into a new `folder`, in the layout of the real one (see `files.COLUMNS`).

    Returns the rows of each file. The same seed and size give the same rows, and the same pictures with the same
    versions of numpy and pillow. `fast` makes a third of everything.

    Raises
    ------
    FileExistsError
        There is such a folder already.
    """
    folder.mkdir(parents=True)
    sizes = FAST if fast else FULL
    files = _files(seed, sizes, on_progress or _in_silence)
    for name in COLUMNS:
        write(folder, name, files[name])
    about = {"simulated": True, "seed": seed, "sizes": asdict(sizes)}
    (folder / MARK).write_text(json.dumps(about, indent=1) + "\n")
    return {name: len(files[name]) for name in COLUMNS}


def is_simulated(folder: Path) -> bool:
    """Whether `generate` made what is in the folder."""
    return (folder / MARK).exists()


def _files(seed: int, sizes: Sizes, on_progress: Progress) -> dict[str, Sequence[Mapping[str, object]]]:
    """The rows of every file, made in the order of their time: products and merchants appear one after the other."""
    established, new = found_merchants(seed, established=sizes.established_merchants, new=sizes.new_merchants)
    town = Town(seed, established, new)
    desk = Desk(seed, total=sizes.listings, on_progress=on_progress)
    repeated = town.seed("repeated_titles", sizes.repeated_titles // 4)
    labelled, labelled_truth = _seed_labelled(seed, town, desk, rows=sizes.seed_labelled)
    validation = desk.rows("seed_validation", town.seed("seed_validation", sizes.seed_validation, held=True))
    unlabelled = desk.rows("seed_unlabelled", town.seed("seed_unlabelled", sizes.seed_unlabelled))
    month_1 = desk.rows("month_1", town.month_1(sizes.month_1))
    arrivals = town.month_2(sizes.month_2)
    month_2 = desk.rows("month_2", arrivals)
    return {
        "seed_labelled": labelled,
        "seed_labelled_truth": labelled_truth,
        "seed_validation": validation,
        "seed_unlabelled": unlabelled,
        "seed_unlabelled_truth": unlabelled,
        "month_1": month_1,
        "month_1_truth": month_1,
        "month_2": month_2,
        "month_2_truth": month_2,
        "corrections_month_2": _corrections(seed, arrivals, month_2, share=sizes.reported),
        "taxonomy": [asdict(one) | {"category_id": one.id, "category": one.name} for one in CATEGORIES],
        "taxonomy_tree": [asdict(node) for node in NODES],
        "repeated_titles": desk.repeated("repeated_titles", repeated, rows=sizes.repeated_titles),
        "examples": [next(row for row in month_1 if row["category"] == one.name) for one in CATEGORIES],
    }


def _seed_labelled(seed: int, town: Town, desk: Desk, *, rows: int) -> tuple[list[Row], list[Row]]:
    """The seed as people labelled it, and the truth about it, both in order of arrival."""
    dice = Dice(seed, "copies of the seed")
    arrivals = town.seed("seed_labelled", originals_of(rows))
    originals = desk.rows("seed_labelled", arrivals)
    labelled = []
    for one in flawed_labels(seed, [arrival.product.category for arrival in arrivals], rows=rows):
        row = originals[one.listing]
        if one.flaw in ("duplicate", "conflict"):
            end = MONTH_1_START.replace(tzinfo=None) - timedelta(seconds=1)
            later = row["received_at"] + timedelta(hours=1 + dice.below(72))
            row = desk.copied(row, received_at=min(end, later))
        labelled.append((row | {"category": one.label.name}, row | {"flaw": one.flaw}))
    labelled.sort(key=lambda pair: pair[0]["received_at"])
    return [row for row, _ in labelled], [truth for _, truth in labelled]


def _corrections(
    seed: int, arrivals: Sequence[Arrival], listings: Sequence[Row], *, share: float
) -> list[Row]:
    return [
        {
            "listing_id": listings[one.listing]["listing_id"],
            "category": one.category.name,
            "corrected_at": one.corrected_at.replace(tzinfo=None),
            "reporter": one.reporter,
        }
        for one in reports_on(seed, arrivals, share=share)
    ]


def _in_silence(name: str, done: int, total: int) -> None:
    pass

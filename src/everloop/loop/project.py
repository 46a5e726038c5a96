"""The files of a new project: a loop file to read and change, made from what a table is about."""

from __future__ import annotations

import json
import keyword
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from everloop.errors import Conflict, StorageFailed
from everloop.loop.facts import plain_name
from everloop.loop.guess import Guess, Kind

LOOP_FILE = "loop.py"
CLASSES_FILE = "classes.csv"
REQUEST_FILE = "request.json"
_CLASSES_SHOWN = 20  # more of them stand in a file of their own
_MIN_DF_FROM = 1_000  # rows from which on a word has to occur twice to count
# Trees are grown for each class, each with a barrier between threads: on a busy machine 1,000 of them took 217 s.
_TREES_UP_TO = 5
_EXACT_UP_TO = 2_000_000  # rows times classes: from here on the linear model is fitted row by row


_CONSTANTS: dict[str, Kind] = {
    "NUMBERS": "number",
    "CATEGORIES": "category",
    "TEXTS": "text",
    "IMAGES": "image",
}


@dataclass(frozen=True)
class Names:
    """What a project calls its things."""

    dataset: str
    label: str


def names_for(file: Path, found: Guess) -> Names:
    return Names(_name(file.stem, "rows"), _name(found.label, "label"))


def loop_file(file: str, found: Guess, names: Names) -> str:
    """The text of the loop file: formatted, typed, and commented for a reader who sees one for the first time."""
    is_table = not {"text", "image"} & {one.kind for one in found.inputs}
    has_trees = is_table and len(found.per_class) <= _TREES_UP_TO
    top = [_head(file, found), _imports(found, has_trees=has_trees), _data(found, names), _columns(found)]
    trees = _fit_trees(found) if has_trees else ""
    rest = [
        _steps(found),
        _fit_linear(found),
        trees,
        _pipeline(found, has_trees=has_trees),
        _delivery(found, names),
    ]
    return "\n".join(top) + "".join(rest)


def minimal_loop_file() -> str:
    """A loop file without a table, with everything to fill in."""
    return _MINIMAL


def classes_file(found: Guess) -> str | None:
    """The taxonomy as CSV where there are too many classes for the loop file; None where there are not."""
    if len(found.per_class) <= _CLASSES_SHOWN:
        return None
    rows = [name.replace('"', '""') for name in found.per_class]
    return "name\n" + "".join(f'"{name}"\n' for name in rows)


def request_file(inputs: dict[str, Any], key: str) -> str:
    """The body of a request for a prediction."""
    return json.dumps({"inputs": inputs, "key": key}, indent=2, ensure_ascii=False) + "\n"


def check_free(folder: Path, names: Iterable[str], *, force: bool) -> None:
    """Raises Conflict when one of the files is there already and may not be overwritten."""
    there = [name for name in names if (folder / name).exists()]
    if there and not force:
        raise Conflict(
            f"{folder / there[0]} is there already; a file of yours is not overwritten. "
            "Name another folder with --into DIR, or write it again with --force."
        )


def write(folder: Path, files: dict[str, str]) -> None:
    """Write the files, the folder too if it is missing. Raises StorageFailed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageFailed(
            f"{folder} cannot be written: {error.strerror}. Name a folder that can, with --into DIR."
        ) from error


def _name(text: str, otherwise: str) -> str:
    name = re.sub(r"^[^a-z]+", "", plain_name(text))[:60]
    return name if name and not keyword.iskeyword(name) else otherwise


def _quoted(text: str) -> str:
    """The text as the formatter would write it: in double quotes, unless single ones need fewer escapes."""
    written = json.dumps(text, ensure_ascii=False)
    if text.count('"') <= text.count("'"):
        return written
    return "'" + written[1:-1].replace('\\"', '"').replace("'", "\\'") + "'"


def _list(names: Sequence[str], *, indent: int = 0) -> str:
    """One name a line: so that a name can be taken out by deleting its line."""
    space = " " * indent
    return "[\n" + "".join(f"{space}    {_quoted(name)},\n" for name in names) + f"{space}]"


def _comment(text: str) -> str:
    """Comment lines of at most 88 characters."""
    lines, line = [], "#"
    for word in text.split():
        if len(line) + len(word) + 1 > 88 and line != "#":
            lines.append(line)
            line = "#  "
        line += f" {word}"
    return "\n".join([*lines, line]) + "\n"


def _head(file: str, found: Guess) -> str:
    return (
        f'"""Predicts {_plain(found.label)} from {_plain(file)}. Written by everloop init, yours to change.\n\n'
        "After a change: everloop apply loop.py, then everloop run train.\n"
        '"""\n\n'
        '# mypy: disable-error-code="import-untyped"\n'
        "# (scikit-learn ships no types)\n\n"
        "from __future__ import annotations\n"
    )


def _plain(text: str) -> str:
    """The text as it may stand in a docstring."""
    return text.replace("\\", "/").replace('"', "'")


def _imports(found: Guess, *, has_trees: bool) -> str:
    has = {one.kind for one in found.inputs}
    preprocessing = []
    if "category" in has:
        preprocessing += ["OneHotEncoder", *(["OrdinalEncoder"] if has_trees else [])]
    if has & {"number", "image"}:
        preprocessing.append("StandardScaler")
    names = {
        "sklearn.compose": ["ColumnTransformer"],
        "sklearn.ensemble": ["HistGradientBoostingClassifier"] if has_trees else [],
        "sklearn.feature_extraction.text": ["TfidfVectorizer"] if "text" in has else [],
        "sklearn.impute": ["SimpleImputer"] if "number" in has else [],
        "sklearn.linear_model": ["LogisticRegression" if _is_exact(found) else "SGDClassifier"],
        "sklearn.pipeline": ["make_pipeline"],
        "sklearn.preprocessing": preprocessing,
    }
    lines = [f"from {module} import {', '.join(used)}" for module, used in names.items() if used]
    return "\n".join(["import everloop as el", *lines]) + "\n"


def _data(found: Guess, names: Names) -> str:
    key = found.key_name
    why = "" if found.key else ", which everloop init made from the row's content"
    out = _comment(f"{key} names a row{why}.") + _comment(
        "Inputs are what a request will carry; no other column reaches a model."
    )
    out += f"table = el.dataset(\n    {_quoted(names.dataset)},\n    key={_quoted(key)},\n"
    out += f"    time={_quoted(found.time)},\n" if found.time else ""
    out += f"    inputs={_list([one.column for one in found.inputs], indent=4)},\n)\n"
    left = [one for one in found.columns if one.role in ("left out", "group")]
    out += "".join(_comment(f"{one.column} is no input: {one.reason}.") for one in left)
    classes = _quoted(CLASSES_FILE) if classes_file(found) else _list(list(found.per_class), indent=4)
    out += "\n" + _comment("What is to be predicted. Corrections by a moderator count without a review.")
    out += f"labels = el.label_set(\n    {_quoted(names.label)},\n    of=table,\n    classes={classes},\n"
    return out + '    reports={"moderator": "accept"},\n)\n'


def _columns(found: Guess) -> str:
    lists = [
        f"{constant} = {_list(columns)}\n"
        for constant, kind in _CONSTANTS.items()
        if (columns := [one.column for one in found.inputs if one.kind == kind])
    ]
    return "".join(lists)


def _steps(found: Guess) -> str:
    by = f"by={_quoted(found.group)}, " if found.group else ""
    why = f"; rows that share a {_plain(found.group)} stay together" if found.group else ""
    return f'''

@el.step
def split(rows: el.Table, labels: el.Table) -> el.Split:
    """A fifth is kept aside to judge models on{why}."""
    return el.split(rows, labels, {by}test=0.2)


def positions(data: el.Split, names: list[str]) -> list[int]:
    return [data.position(name) for name in names]
'''


def _fit_linear(found: Guess) -> str:
    has = {one.kind for one in found.inputs}
    makers, used = [], []
    if "number" in has:
        makers.append('numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())')
        used.append('("numbers", numbers, positions(data, NUMBERS)),')
    if "category" in has:
        makers.append(
            _call("categories = OneHotEncoder", 'handle_unknown="infrequent_if_exist"', "max_categories=100")
        )
        used.append('("categories", categories, positions(data, CATEGORIES)),')
    if "text" in has:
        makers.append(_words(found))
        used.append('*[(f"text{n}", words, data.position(name)) for n, name in enumerate(TEXTS)],')
    if "image" in has:
        makers.append("pixels = make_pipeline(el.ImageFeatures(), StandardScaler())")
        used.append('("images", pixels, positions(data, IMAGES)),')
    if _is_exact(found):
        makers.append("model = LogisticRegression(C=c, max_iter=1000)")
    else:
        options = ('loss="log_loss"', "alpha=1e-5 / c", "max_iter=20", "random_state=0")
        makers.append(_call("model = SGDClassifier", *options))
    return _step(
        "fit_linear",
        "c: float",
        "A weight for every number, category and word; a larger c fits closer.",
        makers,
        used,
    )


def _fit_trees(found: Guess) -> str:
    has = {one.kind for one in found.inputs}
    makers, used = [], []
    if "number" in has:
        used.append('("numbers", "passthrough", positions(data, NUMBERS)),')
    if "category" in has:
        options = ('handle_unknown="use_encoded_value"', "unknown_value=-1", "max_categories=200")
        makers.append(_call("categories = OrdinalEncoder", *options))
        used.append('("categories", categories, positions(data, CATEGORIES)),')
    makers.append(
        _call(
            "model = HistGradientBoostingClassifier",
            "learning_rate=learning_rate",
            "max_iter=60",
            "random_state=0",
        )
    )
    return _step(
        "fit_trees",
        "learning_rate: float",
        "Many small trees: they see steps and combinations.",
        makers,
        used,
    )


def _words(found: Guess) -> str:
    min_df = 2 if found.rows >= _MIN_DF_FROM else 1
    words = f"TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df={min_df})"
    if any(one.kind == "text" and one.has_missing for one in found.inputs):
        return _call("words = make_pipeline", "el.FilledText()", words)
    return f"words = {words}"


def _call(beginning: str, *arguments: str) -> str:
    """A call with an argument a line, in a function's body."""
    return f"{beginning}(\n" + "".join(f"        {one},\n" for one in arguments) + "    )"


def _step(name: str, parameter: str, says: str, makers: Sequence[str], used: Sequence[str]) -> str:
    return (
        f'\n\n@el.step\ndef {name}(data: el.Split, {parameter}) -> el.Model:\n    """{says}"""\n'
        + "".join(f"    {one}\n" for one in makers)
        + "    columns = ColumnTransformer(\n        [\n"
        + "".join(f"            {one}\n" for one in used)
        + "        ]\n    )\n    return el.fit(make_pipeline(columns, model), data)\n"
    )


def _pipeline(found: Guess, *, has_trees: bool) -> str:
    tried = [f"fit_linear(data, {c})" for c in ((1.0, 20.0) if _is_exact(found) else (1.0,))]
    tried += ["fit_trees(data, 0.2)"] if has_trees else []
    return (
        "\n\n@el.pipeline\ndef train() -> el.Model:\n"
        "    data = split(table, labels)\n"
        "    return el.best(\n        [\n"
        + "".join(f"            {one},\n" for one in tried)
        + '        ],\n        by="macro_f1",\n    )\n'
    )


def _delivery(found: Guess, names: Names) -> str:
    least = math.ceil(found.majority_macro_f1 * 100 + 0.5) / 100
    most = _plain(next(iter(found.per_class))[:40])
    return f'''

# Checks for leakage, duplicates, schema and classes are on without being named.
model = el.model(
    "{names.label}",
    train,
    approve=el.people(1),
    gates=[
        # always answering {most!r} reaches a macro F1 of {found.majority_macro_f1:.3f}
        el.gate("macro_f1", at_least={least}),
        el.gate("macro_f1", below_live_by_at_most=0.02),
    ],
)

# A new version gets 10 % of the traffic first; a judge moves it on or takes it back.
live = el.endpoint(
    "{names.label}",
    model,
    rollout=el.canary(10, 25, 50, 100),
    watch=[el.drift(), el.accuracy(audit=0.02), el.latency(p99_ms=100)],
)

el.retrain(model, when=el.drifted(live) & el.contradicted(live, 30), cooldown_h=24)
'''


def _is_exact(found: Guess) -> bool:
    return found.rows * len(found.per_class) <= _EXACT_UP_TO


_MINIMAL = '''"""A loop to fill in: change what stands in capital letters, then run

everloop apply loop.py
everloop data ingest rows FILE.csv
everloop labels import label FILE.csv --key ID --value LABEL --annotator WHO
everloop run train
"""

# mypy: disable-error-code="import-untyped"
# (scikit-learn ships no types)

from __future__ import annotations

import everloop as el
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

# ID names a row for good. Inputs are what a request will carry.
table = el.dataset(
    "rows",
    key="ID",
    inputs=["TEXT"],
)

# What is to be predicted: the names of the classes, or a CSV file with a column "name".
labels = el.label_set(
    "label",
    of=table,
    classes=["CLASS A", "CLASS B"],
)


@el.step
def split(rows: el.Table, labels: el.Table) -> el.Split:
    """A fifth is kept aside to judge models on; by="COLUMN" keeps its rows together."""
    return el.split(rows, labels, test=0.2)


@el.step
def fit(data: el.Split, c: float) -> el.Model:
    """Any scikit-learn estimator will do; columns are named by their position."""
    words = TfidfVectorizer(sublinear_tf=True)
    columns = ColumnTransformer([("text", words, data.position("TEXT"))])
    return el.fit(make_pipeline(columns, LogisticRegression(C=c, max_iter=1000)), data)


@el.pipeline
def train() -> el.Model:
    data = split(table, labels)
    return el.best([fit(data, 1.0), fit(data, 20.0)], by="macro_f1")


# Checks for leakage, duplicates, schema and classes are on without being named.
model = el.model(
    "label",
    train,
    approve=el.people(1),
    gates=[el.gate("macro_f1", at_least=0.5)],
)

live = el.endpoint(
    "label",
    model,
    rollout=el.canary(10, 25, 50, 100),
    watch=[el.drift(), el.accuracy(audit=0.02), el.latency(p99_ms=100)],
)

el.retrain(model, when=el.drifted(live) & el.contradicted(live, 30), cooldown_h=24)
'''

"""everloop-ci.toml: what it may say, and where its files are."""

from __future__ import annotations

from pathlib import Path

import pytest

from everloop.ci.data_files import DataFile, LabelFile, located, read_sources
from everloop.errors import Invalid, NotFound
from tests.ci.project import DATA


def stated(folder: Path, text: str) -> Path:
    (folder / "everloop-ci.toml").write_text(text)
    return folder


def test_it_names_files_and_labels_by_their_columns(tmp_path: Path) -> None:
    found = read_sources(stated(tmp_path, DATA + "skip_unknown = true\n[params.train]\nc = 2\n"))
    assert found is not None
    assert found.data == (DataFile("people", "people.csv"),)
    assert found.labels == (LabelFile("left", "people.csv", "id", "left", skip_unknown=True),)
    assert found.params == {"train": {"c": 2}}


def test_without_it_nothing_is_named(tmp_path: Path) -> None:
    assert read_sources(tmp_path) is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[data.people", "is not valid TOML"),
        ("[dta.people]\nfile = 'x'", "says 'dta', which means nothing here. Did you mean 'data'?"),
        (
            "[data.people]\nfiel = 'x'",
            r"\[data.people\] says 'fiel', which means nothing here. Did you mean 'file'",
        ),
        ("[data.people]", r"\[data.people\] does not say file; it is a text"),
        ("[data.people]\nfile = 3", "does not say file"),
        ("data = 3", "data holds no table"),
        (
            "[data]\npeople = 'x'",
            r"data holds no table 'people'; each of them is one, such as \[data.customers\]",
        ),
        ("[labels.left]\nfile = 'x'\nkey = 'id'", r"\[labels.left\] does not say value"),
        (DATA + "skip_unknown = 'yes'", "skip_unknown is 'yes'; it is true or false"),
    ],
)
def test_a_mistake_in_it_is_told(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(Invalid, match=told):
        read_sources(stated(tmp_path, text))


def test_a_file_that_is_not_on_the_base_is_the_changes(tmp_path: Path) -> None:
    base, change = tmp_path / "base", tmp_path / "change"
    base.mkdir()
    change.mkdir()
    found = read_sources(stated(base, DATA))
    assert found is not None
    with pytest.raises(NotFound, match=r"names people.csv, which is not in .*change.*has to be fetched"):
        located(found, base, change)
    (change / "people.csv").write_text("id\n1\n")
    assert located(found, base, change).data[0].file == str(change / "people.csv")
    (base / "people.csv").write_text("id\n2\n")
    assert located(found, base, change).data[0].file == str(base / "people.csv")


def test_other_bytes_another_column_and_other_images_are_other_data(tmp_path: Path) -> None:
    found = read_sources(stated(tmp_path, DATA.replace("people.csv", "rows")))
    assert found is not None
    seen = []
    (tmp_path / "rows").mkdir()
    for text in ("1", "2", "1"):
        (tmp_path / "rows" / "a.png").write_text(text)
        seen.append(located(found, tmp_path, tmp_path).digests())
    assert seen[0] == seen[2] != seen[1]
    (tmp_path / "rows" / "b.png").write_text("1")
    assert located(found, tmp_path, tmp_path).digests() != seen[0]

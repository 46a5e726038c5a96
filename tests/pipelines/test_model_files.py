from __future__ import annotations

import functools
import importlib
import io
import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from blake3 import blake3

from everloop.errors import GateFailed, Invalid
from everloop.features import FeatureView
from everloop.features.images import ImageFeatures
from everloop.ids import new_id
from everloop.pipelines.example import example_of
from everloop.pipelines.fitting import fit
from everloop.pipelines.model_files import estimator_bytes, read_model, write_model
from everloop.pipelines.value_files import load, save
from everloop.pipelines.values import Model, Split, field_of, with_facts, with_features
from everloop.serving import Field, Manifest, Predictor, untrusted_types
from everloop.storage import FileBlobs
from tests.conftest import START
from tests.features.test_images import picture
from tests.pipelines.test_value_files import bytes_in


@pytest.fixture(scope="module", autouse=True)
def _scikit_learn() -> None:
    """So that no test's own time holds the seconds of the import."""
    importlib.import_module("sklearn.ensemble")
    importlib.import_module("skops.io")


def a_split() -> Split:
    table = pa.table(
        {
            "_row_id": range(40),
            # words that are keys of skops' own dictionaries
            "title": [("file __id__ rose", "__loader__ content sky")[n % 2] + f" {n % 5}" for n in range(40)],
            "price": pa.array([None if n == 3 else float(n % 2 * 10 + n % 3) for n in range(40)]),
            "sold": [n % 4 for n in range(40)],
            "label": [("flower", "blue")[n % 2] for n in range(40)],
        }
    )
    table = with_features(table, {"volume": pa.array([n % 7 for n in range(40)])})
    return Split(table.slice(0, 30), table.slice(30), ("title", "price", "sold"), features=("volume",))


def estimators(data: Split) -> dict[str, Any]:
    """Estimators that hold what is hard to keep: vocabularies, sets, trees, losses, random states, nulls."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import MultinomialNB
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline

    def with_numbers(last: Any) -> Any:
        text = TfidfVectorizer(stop_words="english", token_pattern=r"\S+")
        number = make_pipeline(SimpleImputer())
        columns = [data.position(name) for name in ("price", "sold", "volume")]
        both = [("text", text, data.position("title")), ("numbers", number, columns)]
        return make_pipeline(ColumnTransformer(both, sparse_threshold=0), last)

    words = ColumnTransformer([("text", CountVectorizer(stop_words=["a", "the"]), data.position("title"))])
    return {
        "logistic": with_numbers(LogisticRegression()),
        "forest": with_numbers(RandomForestClassifier(5, random_state=np.random.RandomState(3))),
        "boosting": with_numbers(
            HistGradientBoostingClassifier(max_iter=5, min_samples_leaf=2, random_state=0)
        ),
        "neighbours": with_numbers(KNeighborsClassifier()),
        "bayes": make_pipeline(words, MultinomialNB()),
        "calibrated": with_numbers(CalibratedClassifierCV(LogisticRegression(), cv=2)),
    }


NAMES = ["logistic", "forest", "boosting", "neighbours", "bayes", "calibrated"]


VOLUME = FeatureView(
    name="volume",
    dataset="flowers",
    entity="title",
    time="at",
    window_s=60,
    columns={"title": "string", "at": "time"},
    module="loop",
    function="volume",
    source_digest="0" * 64,
    dtype="integer",
)


def fitted(name: str) -> Model:
    data = a_split()
    return fit(estimators(data)[name], data)


@functools.cache
def known(name: str) -> Model:
    """A model that was fitted once, for tests that only look at it."""
    return fitted(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_that_was_read_back_answers_as_before(tmp_path: Path, name: str) -> None:
    model = known(name)
    save(model, tmp_path / "v")
    found = load(tmp_path / "v")
    x = a_split().x_test
    np.testing.assert_array_equal(found.estimator.predict_proba(x), model.estimator.predict_proba(x))
    np.testing.assert_array_equal(found.estimator.predict(x), model.estimator.predict(x))
    assert (found.signature, found.feature_fields) == (model.signature, model.feature_fields)
    assert (found.metrics, found.split_ref) == (model.metrics, model.split_ref)
    assert found.evaluation.equals(model.evaluation)
    assert found.per_class.equals(model.per_class)


def test_an_estimator_is_read_when_it_is_asked_for(tmp_path: Path) -> None:
    save(known("logistic"), tmp_path)
    (tmp_path / "model" / "model.skops").write_bytes(b"PK no zip")
    found = load(tmp_path)
    assert found.metrics == known("logistic").metrics
    with pytest.raises(Invalid, match="is no skops file"):
        _ = found.estimator


@pytest.mark.parametrize("name", NAMES)
def test_the_same_fit_gives_the_same_bytes(tmp_path: Path, name: str) -> None:
    save(fitted(name), tmp_path / "one")
    keep_busy = [object() for _ in range(1_000)]  # so that addresses in memory differ
    save(fitted(name), tmp_path / "other")
    assert bytes_in(tmp_path / "one") == bytes_in(tmp_path / "other")
    del keep_busy


@pytest.mark.parametrize("name", NAMES)
def test_saving_what_was_loaded_gives_the_same_bytes(tmp_path: Path, name: str) -> None:
    save(known(name), tmp_path / "one")
    save(load(tmp_path / "one"), tmp_path / "again")
    assert bytes_in(tmp_path / "one") == bytes_in(tmp_path / "again")


def test_another_process_with_another_hash_seed_gives_the_same_bytes() -> None:
    program = (
        "from blake3 import blake3\n"
        "from sklearn.feature_extraction.text import CountVectorizer\n"
        "from everloop.pipelines.model_files import estimator_bytes\n"
        "words = CountVectorizer(stop_words=['a', 'the', 'of', 'and']).fit(['one two', 'two three'])\n"
        "words.set_ = {'x', 'y', 'z', 'w'}\n"
        "print(blake3(estimator_bytes(words)).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            check=True,
            text=True,
            timeout=100,
            env={"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_objects_that_were_one_are_one_again(tmp_path: Path) -> None:
    import skops.io
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    inner = LogisticRegression()
    found = skops.io.loads(estimator_bytes(make_pipeline(inner, inner, LogisticRegression())))
    assert found[0] is found[1]
    assert found[0] is not found[2]


def test_whether_equal_texts_were_one_object_makes_no_difference() -> None:
    from sklearn.linear_model import LogisticRegression

    text = "a text made at run time, not interned"
    copy = "".join(list(text))
    assert copy is not text
    one, two = LogisticRegression(), LogisticRegression()
    one.notes, two.notes = [text, text], [text, copy]
    assert estimator_bytes(one) == estimator_bytes(two)


def test_nothing_in_the_file_is_dated() -> None:
    with zipfile.ZipFile(io.BytesIO(estimator_bytes(known("logistic").estimator))) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_the_folder_has_mlflow_s_layout(tmp_path: Path) -> None:
    write_model(known("forest"), tmp_path)
    described = yaml.safe_load((tmp_path / "MLmodel").read_text())
    assert "everloop" not in (tmp_path / "requirements.txt").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {
        "MLmodel", "model.skops", "requirements.txt", "python_env.yaml", "conda.yaml",
        "input_example.json", "serving_input_example.json",
    }  # fmt: skip
    assert described["flavors"]["python_function"]["loader_module"] == "mlflow.sklearn"
    assert described["flavors"]["sklearn"]["serialization_format"] == "skops"
    assert described["flavors"]["sklearn"]["skops_trusted_types"] == [
        "numpy.dtype",
        "sklearn.tree._tree.Tree",
    ]
    assert len(described["model_uuid"]) == 32
    assert json.loads(described["signature"]["inputs"]) == [
        {"type": "string", "name": "title", "required": True},
        {"type": "double", "name": "price", "required": False},
        {"type": "long", "name": "sold", "required": True},
        {"type": "long", "name": "volume", "required": True},
    ]
    assert json.loads(described["signature"]["outputs"]) == [
        {"type": "tensor", "tensor-spec": {"dtype": "object", "shape": [-1]}}
    ]


def test_the_example_is_nobody_s_row(tmp_path: Path) -> None:
    model = known("forest")
    assert model.example == {"title": "text", "price": 2.0, "sold": 1, "volume": 3}
    write_model(model, tmp_path)
    assert read_model(tmp_path).example == model.example
    assert json.loads((tmp_path / "input_example.json").read_text())["data"] == [["text", 2.0, 1, 3]]


@pytest.mark.parametrize(
    ("texts", "personal", "shown"),
    [
        (["tea"] * 5 + ["pen"] * 4, [], "tea"),
        (["tea"] * 4 + ["pen"] * 4, [], "text"),
        (["jo@example.org"] * 9, [], "text"),
        ([None, *["Jo"] * 9], ["title"], None),
        (["Jo"] * 9, ["title"], "no example"),
    ],
)
def test_an_example_tells_no_text_of_a_few_people_and_nothing_personal(
    texts: list[str | None], personal: list[str], shown: str | None
) -> None:
    table = pa.table(
        {"_row_id": range(12), "title": [*texts, *["pen"] * (12 - len(texts))], "label": range(12)}
    )
    table = with_facts(table, personal=personal)
    data = Split(table.slice(0, len(texts)), table.slice(len(texts)), ("title",))
    found = example_of(data, (field_of(data, "title"),))
    assert ("no example" if found is None else found["title"]) == shown


def test_a_whole_number_that_may_be_missing_is_a_float_to_mlflow(tmp_path: Path) -> None:
    model = known("logistic")
    gaps = replace(model, feature_fields=(Field("volume", "integer", nullable=True),))
    write_model(gaps, tmp_path)
    described = yaml.safe_load((tmp_path / "MLmodel").read_text())
    assert json.loads(described["signature"]["inputs"])[-1] == {
        "type": "double", "name": "volume", "required": False
    }  # fmt: skip


def test_a_regressor_gives_numbers(tmp_path: Path) -> None:
    from sklearn.dummy import DummyRegressor

    data = a_split()
    model = fit(DummyRegressor(), Split(data.train, data.test, ("title",), label="sold"))
    save(model, tmp_path / "v")
    assert load(tmp_path / "v").per_class is None
    described = yaml.safe_load((tmp_path / "v" / "model" / "MLmodel").read_text())
    assert '"dtype": "float64"' in described["signature"]["outputs"]


@pytest.mark.parametrize("name", ["logistic", "boosting"])
def test_the_data_plane_serves_the_folder(tmp_path: Path, name: str) -> None:
    model = known(name)
    (tmp_path / "model").mkdir()
    write_model(model, tmp_path / "model")
    files = {}
    for path in (tmp_path / "model").iterdir():
        files[path.name] = digest = blake3(path.read_bytes()).hexdigest()
        (tmp_path / "blobs" / digest[:2]).mkdir(parents=True, exist_ok=True)
        (tmp_path / "blobs" / digest[:2] / digest[2:]).write_bytes(path.read_bytes())
    manifest = Manifest(
        id=new_id("rel"),
        model="colour",
        version=1,
        digest="0" * 64,
        files=files,
        signature=model.signature,
        created_at=START,
        features=(VOLUME,),
        trusted_types=tuple(untrusted_types((tmp_path / "model" / "model.skops").read_bytes())),
    )
    outputs, scores = Predictor.load(manifest, FileBlobs(tmp_path / "blobs")).predict(a_split().x_test)
    assert outputs == model.evaluation["predicted"].to_pylist()
    assert [max(one.values()) for one in scores] == model.evaluation["score"].to_pylist()


def test_a_function_of_the_users_own_is_refused_when_it_is_saved(tmp_path: Path) -> None:
    from sklearn.preprocessing import FunctionTransformer

    model = replace(known("logistic"), load=lambda: FunctionTransformer(bytes_in))
    with pytest.raises(GateFailed, match=r"test_value_files\.bytes_in"):
        write_model(model, tmp_path)


def test_an_estimator_that_skops_cannot_save_is_refused(tmp_path: Path) -> None:
    from sklearn.cluster import Birch

    with pytest.raises(Invalid, match="Birch cannot be saved"):
        estimator_bytes(Birch())


@pytest.mark.parametrize("broken", ["missing", "not yaml", "other", "no skops"])
def test_a_folder_that_is_no_model_is_refused(tmp_path: Path, broken: str) -> None:
    write_model(known("logistic"), tmp_path)
    if broken == "missing":
        (tmp_path / "model.skops").unlink()
    elif broken == "no skops":
        (tmp_path / "model.skops").write_bytes(b"PK no zip")
    else:
        (tmp_path / "MLmodel").write_text("a: [" if broken == "not yaml" else "flavors: {}")
    with pytest.raises(Invalid, match=r"is no model that everloop wrote|is no skops file"):
        read_model(tmp_path).load()


def test_a_model_of_photos_is_kept_with_its_audited_type(tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    colours = ["red", "blue"] * 6
    images = [picture(colour, shape=("round", "square")[n % 3 == 0]) for n, colour in enumerate(colours)]
    table = pa.table({"_row_id": range(12), "image": pa.array(images, pa.large_binary()), "label": colours})
    data = Split(table.slice(0, 8), table.slice(8), ("image",))
    model = fit(make_pipeline(ImageFeatures(), LogisticRegression()), data)
    assert model.signature.inputs == (Field("image", "image"),)
    write_model(model, tmp_path)
    assert "everloop.features.images.ImageFeatures" in (tmp_path / "MLmodel").read_text()
    assert f"everloop=={metadata.version('everloop')}" in (tmp_path / "requirements.txt").read_text()
    assert read_model(tmp_path).load().predict(data.x_test).tolist() == colours[8:]
    assert not (tmp_path / "input_example.json").exists()

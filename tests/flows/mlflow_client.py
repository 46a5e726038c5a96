"""What an mlflow client does, run in an environment of its own: `python mlflow_client.py log FOLDER`, or `read FOLDER ROWS`.

`log` saves a model of each kind with its expected answers in expected.json; `read` prints what mlflow answers of a folder.
"""

from __future__ import annotations

import json
import operator
import shutil
import sys
from pathlib import Path
from typing import Any

import cloudpickle
import lightgbm
import mlflow.lightgbm
import mlflow.onnx
import mlflow.pyfunc
import mlflow.sklearn
import mlflow.xgboost
import numpy as np
import pandas as pd
import skl2onnx
import xgboost
from mlflow.models import infer_signature
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

PACKAGES = ["scikit-learn"]  # given, so that no client guesses them by loading the model in another process


class Doubled(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        return model_input["price"] * 2


class Spy(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Answers what it can reach: the title of a row is a Python expression."""

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        return [_tried(text) for text in model_input["title"]]


def _tried(expression: str) -> str:
    try:
        return str(eval(expression))  # noqa: S307  (it is what the test is about)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001
        return f"{type(error).__name__}: {error}"


class Bomb:
    """A pickle that writes a file while it is loaded."""

    def __init__(self, traces: Path) -> None:
        self.program = f"open({str(traces)!r}, 'w').close()"

    def __reduce__(self) -> Any:
        return exec, (self.program,)


def log(folder: Path) -> None:
    iris = load_iris(as_frame=True)
    flowers, kinds = iris.data, iris.target
    goods = pd.DataFrame(
        {
            "title": ["red tea", "green tea", "old pen", "steel pen"] * 5,
            "price": [1.0, 2.0, 3.0, 4.0] * 5,
            "kind": ["a", "b"] * 10,
        }
    )
    names = np.array(["drink", "drink", "other", "other"] * 5)
    columns = make_column_transformer(
        (TfidfVectorizer(), "title"), (StandardScaler(), ["price"]), (OneHotEncoder(), ["kind"])
    )
    forest = RandomForestClassifier(10, random_state=0).fit(flowers, kinds)
    mixed = make_pipeline(columns, LogisticRegression()).fit(goods, names)
    tensor = LogisticRegression(max_iter=500).fit(flowers.to_numpy(), kinds)
    line = LinearRegression().fit(flowers, kinds)
    own_code = make_pipeline(FunctionTransformer(operator.neg), LinearRegression()).fit(flowers, kinds)
    data = xgboost.DMatrix(flowers, kinds.astype(float))
    booster = xgboost.train({"objective": "reg:squarederror"}, data, 5)
    two = (kinds > 0).astype(int)

    def save(name: str, module: Any, model: Any, rows: Any, **given: Any) -> None:
        place = str(folder / name)
        example = {} if isinstance(rows, np.ndarray) else {"input_example": rows.head(3)}
        # the signature by what mlflow itself answers
        what = () if model is None else (model,)
        module.save_model(*what, path=place, pip_requirements=PACKAGES, **given)
        answers = mlflow.pyfunc.load_model(place).predict(rows)
        shutil.rmtree(place)
        answers = next(iter(answers.values())) if isinstance(answers, dict) else answers
        signature = infer_signature(rows, answers)
        module.save_model(
            *what, path=place, pip_requirements=PACKAGES, signature=signature, **example, **given
        )
        told = np.asarray(answers)
        expected = told.tolist() if told.ndim == 1 else told.argmax(axis=1).tolist()
        sent = rows.tolist() if isinstance(rows, np.ndarray) else rows.to_numpy().tolist()
        (folder / f"{name}.json").write_text(json.dumps({"rows": sent, "answers": expected}))

    tree = {"skops_trusted_types": ["sklearn.tree._tree.Tree"]}
    save("forest", mlflow.sklearn, forest, flowers, **tree)
    save("mixed", mlflow.sklearn, mixed, goods)
    save("tensor", mlflow.sklearn, tensor, flowers.to_numpy())
    save("line", mlflow.sklearn, line, flowers)
    save("own_code", mlflow.sklearn, own_code, flowers, skops_trusted_types=["_operator.neg"])
    save("cloudpickle", mlflow.sklearn, mixed, goods, serialization_format="cloudpickle")
    save("xgb_classifier", mlflow.xgboost, xgboost.XGBClassifier(n_estimators=5).fit(flowers, kinds), flowers)
    save(
        "xgb_two",
        mlflow.xgboost,
        xgboost.XGBClassifier(n_estimators=5).fit(flowers, two),
        flowers,
        model_format="json",
    )
    save("xgb_booster", mlflow.xgboost, booster, flowers)
    save(
        "lgb_classifier",
        mlflow.lightgbm,
        lightgbm.LGBMClassifier(n_estimators=5, verbose=-1).fit(flowers, kinds),
        flowers,
    )
    save(
        "lgb_two",
        mlflow.lightgbm,
        lightgbm.LGBMClassifier(n_estimators=5, verbose=-1).fit(flowers, two),
        flowers,
    )
    save(
        "lgb_regressor",
        mlflow.lightgbm,
        lightgbm.LGBMRegressor(n_estimators=5, verbose=-1).fit(flowers, kinds),
        flowers,
    )
    save(
        "lgb_booster",
        mlflow.lightgbm,
        lightgbm.LGBMClassifier(n_estimators=5, verbose=-1).fit(flowers, kinds).booster_,
        flowers,
    )
    numbers = flowers.to_numpy(np.float32)
    save("onnx", mlflow.onnx, skl2onnx.to_onnx(forest, numbers[:1]), numbers)
    save("own_pyfunc", mlflow.pyfunc, None, goods, python_model=Doubled())
    save("spy", mlflow.pyfunc, None, goods.assign(title="1 + 1"), python_model=Spy())
    save("bomb", mlflow.pyfunc, None, goods, python_model=Doubled())
    (folder / "bomb" / "python_model.pkl").write_bytes(cloudpickle.dumps(Bomb(folder / "went-off")))


def read(folder: Path, rows: Path) -> None:
    """What both ways of loading answer; a column of bytes or times is not among the rows."""
    table = pd.read_json(rows, orient="split", dtype=False)
    loaded = mlflow.pyfunc.load_model(str(folder))
    answers = {
        "example": np.asarray(loaded.predict(loaded.input_example)).tolist(),
        "pyfunc": np.asarray(loaded.predict(table)).tolist(),
        "sklearn": np.asarray(mlflow.sklearn.load_model(str(folder)).predict(table)).tolist(),
        "inputs": loaded.metadata.get_input_schema().input_names(),
    }
    sys.stdout.write(json.dumps(answers))


if __name__ == "__main__":
    if sys.argv[1] == "log":
        log(Path(sys.argv[2]))
    else:
        read(Path(sys.argv[2]), Path(sys.argv[3]))

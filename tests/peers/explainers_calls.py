"""How far our explanations are from those of treeinterpreter and shap, on the same models and rows: prints it as JSON.

PYTHONPATH=FOLDER_OF_EVERLOOP python -W ignore explainers_calls.py
"""

from __future__ import annotations

import json

import numpy as np
import shap
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from treeinterpreter import treeinterpreter

from everloop.explaining import by_asking, taken_apart

rng = np.random.default_rng(0)
X = rng.normal(size=(300, 5))
NUMBER = X[:, 0] * 2 + np.where(X[:, 1] > 0, X[:, 2], 1.0)
CLASS = np.array(["low", "middle", "high"])[np.digitize(NUMBER, [0.0, 1.5])]
TWO = np.where(CLASS == "low", "low", "not low")
NAMES = [f"x{number}" for number in range(5)]


def ours(model, row):
    answer = model.predict(row)[0]
    classes = getattr(model, "classes_", None)
    place = 0 if classes is None else classes.tolist().index(answer)
    found = taken_apart(model, NAMES).explain(row, place, None)
    amounts = {one.input: one.contribution for one in found.contributions}
    return place, found, np.array([amounts[name] for name in NAMES])


found = {}
for model, labels in [
    (DecisionTreeClassifier(max_depth=4, random_state=0), CLASS),
    (RandomForestClassifier(20, random_state=0), CLASS),
    (ExtraTreesClassifier(20, random_state=0), TWO),
]:
    model.fit(X, labels)
    worst = 0.0
    for number in range(20):
        row = X[number : number + 1]
        place, told, amounts = ours(model, row)
        _, bias, theirs = treeinterpreter.predict(model, row)
        worst = max(worst, np.abs(amounts - theirs[0][:, place]).max(), abs(told.base - bias[0][place]))
    found[f"{type(model).__name__} by treeinterpreter"] = worst

for model, labels in [
    (RandomForestRegressor(20, random_state=0), NUMBER),  # numpy of today is too new for treeinterpreter's
    (GradientBoostingClassifier(n_estimators=20, random_state=0), TWO),
    (GradientBoostingRegressor(n_estimators=20, random_state=0), NUMBER),
    (HistGradientBoostingClassifier(max_iter=20), CLASS),
    (HistGradientBoostingRegressor(max_iter=20), NUMBER),
]:
    model.fit(X, labels)
    explainer = shap.TreeExplainer(model, feature_perturbation="tree_path_dependent")
    row = X[:1]
    place, told, amounts = ours(model, row)
    theirs = np.asarray(explainer.shap_values(row))[0]
    expected = np.ravel(explainer.expected_value)
    sign = 1.0
    if theirs.ndim == 2:
        theirs, base = theirs[:, place], expected[place]
    else:
        sign = -1.0 if hasattr(model, "classes_") and place == 0 else 1.0
        base = expected[0]
    found[f"base of {type(model).__name__} by shap"] = abs(told.base - sign * base)
    found[f"sum of {type(model).__name__} by shap"] = abs(amounts.sum() - sign * theirs.sum())

for model, labels in [(LinearRegression(), NUMBER), (LogisticRegression(), TWO)]:
    model.fit(X, labels)
    row = X[:1]
    place, told, amounts = ours(model, row)
    zero = shap.LinearExplainer(model, np.zeros((1, 5)))
    theirs = np.ravel(zero.shap_values(row))
    sign = -1.0 if hasattr(model, "classes_") and place == 0 else 1.0
    found[f"{type(model).__name__} by shap"] = np.abs(amounts - sign * theirs).max()

model = SVC(probability=False).fit(X, TWO)
other = X.mean(axis=0)


def score(rows):
    return model.decision_function(np.asarray(rows, dtype=float))


exact = shap.explainers.ExactExplainer(score, shap.maskers.Independent(other[None], max_samples=1))
told = by_asking(score, X[0].tolist(), other.tolist(), names=NAMES, of="the number")
amounts = {one.input: one.contribution for one in told.contributions}
theirs = exact(X[:1]).values[0]
found["Shapley values by shap"] = np.abs(np.array([amounts[name] for name in NAMES]) - theirs).max()
print(json.dumps({name: float(value) for name, value in found.items()}))

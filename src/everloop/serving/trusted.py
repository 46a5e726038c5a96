"""Types that a served scikit-learn model may contain beyond what skops trusts by itself.

A skops file names types and their states; loading it imports the types and fills the states in. Each type
here was read for that: building it from a state runs no code that the file chooses, imports nothing by name
and touches no file. A type that could (a function of the user's own, a joblib memory, a callable in a state)
is not here and must not be added. What these types cannot promise: arrays inside `Tree` and `KDTree` are
walked without bounds checks, so a file made by an enemy could still crash the process; hence digests first.
"""

from __future__ import annotations

AUDITED_TYPES = frozenset(
    {
        "collections.OrderedDict",
        "everloop.features.images.ImageFeatures",
        "everloop.features.text.FilledText",
        "lightgbm.basic.Booster",  # its state is text that the library parses; the rest are plain attributes
        "lightgbm.sklearn.LGBMClassifier",
        "lightgbm.sklearn.LGBMRegressor",
        "numpy.dtype",  # a value, not a callable with effects
        "numpy.mean",
        "scipy._lib.array_api_compat.numpy._aliases.asarray",
        "scipy.interpolate._bsplines.BSpline",
        "sklearn._loss.loss.HalfTweedieLossIdentity",
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.cluster._bisect_k_means._BisectingTree",
        "sklearn.cluster._kmeans._kmeans_single_lloyd",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.feature_selection._univariate_selection.f_classif",
        "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
        "sklearn.gaussian_process.kernels.ConstantKernel",
        "sklearn.gaussian_process.kernels.Product",
        "sklearn.gaussian_process.kernels.RBF",
        "sklearn.metrics._dist_metrics.EuclideanDistance64",
        "sklearn.metrics._scorer._PassthroughScorer",
        "sklearn.model_selection._split.StratifiedKFold",
        "sklearn.neighbors._kd_tree.KDTree",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.tree._tree.Tree",
        "sklearn.utils._bunch.Bunch",
    }
)

PREDICTS_THE_MOST_PROBABLE = frozenset(
    {
        "BernoulliNB",
        "CategoricalNB",
        "ComplementNB",
        "DecisionTreeClassifier",
        "ExtraTreesClassifier",
        "GaussianNB",
        "HistGradientBoostingClassifier",
        "LinearDiscriminantAnalysis",
        "LogisticRegression",
        "MLPClassifier",
        "MultinomialNB",
        "RandomForestClassifier",
    }
)
"""scikit-learn's classifiers whose `predict` is the class of highest `predict_proba`; one call does for both."""

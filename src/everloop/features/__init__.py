"""What was known about an entity just before a moment: one function, for training and for live requests.

Answers: the value of a feature for a row, computed from the same entity's earlier rows only, so that training
never sees the future and a live prediction sees what training would have seen. A `FeatureView` says which
rows a function may look at; `training_values` computes it for a whole table, `OnlineHistory` keeps the rows
of the last window in memory and `online_value` computes it for one request.
Owns no table: it works on Arrow tables, on one Arrow file a view (`materialise`) and on code folders
(`load_function`). May call nothing but clock and errors; `serving` calls it for each prediction.
"""

from everloop.features.offline import materialise, standard, training_values
from everloop.features.online import OnlineHistory, online_value
from everloop.features.records import ColumnType, FeatureFunction, FeatureValue, FeatureView, evaluate
from everloop.features.source import describe, load_function, source_digest

__all__ = [
    "ColumnType",
    "FeatureFunction",
    "FeatureValue",
    "FeatureView",
    "OnlineHistory",
    "describe",
    "evaluate",
    "load_function",
    "materialise",
    "online_value",
    "source_digest",
    "standard",
    "training_values",
]

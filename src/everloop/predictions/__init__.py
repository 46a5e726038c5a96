"""The prediction log: what was asked, what was answered, by which release and why.

Answers: what was predicted, one by its id, the newest that fit, or all of a time; what of it is kept, how long, and what is
taken out again. A serving process appends to it (`LogWriter`) before it answers; anybody reads it, live and sealed parts
alike (`read`, `batches`, `find`, `newest_predictions`).
Owns no table: files in `<home>/serving/log`, so that predictions go on when the database is down. May call data, storage,
ids, clock and errors.
"""

from everloop.predictions.expiring import Old
from everloop.predictions.kept import Keeper, drawn, evenly, hashed, is_hidden, log_key, uniform, weights
from everloop.predictions.log import (
    BATCH_ROWS,
    Passed,
    Tally,
    batches,
    end,
    erase,
    erase_in_copy,
    expire,
    expired,
    find,
    matching,
    may_be_sealed,
    parts,
    read,
    rows_in,
    seal,
    tallies,
    tally,
)
from everloop.predictions.newest import (
    FoundPredictions,
    PredictionKind,
    PredictionSearch,
    kind_of,
    newest_predictions,
)
from everloop.predictions.records import LogPolicy, Personal, PredictionRecord, Status
from everloop.predictions.segments import LogWriter, whole_frames
from everloop.predictions.tables import SCHEMA, readable, unpack
from everloop.predictions.writers import copy_folder, has_copies, is_live, writer_folder

__all__ = [
    "BATCH_ROWS",
    "SCHEMA",
    "FoundPredictions",
    "Keeper",
    "LogPolicy",
    "LogWriter",
    "Old",
    "Passed",
    "Personal",
    "PredictionKind",
    "PredictionRecord",
    "PredictionSearch",
    "Status",
    "Tally",
    "batches",
    "copy_folder",
    "drawn",
    "end",
    "erase",
    "erase_in_copy",
    "evenly",
    "expire",
    "expired",
    "find",
    "has_copies",
    "hashed",
    "is_hidden",
    "is_live",
    "kind_of",
    "log_key",
    "matching",
    "may_be_sealed",
    "newest_predictions",
    "parts",
    "read",
    "readable",
    "rows_in",
    "seal",
    "tallies",
    "tally",
    "uniform",
    "unpack",
    "weights",
    "whole_frames",
    "writer_folder",
]

"""What the data was, exactly: datasets, their versions, what is in them and what changed between them.

A dataset version is named by its content: the same rows under the same schema have the same digest, whatever file,
order or layout they came in, and every row keeps its row id through all versions. Versions share the Parquet parts
that they have in common; to ingest, clean or redefine is to commit on the newest version, and a writer who was
overtaken starts again from there. See docs/explanation/dataset-versions.md.
Owns the tables `dataset` and `dataset_version`; rows are blobs. May call events, ledger, workspace and storage.
"""

from everloop.data.arrow import ARROW_TYPES
from everloop.data.cleaning import clean, recorded_operations
from everloop.data.databases import queried_columns, query_database
from everloop.data.definitions import dataset, datasets, define, version, versions
from everloop.data.differences import count_arrived, diff
from everloop.data.ingestion import ingest, load_typed, typed
from everloop.data.lookup import row_ids_by_key, rows_by_key
from everloop.data.operations import DropConflicts, DropDuplicates, DropNull, Normalise, Operation, Trim
from everloop.data.personal import masked, personal_kinds
from everloop.data.profiling import profile
from everloop.data.reading import origins, read
from everloop.data.records import (
    ROW_ID,
    CleaningReport,
    CleaningStep,
    Column,
    ColumnProfile,
    ColumnType,
    Dataset,
    DatasetVersion,
    Diff,
    Profile,
    Schema,
    check_dataset_name,
)
from everloop.data.sources import Source, load

__all__ = [
    "ARROW_TYPES",
    "ROW_ID",
    "CleaningReport",
    "CleaningStep",
    "Column",
    "ColumnProfile",
    "ColumnType",
    "Dataset",
    "DatasetVersion",
    "Diff",
    "DropConflicts",
    "DropDuplicates",
    "DropNull",
    "Normalise",
    "Operation",
    "Profile",
    "Schema",
    "Source",
    "Trim",
    "check_dataset_name",
    "clean",
    "count_arrived",
    "dataset",
    "datasets",
    "define",
    "diff",
    "ingest",
    "load",
    "load_typed",
    "masked",
    "origins",
    "personal_kinds",
    "profile",
    "queried_columns",
    "query_database",
    "read",
    "recorded_operations",
    "row_ids_by_key",
    "rows_by_key",
    "typed",
    "version",
    "versions",
]

"""What is true of a dataset's rows, who said so and when.

Answers: which labels there are (a taxonomy, versioned), what was said about a row and by whom, what was known to be
true at a time, and how good the labels are. Owns the tables `label_schema`, `label_event` and `label_snapshot`.
A label event is appended and never changed; a snapshot resolves the events that had been said and recorded by a stated
time, by a stated rule, and is named by its content. Rows are those of `data`, found by their key.
May call data, events, ledger and below. Rooms above that learn labels (feedback) append them in their own transaction
with `prepare` and `append`.
"""

from everloop.labels.define import define, label_sets, schema, schemas
from everloop.labels.files import Claims, read_claims
from everloop.labels.imports import import_labels
from everloop.labels.quality import quality
from everloop.labels.record import (
    Prepared,
    append,
    check_annotator,
    count_labelled,
    events_of,
    events_of_prediction,
    history,
    prepare,
    record,
    row_ids,
    said_at,
)
from everloop.labels.records import (
    Agreement,
    Conflict,
    DuplicateItem,
    ImportReport,
    LabelClass,
    LabelEvent,
    LabelSchema,
    LabelSnapshot,
    NewLabel,
    PairAgreement,
    QualityReport,
    ReportRule,
    Rule,
    Source,
    Value,
)
from everloop.labels.snapshot import (
    find_snapshot,
    read_snapshot,
    snapshot,
    snapshot_events,
    snapshots,
    snapshots_with_row,
)
from everloop.labels.taxonomy import checked_value, refuse_unknown, translation

__all__ = [
    "Agreement",
    "Claims",
    "Conflict",
    "DuplicateItem",
    "ImportReport",
    "LabelClass",
    "LabelEvent",
    "LabelSchema",
    "LabelSnapshot",
    "NewLabel",
    "PairAgreement",
    "Prepared",
    "QualityReport",
    "ReportRule",
    "Rule",
    "Source",
    "Value",
    "append",
    "check_annotator",
    "checked_value",
    "count_labelled",
    "define",
    "events_of",
    "events_of_prediction",
    "find_snapshot",
    "history",
    "import_labels",
    "label_sets",
    "prepare",
    "quality",
    "read_claims",
    "read_snapshot",
    "record",
    "refuse_unknown",
    "row_ids",
    "said_at",
    "schema",
    "schemas",
    "snapshot",
    "snapshot_events",
    "snapshots",
    "snapshots_with_row",
    "translation",
]

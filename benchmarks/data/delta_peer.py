"""The same work in delta-rs: write, merge a 1 % change by key, and what that takes. Prints JSON."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
from deltalake import DeltaTable, write_deltalake


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main(folder: Path, base: str, change: str) -> None:
    start = time.perf_counter()
    write_deltalake(str(folder), pq.read_table(base))
    write_s = time.perf_counter() - start
    before = folder_bytes(folder)
    changed = pq.read_table(change)
    start = time.perf_counter()
    (
        DeltaTable(str(folder))
        .merge(changed, predicate="t.id = s.id", source_alias="s", target_alias="t")
        .when_matched_update_all()
        .when_not_matched_insert_all()
        .execute()
    )
    commit_s = time.perf_counter() - start
    grown = folder_bytes(folder) - before
    print(
        json.dumps(
            {
                "ingest_s": write_s,
                "size_mb": before / 1e6,
                "commit_s": commit_s,
                "growth_percent": 100 * grown / before,
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])

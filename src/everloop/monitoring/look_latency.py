"""Latency, throughput and failures of a window, version by version."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from everloop.monitoring.estimates import wilson_interval
from everloop.monitoring.records import LatencyWatch, Measure
from everloop.monitoring.seen import Seen, Window, in_percent
from everloop.workspace import Workspace

_ENOUGH = 100  # answers below which a 99th percentile says nothing


def look_at_latency(_ws: Workspace, watch: LatencyWatch, window: Window) -> Seen:
    """Percentiles in milliseconds, answers per second, the share that failed with its 95 % interval."""
    measures: list[Measure] = []
    findings = []
    hours = (window.end - window.start).total_seconds()
    for version, _release, rows in window.by_version():
        latencies_ms, failed = _numbers(rows)
        n = int(failed.size)
        if not n:
            continue
        measures.append(window.measure("throughput_per_s", n / window.chance / hours, n=n, version=version))
        low, high = wilson_interval(float(failed.mean()), n)
        measures.append(
            window.measure("error_rate", float(failed.mean()), n=n, version=version, low=low, high=high)
        )
        if low > watch.errors_at_most:
            told = (
                f"{version} failed {int(failed.sum()):,} of {n:,} requests{window.sampled} ({in_percent(float(failed.mean()))}; "
                f"at most {in_percent(watch.errors_at_most)} is tolerated)"
            )
            findings.append(
                window.finding("errors", told, detail={"about": "errors", "low": low}, versions=(version,))
            )
        if latencies_ms.size:
            for share in (50, 95, 99):
                value = float(np.percentile(latencies_ms, share))
                measures.append(window.measure(f"latency_p{share}_ms", value, n=n, version=version))
            if latencies_ms.size >= _ENOUGH and value > watch.p99_ms:
                told = f"{version} answers slowly: 99th percentile {value:.3g} ms, the limit is {watch.p99_ms:g} ms"
                findings.append(
                    window.finding(
                        "latency", told, detail={"about": "p99", "p99_ms": value}, versions=(version,)
                    )
                )
    return Seen(tuple(measures), tuple(findings))


def _numbers(rows: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Latencies in ms of what was answered, and which of the requests that a model was asked failed."""
    status = np.asarray(rows["status"].to_pylist(), dtype=object)
    asked = status != "refused"
    latencies_ms = np.asarray(rows["latency_us"], dtype=np.float64) / 1_000
    return latencies_ms[status == "ok"], (status == "failed")[asked]

"""Latency, throughput and failures of a window, version by version."""

from __future__ import annotations

from everloop import predictions
from everloop.monitoring.answers import BY, Answers, Counted, Pieces, alike, answers_of, counted
from everloop.monitoring.estimates import wilson_interval
from everloop.monitoring.records import LatencyWatch, Measure
from everloop.monitoring.seen import Seen, Window, in_percent, sampled
from everloop.workspace import Workspace

_ENOUGH = 100  # answers below which a 99th percentile says nothing


def look_at_latency(ws: Workspace, watch: LatencyWatch, window: Window) -> Seen:
    """Percentiles in milliseconds, answers per second, the share that failed with its 95 % interval."""
    measures: list[Measure] = []
    findings = []
    seconds = (window.end - window.start).total_seconds()
    by_version, chance = _answers(ws, watch, window)
    for version, answers in sorted(by_version.items(), key=lambda one: -one[1].asked):
        n = answers.asked
        if not n or not version:
            continue
        measures.append(window.measure("throughput_per_s", n / chance / seconds, n=n, version=version))
        failed = answers.failed / n
        low, high = wilson_interval(failed, n)
        measures.append(window.measure("error_rate", failed, n=n, version=version, low=low, high=high))
        if low > watch.errors_at_most:
            told = (
                f"{version} failed {answers.failed:,} of {n:,} requests{sampled(chance)} ({in_percent(failed)}; "
                f"at most {in_percent(watch.errors_at_most)} is tolerated)"
            )
            findings.append(
                window.finding("errors", told, detail={"about": "errors", "low": low}, versions=(version,))
            )
        if answers.answered:
            for share in (50, 95, 99):
                value = answers.percentile_ms(share / 100)
                measures.append(window.measure(f"latency_p{share}_ms", value, n=n, version=version))
            if answers.answered >= _ENOUGH and value > watch.p99_ms:
                told = f"{version} answers slowly: 99th percentile {value:.3g} ms, the limit is {watch.p99_ms:g} ms"
                findings.append(
                    window.finding(
                        "latency", told, detail={"about": "p99", "p99_ms": value}, versions=(version,)
                    )
                )
    return Seen(tuple(measures), tuple(findings))


def _answers(ws: Workspace, watch: LatencyWatch, window: Window) -> tuple[dict[str, Answers], float]:
    """By version, and the chance with which each of them was kept."""
    pieces = Pieces.wanted(watch, window.end)
    found = answers_of(ws, window.endpoint, pieces, start=window.start, end=window.end)
    if found.is_even:
        return found.by_version, found.least
    evened = counted(alike(predictions.tally(window.predictions, BY[1:]))).get(0, Counted())
    return evened.by_version, window.chance

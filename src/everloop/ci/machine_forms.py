"""The report for machines: JSON, JUnit XML, annotations of GitHub, code quality of GitLab."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable

import msgspec
from blake3 import blake3

from everloop.ci.records import Annotation, PipelineReport, Report

# What XML 1.0 has no way to write at all.
_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SEVERITIES = {"error": "critical", "warning": "minor", "notice": "info"}


def as_json(report: Report) -> bytes:
    """The report as report.json holds it."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def junit(report: Report) -> bytes:
    """JUnit XML: a suite for each pipeline, in it a case for its run and one for each gate.

    A failed gate or step is a failure, a pipeline that was not touched a skipped case.
    """
    suites = ET.Element("testsuites", name="everloop ci", time=f"{report.seconds:.1f}")
    loaded = _suite(suites, report.file)
    case = _case(loaded, report.file, "loads")
    if not report.pipelines and report.verdict != "passed":
        _text(case, "failure", report.sentence, "\n".join(report.problems))
    for one in report.pipelines:
        _pipeline(suites, report, one)
    for suite in suites:
        _count(suite, [suite])
    _count(suites, list(suites))
    ET.indent(suites)
    text: bytes = ET.tostring(suites, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def github_commands(annotations: Iterable[Annotation]) -> str:
    """Workflow commands, one a line, that GitHub shows beside the lines of a pull request."""
    return "".join(
        f"::{one.level} file={_property(one.file)},line={one.line},title={_property(one.title)}::{_data(one.message)}\n"
        for one in annotations
    )


def gitlab_quality(annotations: Iterable[Annotation]) -> bytes:
    """A code quality report of GitLab; a finding keeps its fingerprint from commit to commit."""
    found = [
        {
            "description": f"{one.title}: {one.message}",
            "check_name": one.about,
            "fingerprint": blake3(f"{one.file}\0{one.about}".encode()).hexdigest(length=16),
            "severity": _SEVERITIES[one.level],
            "location": {"path": one.file, "lines": {"begin": one.line}},
        }
        for one in annotations
    ]
    return msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n"


def _pipeline(suites: ET.Element, report: Report, one: PipelineReport) -> None:
    suite = _suite(suites, one.name)
    head = one.head
    case = _case(suite, one.name, "runs", seconds=0.0 if head is None else head.seconds)
    if head is None:
        _text(case, "skipped", f"not run: the change leaves it {one.touched.state}")
        return
    if head.failure is not None:
        _text(
            case,
            "failure",
            f"step {head.failed_step} failed" if head.failed_step else "it failed",
            head.failure,
        )
    for gate in head.gates:
        case = _case(suite, f"{one.name}.{one.model}", gate.name)
        told = "\n".join(part for part in (gate.found, gate.rule, gate.remedy) if part)
        if gate.verdict == "failed":
            _text(case, "failure", gate.found, told)
        elif gate.verdict == "skipped":
            _text(case, "skipped", gate.found)
        elif gate.verdict == "warned":
            _text(case, "system-out", None, f"warned: {told}")


def _suite(parent: ET.Element, name: str) -> ET.Element:
    return ET.SubElement(parent, "testsuite", name=_xml(name))


def _case(suite: ET.Element, owner: str, name: str, *, seconds: float = 0.0) -> ET.Element:
    return ET.SubElement(suite, "testcase", classname=_xml(owner), name=_xml(name), time=f"{seconds:.3f}")


def _text(case: ET.Element, kind: str, message: str | None, text: str | None = None) -> None:
    element = ET.SubElement(case, kind)
    if message is not None:
        element.set("message", _xml(message))
    if text is not None:
        element.text = _xml(text)


def _count(element: ET.Element, within: list[ET.Element]) -> None:
    """The attributes that count the cases in some suites."""
    cases = [case for suite in within for case in suite.iter("testcase")]
    element.set("tests", str(len(cases)))
    for name, kind in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        element.set(name, str(sum(case.find(kind) is not None for case in cases)))
    if element.get("time") is None:
        element.set("time", f"{sum(float(case.get('time', '0')) for case in cases):.3f}")


def _xml(text: str) -> str:
    return _NO_XML.sub("\ufffd", text)


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")

"""The report's forms, of reports that hold the worst that a pull request can bring."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest

from everloop.ci.machine_forms import as_json, github_commands, gitlab_quality, junit
from everloop.ci.markdown import code, escaped, markdown
from everloop.ci.page import page
from everloop.ci.records import (
    Annotation,
    Compared,
    DataMoved,
    GateEnded,
    Metric,
    Outcome,
    PipelineReport,
    Report,
    Revision,
    SliceMoved,
    StepEnded,
    Touched,
    TouchedStep,
)
from everloop.ci.reporting import without_secrets
from everloop.ci.writing import write_reports
from everloop.errors import StorageFailed

HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(2)> @everyone |`x` **b** [a](http://evil.test) "
    "\n\n# h\n::error::x\r%0A]]>&amp;\x00\x1b[31m\ud7ff \u202e"
)


def a_report(text: str = "plain", **changed: Any) -> Report:
    gates = (
        GateEnded(f"accuracy:{text}", "failed", f"found {text}", f"rule {text}", f"remedy {text}"),
        GateEnded("schema", "passed", "fine", "", ""),
        GateEnded("slices", "warned", "weak", "", ""),
        GateEnded("drift", "skipped", "no snapshot", "", ""),
    )
    touched = Touched(text, "touched", (TouchedStep("fit", "fit", (f"source {text} was rewritten",)),))
    compared = Compared(
        (Metric("accuracy", 0.9, 0.8, -0.1, -0.15, -0.05, 200, "worse"), Metric(text, None, 0.5)),
        (SliceMoved("plan", text, 40, 0.9, 0.5, -0.4, -0.6, -0.2, "worse"),),
        (DataMoved(text, 10, 12, 2, 0, 1, (f"{text} is new",)),),
    )
    head = Outcome(
        text,
        "failed",
        "run_1",
        "left@2",
        (StepEnded("fit", text, "done", 1.0, text),),
        gates,
        {"accuracy": 0.8},
    )
    broken = Outcome("other", "failed", failure=f"ValueError: {text}", failed_step=text)
    values: dict[str, Any] = {
        "verdict": "failed",
        "sentence": f"1 gate failed: {text}.",
        "everloop": "0.1",
        "file": "loop.py",
        "head": Revision(text, "a" * 40),
        "base": Revision("main", "b" * 40),
        "changed_files": (text,),
        "unreached": (text,),
        "pipelines": (
            PipelineReport(text, "left", touched, head, replace(head, gates=gates[1:]), compared),
            PipelineReport("other", None, Touched("other", "new"), broken),
            PipelineReport("beside", None, Touched("beside", "untouched")),
        ),
        "problems": (text,),
        "notes": (text,),
        "annotations": (Annotation("error", f"a,b:{text}", 3, f"title {text}", text, "left accuracy"),),
        "seconds": 12.3,
    }
    return Report(**{**values, **changed})


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_shows_hostile_text_as_text_and_needs_nothing_else() -> None:
    tags = Tags()
    tags.feed(page(a_report(HOSTILE)))
    assert not tags.seen & {"script", "img", "link", "iframe", "object", "base"}
    assert not {name for name in tags.attributes if name.startswith("on")} | tags.attributes & {"src", "href"}
    assert "<script>alert(1)</script>" in tags.text
    assert "default-src 'none'" in page(a_report())


def test_markdown_marks_nothing_up_that_others_wrote() -> None:
    text = markdown(a_report(HOSTILE))
    outside_code = re.sub(r"(`+).+?\1|<summary>.*", "", text)  # in neither is anything marked up
    assert "<script" not in outside_code
    assert "<img" not in re.sub(r"(`+).+?\1", "", text)
    assert "@everyone" not in outside_code
    assert not re.search(r"(?<!\\)\]\(|(?<!\\)\*\*b", outside_code)
    assert "http://" not in outside_code
    assert not re.search(r"^# h", text, re.MULTILINE)
    assert not set("\x00\x1b\r\u202e") & set(text)
    tables = [line for line in text.splitlines() if line.startswith("| ")]
    columns = {len(re.findall(r"(?<!\\)\|", line)) for line in tables}
    assert columns <= {5, 6, 7}  # as many as their tables have: no cell was broken up


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("macro_f1 of the_base", "macro_f1 of the_base"),
        ("_all_ *of* `it`", r"\_all\_ \*of\* \`it\`"),
        ("a | b\nc", r"a \| b c"),
        ("@team #12 <b> http://x", "@\u200bteam \\#\u200b12 &lt;b&gt; http:&#47;&#47;x"),
    ],
)
def test_a_text_is_escaped_as_far_as_it_would_mark_up(text: str, shown: str) -> None:
    assert escaped(text) == shown


@pytest.mark.parametrize(
    ("name", "shown"),
    [("fit", "`fit`"), ("a`b", "`` a`b ``"), ("a|b", r"`a\|b`"), ("a\nb", "`a b`"), ("", "")],
)
def test_a_name_stays_code_whatever_is_in_it(name: str, shown: str) -> None:
    assert code(name) == shown


def test_the_comment_says_what_matters_first_and_folds_the_rest() -> None:
    top, _, folded = markdown(a_report()).partition("<details>")
    assert "### everloop: failed" in top
    assert "| `accuracy` | 0.9000 | 0.8000 | -0.1000 (-0.1500 to -0.0500) | **worse** |" in top
    assert "| `accuracy:plain` | - | **failed** | found plain |" in top
    assert "`schema`" not in top
    assert "| `schema` | passed | passed | fine |" in folded
    assert "| `plan = plain` | 40 | 0.900 | 0.500 | -0.400 (-0.600 to -0.200) | **worse** |" in folded
    assert (
        "plain: 10 rows on the base, 12 now (2 added, 0 removed, 1 changed); column plain is new." in folded
    )


def test_a_comment_is_never_longer_than_a_service_takes() -> None:
    assert len(markdown(a_report("word " * 30_000))) < 65_536


def test_junit_counts_its_cases_and_says_what_failed() -> None:
    suites = ET.fromstring(junit(a_report()))  # noqa: S314  (our own)
    assert [suites.get(name) for name in ("tests", "failures", "errors", "skipped")] == ["8", "2", "0", "2"]
    for suite in suites:
        cases = suite.findall("testcase")
        assert int(suite.get("tests", "")) == len(cases)
        assert int(suite.get("failures", "")) == len(suite.findall("testcase/failure"))
        assert all(
            case.get("name") and case.get("classname") and float(case.get("time", "")) >= 0 for case in cases
        )
    failed = {case.get("name") for case in suites.iter("testcase") if case.find("failure") is not None}
    assert failed == {"accuracy:plain", "runs"}
    (failure,) = [one for one in suites.iter("failure") if "found" in str(one.text)]
    assert failure.get("message") == "found plain"
    assert failure.text == "found plain\nrule plain\nremedy plain"


def test_junit_is_xml_whatever_others_wrote() -> None:
    suites = ET.fromstring(junit(a_report(HOSTILE)))  # noqa: S314  (our own)
    names = [str(case.get("name")) for case in suites.iter("testcase")]
    assert any("<script>alert(1)</script>" in name and "\ufffd" in name for name in names)


def test_a_loop_file_that_cannot_be_loaded_is_a_failure_of_its_own() -> None:
    suites = ET.fromstring(junit(a_report(pipelines=(), problems=("line 3: no",))))  # noqa: S314  (our own)
    assert (suites.get("tests"), suites.get("failures")) == ("1", "1")
    assert "line 3: no" in "".join(suites.itertext())


def test_an_annotation_of_github_is_one_command_whatever_is_in_it() -> None:
    (line,) = github_commands(a_report(HOSTILE).annotations).splitlines()
    head, _, message = line.removeprefix("::").partition("::")
    assert head.startswith("error file=a%2Cb%3A<script>")
    assert ",line=3,title=" in head
    assert head.count(",") == 2
    assert "%0A::error" not in head
    assert "\r" not in message
    assert "%0D%250A" in message  # a return, and a percent sign that was there


def test_gitlab_gets_findings_with_a_lasting_fingerprint() -> None:
    (one,) = json.loads(gitlab_quality(a_report().annotations))
    assert one["location"] == {"path": "a,b:plain", "lines": {"begin": 3}}
    assert one["severity"] == "critical"
    (other,) = json.loads(gitlab_quality([replace(a_report().annotations[0], message="changed", line=9)]))
    assert other["fingerprint"] == one["fingerprint"]


def test_json_is_the_report_and_names_its_format() -> None:
    report = a_report(HOSTILE)
    assert msgspec.json.decode(as_json(report), type=Report) == report
    assert json.loads(as_json(report))["format"] == "everloop.ci/1"


def test_secrets_are_in_no_form_of_the_report() -> None:
    told = "connecting with hunter2hunter2 to postgresql://anna:geheim@db.test/x"
    report = without_secrets(a_report(told), frozenset({"hunter2hunter2", "passed", "failed"}))
    for text in (
        markdown(report),
        page(report),
        as_json(report).decode(),
        junit(report).decode(),
        github_commands(report.annotations),
    ):
        assert "hunter2hunter2" not in text
        assert "geheim" not in text
        assert "hidden" in text
    assert report.verdict == "failed"  # a word of ours, whatever somebody's secret is


def test_the_files_are_written_and_the_services_around_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    monkeypatch.setenv("GITLAB_CI", "true")
    files = write_reports(a_report(), tmp_path / "out")
    names = ["gl-code-quality-report.json", "junit.xml", "report.html", "report.json", "report.md"]
    assert sorted(one.name for one in files) == names
    assert all(one.stat().st_size for one in files)
    assert summary.read_text().startswith("before\n<!-- everloop ci -->")


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFailed, match="--report DIR"):
        write_reports(a_report(), tmp_path / "file")

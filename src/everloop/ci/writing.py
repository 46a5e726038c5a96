"""The report's files, and what the CI service around them is told."""

from __future__ import annotations

from pathlib import Path

from everloop.ci.machine_forms import as_json, gitlab_quality, junit
from everloop.ci.markdown import markdown
from everloop.ci.page import page
from everloop.ci.records import Report
from everloop.errors import StorageFailed
from everloop.settings import outside_variables

GITLAB_FILE = "gl-code-quality-report.json"
SERVICE_VARIABLES = ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITLAB_CI")


def write_reports(report: Report, folder: Path) -> tuple[Path, ...]:
    """Write report.md, report.html, report.json and junit.xml into a folder; on GitLab also its code quality file.

    On GitHub the Markdown is added to the job's summary. Raises StorageFailed.
    """
    service = outside_variables(SERVICE_VARIABLES)
    texts = {
        "report.md": markdown(report).encode(),
        "report.html": page(report).encode(),
        "report.json": as_json(report),
        "junit.xml": junit(report),
    }
    if "GITLAB_CI" in service:
        texts[GITLAB_FILE] = gitlab_quality(report.annotations)
    try:
        if not folder.exists():
            folder.mkdir(parents=True)
            (folder / ".gitignore").write_text("*\n")  # what a check writes is no part of the next change
        for name, text in texts.items():
            (folder / name).write_bytes(text)
        if "GITHUB_STEP_SUMMARY" in service:
            with Path(service["GITHUB_STEP_SUMMARY"]).open("ab") as summary:
                summary.write(texts["report.md"])
    except OSError as error:
        raise StorageFailed(
            f"the reports cannot be written to {error.filename}: {error.strerror}. Name a folder that can be: --report DIR."
        ) from error
    return tuple(folder / name for name in texts)

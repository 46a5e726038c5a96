"""Is a change of the project good enough to be merged: gates for a pull request.

Answers: what does a change touch, what comes of it on both sides, and is it no worse. Both sides are looked at and run in
processes of their own, in homes of their own below the workspace's, so that a check registers, releases and alarms nothing
where people work. What the change touches is told by the fingerprints of steps (pipelines), the declarations (loop) and the
digests of the data; verdicts are those of the gates (checks). Writes the report as Markdown, HTML, JSON, JUnit XML and
annotations, and the workflow files that run all this on GitHub and GitLab. Owns no table. May call loop and below.
"""

from everloop.ci.check import check
from everloop.ci.flows import Flows, check_flows_free, write_flows
from everloop.ci.machine_forms import github_commands
from everloop.ci.markdown import markdown
from everloop.ci.records import FORMAT, Annotation, Report
from everloop.ci.writing import write_reports

__all__ = [
    "FORMAT",
    "Annotation",
    "Flows",
    "Report",
    "check",
    "check_flows_free",
    "github_commands",
    "markdown",
    "write_flows",
    "write_reports",
]

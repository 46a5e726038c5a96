"""`everloop doctor`: is this installation well?"""

from __future__ import annotations

import sys

import click

from everloop.cli.output import Output, pass_output

_WORDS = {"ok": "ok       ", "attention": "ATTENTION", "failed": "FAILED   "}


@click.command()
@pass_output
def doctor(out: Output) -> None:
    """Check the installation and the home: versions, disk, database, blobs, audit chain, releases, ports, clock.

    Repairs nothing and stops nothing; each line that is not ok says what to do. Exit code 3: something failed.

    \b
    Example: everloop doctor --home ./shop
    """
    from everloop import governance
    from everloop.settings import load_settings

    signs = governance.examine(load_settings(out.home, actor=out.actor))
    lines = []
    for one in signs:
        lines.append(f"{_WORDS[one.health]}  {one.about:<14} {one.found}")
        if one.remedy:
            lines.append(f"{'':<11}{'':<14} {one.remedy}")
    failed = sum(one.health == "failed" for one in signs)
    lines.append(f"{failed} of {len(signs)} failed." if failed else f"Nothing of {len(signs)} failed.")
    out.answer(signs, "\n".join(lines))
    if failed:
        sys.exit(3)

"""`everloop models check | trust | verify | sign | keys`: versions of elsewhere, and whether any is what was signed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from everloop.cli.output import Output, pass_output

if TYPE_CHECKING:
    import pyarrow as pa


@click.command()
@click.argument("version")
@click.option(
    "--folder", type=click.Path(path_type=Path), help="Look at the files in this folder, a downloaded copy."
)
@pass_output
def verify(out: Output, version: str, folder: Path | None) -> None:
    """Find out whether a version is what was signed: its record, its files, its release.

    Exit code 3 when a file was changed, removed or added, or the signature is not that of a trusted key.

    \b
    Example: everloop models verify category@2
    """
    from everloop import registry

    with out.workspace() as ws:
        found = registry.verify(ws, version, folder=folder)
        if found.is_intact:
            text = (
                f"{found.version} is what {_short(found.key)} ({found.signer}) signed: {found.files} files."
            )
        else:
            lines = [f"{found.version} is not what was signed:", *(f"  {one}" for one in found.problems)]
            lines.append(
                "It is neither released nor loaded. Restore it from a backup, or register the model again; if you vouch for "
                f"it as it is: everloop models sign {found.version} --reason WHY"
            )
            text = "\n".join(lines)
        out.answer(found, text)
        if not found.is_intact:
            sys.exit(3)


@click.command()
@click.argument("version")
@click.option("--reason", required=True, help="Why you vouch for it; recorded in the audit log.")
@pass_output
def sign(out: Output, version: str, reason: str) -> None:
    """Vouch for a version as it is now: sign it with this home's key, in place of the signature it has.

    \b
    Example: everloop models sign category@2 --reason "its key was lost; compared with the backup of 3 May"
    """
    from everloop import registry

    with out.workspace() as ws:
        found = registry.sign(ws, version, reason=reason)
        out.answer(found, f"{found.version} is signed by {_short(found.key)} ({found.signer}).")


@click.command()
@click.argument("model")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@pass_output
def register(out: Output, model: str, folder: Path) -> None:
    """Register a folder in MLflow's layout as the next version of a model; its MLmodel file says what it takes.

    \b
    Example: everloop models register category ./model
    """
    from everloop import registry, serving

    with out.workspace() as ws:
        made = registry.register_folder(ws, model, folder)
        state = (
            "it brings code of its own" if made.flavor in serving.WITH_CODE else f"served as {made.flavor}"
        )
        out.answer(
            made,
            f"Registered {made.ref}: {state}. Gate it: everloop models check {made.ref} --train FILE --test FILE --label COLUMN",
        )


_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("version")
@click.option("--train", required=True, type=_FILE, help="The rows that it learnt from.")
@click.option("--test", required=True, type=_FILE, help="Rows that it has not seen.")
@click.option("--label", required=True, help="The column with the right answers.")
@pass_output
def check(out: Output, version: str, train: Path, test: Path, label: str) -> None:
    """Run the gates of a version that was logged elsewhere, on files (Parquet, CSV, JSONL) of its rows with their labels.

    Exit code 3 when a gate fails. Versions that a pipeline trained were gated by it.

    \b
    Example: everloop models check category@2 --train train.parquet --test test.parquet --label category
    """
    from everloop import checks, loop

    with out.workspace() as ws:
        report = loop.judge_rows(ws, version, train=_rows(train), test=_rows(test), label=label)
        standing = checks.standing(ws, report.id)
        lines = [f"{one.verdict:>8}  {one.name}: {one.found}" for one in report.results]
        verdict = "passed its gates" if standing.is_clear else "FAILED its gates"
        out.answer(report, "\n".join([*lines, f"{version} {verdict} ({report.id})."]))
        if not standing.is_clear:
            sys.exit(3)


def _rows(path: Path) -> pa.Table:
    from everloop import data

    return data.typed(data.load(path, key=None, file_format=None))[0]


@click.command()
@click.argument("version")
@click.option("--reason", required=True, help="What you read; recorded in the audit log.")
@pass_output
def trust(out: Output, version: str, reason: str) -> None:
    """Allow a version that is a pickle or a pyfunc to run its own code, in a process without credentials.

    \b
    Example: everloop models trust category@2 --reason "read model.pkl's source, it is ours"
    """
    from everloop import registry

    with out.workspace() as ws:
        said = registry.trust(ws, version, reason=reason)
        out.answer(
            said, f"{said.by} trusts {said.model_version}. Release it: everloop models release {version}"
        )


@click.group()
def keys() -> None:
    """Keys whose signatures on versions count.

    \b
    Example: everloop models keys list
    """


@keys.command("list")
@pass_output
def list_(out: Output) -> None:
    """List the keys, first first. --json prints them in full, for `keys add` on another machine.

    \b
    Example: everloop models keys list
    """
    from everloop import registry

    with out.workspace() as ws:
        columns = {
            "key": lambda one: _short(one.key),
            "name": lambda one: one.name,
            "state": lambda one: "signs" if one.is_current else "trusted" if one.is_trusted else "distrusted",
            "by": lambda one: one.by,
            "since": lambda one: one.at,
            "reason": lambda one: one.reason,
        }
        out.table(registry.signing_keys(ws), columns, empty="No keys yet.")


@keys.command()
@click.argument("key")
@click.option("--name", required=True, help="Whose key it is.")
@click.option("--reason", required=True, help="Recorded in the audit log.")
@pass_output
def add(out: Output, key: str, name: str, reason: str) -> None:
    """Trust a public key, such as another machine's; also one that was distrusted.

    \b
    Example: everloop models keys add 3b6a27bc... --name trainer-2 --reason "our second training machine"
    """
    from everloop import registry

    with out.workspace() as ws:
        made = registry.add_key(ws, key, name=name, reason=reason)
        out.answer(made, f"Signatures of {_short(made.key)} ({made.name}) count from now on.")


@keys.command()
@click.argument("key")
@click.option("--reason", required=True, help="Recorded in the audit log.")
@pass_output
def distrust(out: Output, key: str, reason: str) -> None:
    """Let a key's signatures count no more; name it by its first digits.

    What it signed is not loaded any more until somebody signs it again: everloop models sign.

    \b
    Example: everloop models keys distrust 3b6a27bc --reason "the machine was stolen"
    """
    from everloop import registry

    with out.workspace() as ws:
        made = registry.distrust_key(ws, key, reason=reason)
        out.answer(
            made,
            f"{_short(made.key)} ({made.name}) is distrusted. What it signed: everloop models verify VERSION",
        )


@keys.command()
@click.option("--reason", required=True, help="Recorded in the audit log.")
@pass_output
def rotate(out: Output, reason: str) -> None:
    """Sign with a new key from now on; what the old one signed stays valid until it is distrusted.

    \b
    Example: everloop models keys rotate --reason "yearly"
    """
    from everloop import registry

    with out.workspace() as ws:
        made = registry.rotate_key(ws, reason=reason)
        out.answer(made, f"{_short(made.key)} signs from now on; the old private key is gone.")


def _short(key: str | None) -> str:
    return "-" if key is None else key[:12]

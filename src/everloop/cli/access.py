"""`everloop access`: accounts, tokens and passwords."""

from __future__ import annotations

import sys

import click

from everloop.cli.output import Output, pass_output


@click.group()
def access() -> None:
    """Accounts, tokens and passwords: who may do what.

    \b
    Example: everloop access add alice --role reviewer
    """


@access.command("list")
@pass_output
def list_(out: Output) -> None:
    """List the accounts.

    \b
    Example: everloop access list
    """
    from everloop import access as room

    with out.workspace() as ws:
        columns = {
            "name": lambda one: one.name,
            "role": lambda one: one.role,
            "created": lambda one: one.created_at,
            "disabled": lambda one: one.disabled_at,
        }
        out.table(
            room.list_accounts(ws),
            columns,
            empty="No accounts yet. Add one: everloop access add NAME --role ROLE",
        )


@access.command()
@click.argument("name")
@click.option("--role", required=True, help="viewer, client, annotator, reviewer, engineer or owner.")
@pass_output
def add(out: Output, name: str, role: str) -> None:
    """Add an account with a role.

    \b
    Example: everloop access add alice --role reviewer
    """
    from everloop import access as room

    with out.workspace() as ws:
        account = room.add_account(ws, name, role=role)
        out.answer(account, f"Added {name} as {role}. Make a token: everloop access token {name}")


@access.command()
@click.argument("name")
@pass_output
def token(out: Output, name: str) -> None:
    """Make a token for an account; it is shown this once.

    \b
    Example: everloop access token alice
    """
    from everloop import access as room

    with out.workspace() as ws:
        token_id, secret = room.create_token(ws, name)
        out.say(f"Token {token_id} of {name}. It is not kept: note it now.")
        out.answer({"id": token_id, "token": secret}, secret)


@access.command()
@click.argument("name")
@click.option("--revoke", is_flag=True, help="Make the account's password worthless.")
@pass_output
def password(out: Output, name: str, *, revoke: bool) -> None:
    """Give an account a password, or another one: asked for, or read as one line from stdin.

    \b
    Example: everloop access password alice
    """
    from everloop import access as room

    with out.workspace() as ws:
        if revoke:
            room.revoke_password(ws, name)
            out.answer({"revoked": name}, f"The password of {name} is worthless now.")
        else:
            room.set_password(ws, name, _password())
            out.answer({"set": name}, f"{name} has a password now. The one before it is worthless.")


def _password() -> str:
    if sys.stdin.isatty():
        given: str = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        return given
    return sys.stdin.readline().rstrip("\r\n")


@access.command()
@click.argument("token_id")
@pass_output
def revoke(out: Output, token_id: str) -> None:
    """Make a token worthless.

    \b
    Example: everloop access revoke tok_0198...
    """
    from everloop import access as room

    with out.workspace() as ws:
        room.revoke_token(ws, token_id)
        out.answer({"revoked": token_id}, f"Revoked {token_id}.")


@access.command()
@click.argument("name")
@pass_output
def disable(out: Output, name: str) -> None:
    """Disable an account: neither its tokens nor its password are accepted any more.

    \b
    Example: everloop access disable alice
    """
    from everloop import access as room

    with out.workspace() as ws:
        room.disable_account(ws, name)
        out.answer({"disabled": name}, f"Disabled {name}.")

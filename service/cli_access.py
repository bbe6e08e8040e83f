"""`hindsight users` and `hindsight tokens`: who may use the API."""

from datetime import datetime
from typing import Annotated

import typer

from service import access_commands
from service.cli_output import AsJson, instant, print_rows, run_command
from service.usecases.access import DEFAULT_ORGANISATION, Scope

users_app = typer.Typer(help="The users of the API.", no_args_is_help=True)
tokens_app = typer.Typer(help="Their tokens.", no_args_is_help=True)


@users_app.command("create")
def users_create(
    username: Annotated[str, typer.Argument(metavar="USERNAME", help="Unique name.")],
    full_name: Annotated[str | None, typer.Option(help="As others read it; else the username.")] = None,
    organisation: Annotated[
        str, typer.Option(help="Whose deployments the user sees; those made by events are in the default one.")
    ] = DEFAULT_ORGANISATION,
) -> None:
    """Add a user."""
    user = run_command(
        lambda settings: access_commands.create_user(
            settings.postgres, username, full_name=full_name, organisation=organisation
        )
    )
    typer.echo(f"user {user.username} created, ID {user.id}, organisation {user.organisation}")


@users_app.command("list")
def users_list(as_json: AsJson = False) -> None:
    """Every user."""
    found = run_command(lambda settings: access_commands.list_users(settings.postgres))
    print_rows(found, ("id", "username", "fullName", "organisation", "createdAt"), as_json=as_json)


@tokens_app.command("create")
def tokens_create(
    user: Annotated[str, typer.Option(metavar="USERNAME", help="Whom the token acts for.")],
    scope: Annotated[
        Scope, typer.Option(help="read: ask; write: also send and change; admin: also delete deployments.")
    ],
    deployment: Annotated[
        list[str] | None,
        typer.Option(metavar="DEPLOYMENT", help="Open only this deployment; may be given more than once."),
    ] = None,
    expires: Annotated[
        datetime | None,
        typer.Option(parser=instant, metavar="INSTANT", help="Valid until then, such as 2027-01-01T00:00Z."),
    ] = None,
) -> None:
    """Make a token. It is printed once, alone on the last line, and kept nowhere."""
    made = run_command(
        lambda settings: access_commands.create_token(
            settings.postgres, user, scope=scope, deployments=deployment or None, expires_at=expires
        )
    )
    typer.echo(f"token {made.id} of {user}, scope {scope}:")
    typer.echo(made.token)


@tokens_app.command("list")
def tokens_list(
    user: Annotated[str | None, typer.Option(metavar="USERNAME", help="Only those of this user.")] = None,
    as_json: AsJson = False,
) -> None:
    """Every token, as far as it is known: its ID, never itself."""
    found = run_command(lambda settings: access_commands.list_tokens(settings.postgres, user))
    columns = ("id", "user", "organisation", "scope", "deployments", "createdAt", "expiresAt", "revokedAt")
    print_rows(found, columns, as_json=as_json)


@tokens_app.command("revoke")
def tokens_revoke(token: Annotated[str, typer.Argument(metavar="ID", help="ID of the token, not itself.")]) -> None:
    """Let a token open nothing from here on."""
    run_command(lambda settings: access_commands.revoke_token(settings.postgres, token))
    typer.echo(f"token {token} is revoked")

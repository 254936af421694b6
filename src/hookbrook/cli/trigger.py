"""`hookbrook trigger`: a sample webhook, signed as its provider signs, to a source or to any URL.

The verb and its flags; what it does is in `triggering`, imported when it is done.
"""

from pathlib import Path
from typing import Annotated

import typer

from hookbrook.cli.connection import Key, Url, connect, fail


def trigger(
    provider: Annotated[str | None, typer.Argument(help="Whose webhook, such as `stripe`.")] = None,
    type: Annotated[str | None, typer.Argument(help="What kind of event, such as `invoice.paid`.")] = None,
    list_: Annotated[bool, typer.Option("--list", "-l", help="Show what samples there are.")] = False,
    source: Annotated[
        str | None, typer.Option("--source", help="To this source; without it, to the one of that provider.")
    ] = None,
    to: Annotated[str | None, typer.Option("--to", help="To this URL instead of a source.")] = None,
    secret: Annotated[
        str | None,
        typer.Option(
            "--secret",
            "-s",
            envvar="HOOKBROOK_SOURCE_SECRET",
            help="Sign by this; without it the server signs by the source's own secret (needs an admin key).",
        ),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Change the body: `data.object.amount_paid=7`; repeatable.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", exists=True, dir_okay=False, readable=True, help="A body of your own, JSON."),
    ] = None,
    edit: Annotated[bool, typer.Option("--edit", "-e", help="Change headers and body in $EDITOR first.")] = False,
    sign_url: Annotated[str | None, typer.Option("--sign-url", help="The URL that is signed, if not --to's.")] = None,
    url: Url = None,
    key: Key = None,
) -> None:
    """Send a sample webhook, signed as its provider signs.

    `hookbrook trigger stripe invoice.paid`
    """
    from hookbrook.cli import triggering

    if list_ or provider is None:
        triggering.show_samples(provider)
        return
    if to is not None and source is not None:
        fail("give either --to or --source")
    outgoing = triggering.prepared(provider, type, changes=set_ or [], file=file, edit=edit)
    if outgoing is None:
        return
    if to is not None:
        answered = triggering.send(outgoing, to, provider=provider, secret=secret, sign_url=sign_url)
    else:
        with connect(url, key) as brook:
            answered = triggering.send_to_source(brook, outgoing, provider, source=source, secret=secret)
    if not answered:
        raise typer.Exit(1)

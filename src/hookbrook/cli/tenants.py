"""`hookbrook tenants`: whose events are kept here."""

from typing import Annotated

import typer

from hookbrook.cli.connection import AsJson, Key, Url, connect, path
from hookbrook.cli.jobs import Wait, report

app = typer.Typer(name="tenants", help="Whose events are kept here.", no_args_is_help=True)


@app.callback()
def _only_verbs() -> None:
    """Without this, an app of one command would have no verb."""


@app.command()
def erase(
    tenant: Annotated[str, typer.Argument(help="The tenant's name.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    wait: Wait = False,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Erase a tenant: its events, deliveries, endpoints, sources and keys, for good."""
    if not yes:
        typer.confirm(f"Erase all that is {tenant}'s, for good?", abort=True)
    with connect(url, key) as brook:
        report(brook, brook.request("DELETE", path("tenants", tenant)), wait=wait, as_json=as_json)

"""`hookbrook connections`: who is listening, how far behind they are, and sending them away."""

from typing import Annotated

import typer

from hookbrook.cli.connection import AsJson, Key, Limit, Tenant, Url, connect, fail, path, show, show_table, take

app = typer.Typer(name="connections", help="Who is listening.", no_args_is_help=True)

COLUMNS = ("id", "subject", "address", "channels", "state", "lag_events", "lag_s", "since")


@app.command("list")
def list_connections(
    subject: Annotated[str | None, typer.Option("--subject", help="Of one key's id or token's sub.")] = None,
    channel: Annotated[str | None, typer.Option("--channel", help="Who reads this channel.")] = None,
    limit: Limit = 50,
    tenant: Tenant = None,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """The open streams, the oldest first."""
    wanted = {"subject": subject, "channel": channel, "tenant": tenant}
    with connect(url, key) as brook:
        parameters = {name: value for name, value in wanted.items() if value}
        rows = take(brook.pages("/v1/connections", parameters), limit)
    if as_json:
        show(rows)
    else:
        show_table(rows, COLUMNS, empty="Nobody is listening.")


@app.command()
def end(
    connection_id: Annotated[str | None, typer.Argument(help="The connection's id.")] = None,
    subject: Annotated[str | None, typer.Option("--subject", help="All of one key's id or token's sub.")] = None,
    tenant: Tenant = None,
    url: Url = None,
    key: Key = None,
) -> None:
    """End a stream, or all of a subject. Their clients may come back, as long as their keys and tokens hold."""
    if (connection_id is None) == (subject is None):
        fail("Name either a connection or a --subject.")
    parameters = {"tenant": tenant} if tenant else {}
    with connect(url, key) as brook:
        if connection_id is not None:
            brook.request("DELETE", path("connections", connection_id), params=parameters)
            print(f"{connection_id} is ended.")
        else:
            found = brook.request("DELETE", "/v1/connections", params={**parameters, "subject": str(subject)})
            print(f"{found['ended']} streams of {subject} are ended.")

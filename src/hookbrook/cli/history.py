"""`hookbrook events`: what is in the log, and what became of it."""

from typing import Annotated

import typer

from hookbrook.cli.connection import AsJson, Key, Limit, Tenant, Url, connect, path, show, show_table, take

app = typer.Typer(name="events", help="What is in the log, and what became of it.", no_args_is_help=True)

COLUMNS = ("id", "time", "channels", "type", "source", "cursor")
WHY_COLUMNS = ("endpoint_id", "url", "owed", "reason", "why")
Id = Annotated[str, typer.Argument(help="The event's id.")]


@app.command("list")
def list_events(
    channel: Annotated[list[str] | None, typer.Option("--channel", "-c", help="Channels or patterns.")] = None,
    type: Annotated[list[str] | None, typer.Option("--type", "-t", help="Types or patterns.")] = None,
    since: Annotated[str | None, typer.Option("--since", help="Since a time, or `2h` ago.")] = None,
    deliveries: Annotated[
        str | None,
        typer.Option("--deliveries", help="none (owed to nobody), undelivered, or a delivery's status."),
    ] = None,
    limit: Limit = 50,
    tenant: Tenant = None,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Events, in the order of the log.

    `hookbrook events list --since 1d --deliveries none`
    """
    wanted = {"channel": channel, "type": type, "since": since, "deliveries": deliveries, "tenant": tenant}
    with connect(url, key) as brook:
        rows = take(brook.pages("/v1/events", {name: value for name, value in wanted.items() if value}), limit)
    if as_json:
        show(rows)
    else:
        show_table(rows, COLUMNS, empty="There is no such event.")


@app.command("show")
def show_event(event_id: Id, tenant: Tenant = None, url: Url = None, key: Key = None) -> None:
    """One event, as JSON, with the request that brought it."""
    with connect(url, key) as brook:
        show(brook.request("GET", path("events", event_id), params={"tenant": tenant}))


@app.command()
def explain(
    event_id: Id,
    limit: Limit = 100,
    tenant: Tenant = None,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Why an event went to each endpoint, or did not, and what became of it."""
    with connect(url, key) as brook:
        rows = take(brook.pages(path("events", event_id, "explain"), {"tenant": tenant} if tenant else None), limit)
    if as_json:
        show(rows)
    else:
        show_table(rows, WHY_COLUMNS, empty="There is no endpoint to which it could have gone.")


@app.command()
def erase(event_id: Id, tenant: Tenant = None, url: Url = None, key: Key = None) -> None:
    """Erase what an event said, for good; that it happened stays known."""
    with connect(url, key) as brook:
        brook.request("DELETE", path("events", event_id, "data"), params={"tenant": tenant})
    print(f"What {event_id} said is erased.")

"""`hookbrook deliveries`: what was sent, what was answered, and what is still owed."""

from typing import Annotated

import typer

from hookbrook.cli.connection import AsJson, Key, Limit, Tenant, Url, connect, path, show, show_table, take

app = typer.Typer(name="deliveries", help="What was sent, and what is still owed.", no_args_is_help=True)

COLUMNS = ("id", "event_id", "event_type", "endpoint_id", "status", "attempts", "next_attempt_at", "last_status")
Id = Annotated[str, typer.Argument(help="The delivery's id.")]


@app.command("list")
def list_deliveries(
    status: Annotated[
        list[str] | None,
        typer.Option("--status", help="pending, succeeded, failed, cancelled, held, or undelivered. May be repeated."),
    ] = None,
    endpoint: Annotated[str | None, typer.Option("--endpoint", help="Of one endpoint.")] = None,
    event: Annotated[str | None, typer.Option("--event", help="Of one event.")] = None,
    since: Annotated[str | None, typer.Option("--since", help="Created since a time, or `2h` ago.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="Created before a time, or `2h` ago.")] = None,
    limit: Limit = 50,
    tenant: Tenant = None,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Deliveries, the newest first."""
    wanted: dict[str, object] = {"status": status, "endpoint_id": endpoint, "event_id": event, "tenant": tenant}
    wanted |= {"since": since, "until": until}
    with connect(url, key) as brook:
        parameters = {name: value for name, value in wanted.items() if value}
        rows = take(brook.pages("/v1/deliveries", parameters), limit)
    if as_json:
        show(rows)
    else:
        show_table(rows, COLUMNS, empty="There is no such delivery.")


@app.command("show")
def show_delivery(delivery_id: Id, url: Url = None, key: Key = None) -> None:
    """One delivery with all its attempts, as JSON."""
    with connect(url, key) as brook:
        show(brook.request("GET", path("deliveries", delivery_id)))


@app.command()
def resend(delivery_id: Id, url: Url = None, key: Key = None) -> None:
    """Send it now, whatever became of it; replaces a scheduled attempt."""
    with connect(url, key) as brook:
        brook.request("POST", path("deliveries", delivery_id, "resend"))
    print(f"{delivery_id} is sent now: hookbrook deliveries show {delivery_id}")


@app.command()
def cancel(delivery_id: Id, url: Url = None, key: Key = None) -> None:
    """Do not send it any more."""
    with connect(url, key) as brook:
        brook.request("POST", path("deliveries", delivery_id, "cancel"))
    print(f"{delivery_id} is cancelled.")

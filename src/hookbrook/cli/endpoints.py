"""`hookbrook endpoints`: where webhooks are sent."""

import json
from typing import Annotated, Any

import typer

from hookbrook.cli.connection import AsJson, Key, Limit, Tenant, Url, connect, fail, path, show, show_table, take
from hookbrook.cli.jobs import replay

app = typer.Typer(name="endpoints", help="Where webhooks are sent.", no_args_is_help=True)

COLUMNS = ("id", "url", "types", "channels", "enabled", "description")
Id = Annotated[str, typer.Argument(help="The endpoint's id.")]


@app.command("list")
def list_endpoints(
    limit: Limit = 100, tenant: Tenant = None, as_json: AsJson = False, url: Url = None, key: Key = None
) -> None:
    """All endpoints."""
    with connect(url, key) as brook:
        rows = take(brook.pages("/v1/endpoints", {"tenant": tenant} if tenant else None), limit)
    if as_json:
        show(rows)
    else:
        show_table(rows, COLUMNS, empty="There is no endpoint yet: hookbrook endpoints add --help")


@app.command()
def add(
    target: Annotated[str, typer.Argument(metavar="URL", help="Where to send to.")],
    type: Annotated[list[str] | None, typer.Option("--type", "-t", help="Type patterns; none means all.")] = None,
    channel: Annotated[list[str] | None, typer.Option("--channel", "-c", help="Channel patterns.")] = None,
    secret: Annotated[str | None, typer.Option("--secret", help="`whsec_…`; made if absent.")] = None,
    signature: Annotated[
        list[str] | None, typer.Option("--signature", help="What signs: `v1` (the secret), `v1a` (Ed25519), or both.")
    ] = None,
    svix_headers: Annotated[bool, typer.Option("--svix-headers", help="Send `svix-*` beside `webhook-*`.")] = False,
    header: Annotated[list[str] | None, typer.Option("--header", "-H", help="`Name: value`, sent along.")] = None,
    secret_header: Annotated[
        list[str] | None, typer.Option("--secret-header", help="As `--header`, and its value is shown to nobody.")
    ] = None,
    basic: Annotated[str | None, typer.Option("--basic", help="`USER:PASSWORD`, for HTTP basic.")] = None,
    bearer: Annotated[str | None, typer.Option("--bearer", help="A bearer token.")] = None,
    filter: Annotated[
        str | None, typer.Option("--filter", help="JMESPath over the event; only those for which it is true.")
    ] = None,
    transform: Annotated[
        str | None, typer.Option("--transform", help="JMESPath over the event; its result is the body.")
    ] = None,
    format: Annotated[
        str | None, typer.Option("--format", help="The body: `data`, `event`, `cloudevent` or `cloudevent-binary`.")
    ] = None,
    ordering: Annotated[
        str | None, typer.Option("--ordering", help="`channel` or `all`: each waits for the one before it.")
    ] = None,
    retry: Annotated[
        str | None, typer.Option("--retry", help="Seconds between attempts, such as `5,300,1800`; `none` tries once.")
    ] = None,
    concurrency: Annotated[int | None, typer.Option("--concurrency", help="Requests in flight at once.")] = None,
    rate_limit: Annotated[float | None, typer.Option("--rate-limit", help="Requests a second.")] = None,
    timeout_s: Annotated[float | None, typer.Option("--timeout", help="Seconds for one attempt.")] = None,
    connect_timeout_s: Annotated[
        float | None, typer.Option("--connect-timeout", help="Of these, seconds until there is a connection.")
    ] = None,
    max_body_bytes: Annotated[
        int | None, typer.Option("--max-body-bytes", help="Deliveries with a larger body fail.")
    ] = None,
    description: Annotated[str, typer.Option("--description")] = "",
    tenant: Tenant = None,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Add an endpoint.

    `hookbrook endpoints add https://example.com/webhooks --type 'invoice.*'`
    """
    wanted: dict[str, Any] = {
        "url": target,
        "types": type or [],
        "channels": channel or [],
        "headers": dict(_header(text) for text in header or []),
        "secret_headers": dict(_header(text) for text in secret_header or []),
        "description": description,
    }
    optional = {
        "secret": secret,
        "auth": _auth(basic, bearer),
        "filter": filter,
        "transform": transform,
        "format": format,
        "ordering": ordering,
        "signatures": signature,
        "svix_headers": svix_headers or None,
        "retry": None if retry is None else _delays(retry),
        "concurrency": concurrency,
        "rate_limit": rate_limit,
        "timeout_s": timeout_s,
        "connect_timeout_s": connect_timeout_s,
        "max_body_bytes": max_body_bytes,
        "tenant": tenant,
    }

    wanted |= {name: value for name, value in optional.items() if value is not None}
    with connect(url, key) as brook:
        made = brook.request("POST", "/v1/endpoints", json=wanted)
    if as_json:
        show(made)
    else:
        print(f"{made['id']} is sent to from now on. Its secret: hookbrook endpoints secret {made['id']}")


def _delays(text: str) -> list[float]:
    try:
        return [] if text == "none" else [float(delay) for delay in text.split(",")]
    except ValueError:
        fail(f"--retry is written 5,300,1800 (seconds) or none, not {text!r}")


def _auth(basic: str | None, bearer: str | None) -> dict[str, str] | None:
    if basic is not None and bearer is not None:
        fail("give either --basic or --bearer, not both")
    if bearer is not None:
        return {"type": "bearer", "token": bearer}
    if basic is None:
        return None
    username, colon, password = basic.partition(":")
    if not colon:
        fail("--basic is written USER:PASSWORD")
    return {"type": "basic", "username": username, "password": password}


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        fail(f"a header is written `Name: value`, not {name!r}")
    return name.strip(), value.strip()


@app.command("show")
def show_endpoint(endpoint_id: Id, url: Url = None, key: Key = None) -> None:
    """One endpoint, as JSON."""
    with connect(url, key) as brook:
        show(brook.request("GET", path("endpoints", endpoint_id)))


@app.command()
def secret(endpoint_id: Id, url: Url = None, key: Key = None) -> None:
    """The secret that the receiver verifies with."""
    with connect(url, key) as brook:
        for text in brook.request("GET", path("endpoints", endpoint_id, "secret"))["secrets"]:
            print(text)


@app.command("test")
def try_endpoint(
    endpoint_id: Id,
    data: Annotated[str | None, typer.Argument(help="The event's data, as JSON.")] = None,
    type: Annotated[str | None, typer.Option("--type", "-t", help="The event's type.")] = None,
    url: Url = None,
    key: Key = None,
) -> None:
    """Send it an event of your own making, whatever it asks for."""
    wanted: dict[str, Any] = {} if type is None else {"type": type}
    if data is not None:
        try:
            wanted["data"] = json.loads(data)
        except ValueError:
            fail("the data is no JSON")
    with connect(url, key) as brook:
        made = brook.request("POST", path("endpoints", endpoint_id, "test"), json=wanted)
    print(f"{made['id']} is under way: hookbrook deliveries show {made['id']}")


@app.command()
def enable(endpoint_id: Id, url: Url = None, key: Key = None) -> None:
    """Send again, beginning with what was held."""
    _set_enabled(endpoint_id, True, url, key)
    print(f"{endpoint_id} is enabled; what was held is sent now.")


@app.command()
def disable(endpoint_id: Id, url: Url = None, key: Key = None) -> None:
    """Hold what is due until it is enabled again."""
    _set_enabled(endpoint_id, False, url, key)
    print(f"{endpoint_id} is disabled; what is due is held.")


def _set_enabled(endpoint_id: str, enabled: bool, url: str | None, key: str | None) -> None:
    with connect(url, key) as brook:
        brook.request("PATCH", path("endpoints", endpoint_id), json={"enabled": enabled})


@app.command()
def delete(endpoint_id: Id, url: Url = None, key: Key = None) -> None:
    """Delete an endpoint; what it is owed is cancelled."""
    with connect(url, key) as brook:
        brook.request("DELETE", path("endpoints", endpoint_id))
    print(f"{endpoint_id} is deleted; what it was owed is cancelled.")


app.command()(replay)
